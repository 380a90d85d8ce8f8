# SPDX-License-Identifier: Apache-2.0
"""Training jobs on machines that are already there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_vertex_persistent.links import PersistentResourcesLink
from airflow_vertex_persistent.operators.training.base import TrainingOperator
from airflow_vertex_persistent.operators.training.warm_machines import WarmMachines, wait_limit

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow_vertex_persistent.operators.base import Duration
    from airflow_vertex_persistent.operators.training.machines import Machines
    from airflow_vertex_persistent.operators.training.warm_machines import WhenBusy
    from airflow_vertex_persistent.specs.checks import Problems


class ResourceTrainingOperator(TrainingOperator):
    """
    Base of the training operators whose jobs run on the warm machines of a persistent resource.

    That a job fits, and that the resource runs, is checked before the job is created.

    :param persistent_resource_id: Id of the resource, in the same project and region. (templated)
    :param resource_pool: Id of the resource's pool to run on, with ``container_uri``; a worker pool of
        ``worker_pool_specs`` or ``config`` has a key of that name. (templated)
    :param when_busy: What to do while other jobs have the machines. ``"queue"``: wait for them. ``"fail"``: end with
        ``CapacityError``, which is worth a retry. ``"on_demand"``: run the same job on other machines, outside of the
        resource, which costs extra; the log, the label ``airflow_fallback`` and the result say so, and it holds for
        all retries of a durable task until it is cleared. Default: ``"queue"``. (templated)
    :param max_wait_duration: For how long jobs of the task may wait for machines, retries included: seconds,
        ``timedelta`` or text like ``"3600s"``; 0: for ever. Then the job is cancelled, and the task ends with
        ``MaxWaitExceededError`` (``"queue"``) or does what ``when_busy`` says. A job that is created later has up to
        five minutes to start. Default: for ever with ``"queue"``, else five minutes, for a job that found the
        machines free and lost them to another. (templated)
    :param kwargs: The work and everything else, see
        :class:`~airflow_vertex_persistent.operators.training.parameters.TrainingParameters` and
        :class:`~airflow_vertex_persistent.operators.base.WaitingOperator`.
    """

    operator_extra_links = (*TrainingOperator.operator_extra_links, PersistentResourcesLink())
    template_fields: Sequence[str] = (
        "persistent_resource_id",
        "resource_pool",
        "when_busy",
        "max_wait_duration",
        *TrainingOperator.template_fields,
    )

    def __init__(
        self,
        *,
        persistent_resource_id: str | None,
        resource_pool: str | None = None,
        when_busy: WhenBusy = "queue",
        max_wait_duration: Duration | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.persistent_resource_id = persistent_resource_id
        self.resource_pool = resource_pool
        self.when_busy = when_busy
        self.max_wait_duration = max_wait_duration

    def machines(self, problems: Problems) -> Machines:
        """Return the machines of the resource, with what to do while other jobs have them."""
        return WarmMachines(
            when_busy=self.when_busy,
            limit=wait_limit(self.when_busy, self.max_wait_duration, problems),
            hook=lambda: self.resource_hook,
            kind=self.kind,
            log=self.log,
        )
