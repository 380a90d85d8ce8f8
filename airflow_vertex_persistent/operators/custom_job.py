# SPDX-License-Identifier: Apache-2.0
"""Custom jobs on machines that are already there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_vertex_persistent.operators.training_job import TrainingOperator
from airflow_vertex_persistent.specs.checks import check_persistent_resource_id
from airflow_vertex_persistent.specs.custom_job import JOB_FIELDS, custom_job

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow_vertex_persistent.specs.checks import Problems


class PersistentResourceCustomJobOperator(TrainingOperator):
    """
    Run a custom job on the warm machines of a persistent resource.

    Vertex AI runs the container on machines of the resource whose type and disk equal the worker pool's, and
    the task ends when the job has ended: with a small result, or with a typed error that holds the service's
    own text. Killing, clearing or marking the task cancels the job and leaves the resource alone. A retry takes
    over the job of the attempts before it.

    .. seealso:: :doc:`/operators/custom_job`

    :param persistent_resource_id: Id of the resource, in the same project and region. (templated)
    :param resource_pool: Id of the resource's pool to run on, with ``container_uri``; a worker pool of
        ``worker_pool_specs`` or ``config`` has a key of that name. (templated)
    :param kwargs: The work and everything else, see
        :class:`~airflow_vertex_persistent.operators.training_parameters.TrainingParameters` and
        :class:`~airflow_vertex_persistent.operators.base.VertexOperator`.
    :return: ``job``, ``kind``, ``state``, ``region``, ``persistent_resource_id``, ``strategy``,
        ``candidate``, ``create_time``, ``start_time``, ``end_time``, ``queued_seconds``, ``running_seconds``,
        ``output_dir``, ``model_dir``, ``console_url``; each is also an XCom of its own, as
        ``train.output["model_dir"]``.
    """

    template_fields: Sequence[str] = (
        "persistent_resource_id",
        "resource_pool",
        *TrainingOperator.template_fields,
    )

    def __init__(
        self, *, persistent_resource_id: str, resource_pool: str | None = None, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.persistent_resource_id: str | None = persistent_resource_id
        self.resource_pool = resource_pool

    def job_request(self, config: Any, default_display_name: str, problems: Problems) -> dict[str, Any]:
        """Return the ``CustomJob`` to create."""
        if self.persistent_resource_id is None:
            # A template may have rendered to nothing; without the id the job would run on demand, and cost.
            check_persistent_resource_id(None, problems)
        wanted = {field: getattr(self, field) for field in JOB_FIELDS}
        wanted["config"] = config
        return custom_job(wanted, problems, default_display_name=default_display_name).job
