# SPDX-License-Identifier: Apache-2.0
"""Training jobs on machines that are already there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_vertex_persistent.exceptions import CapacityError
from airflow_vertex_persistent.links import PersistentResourcesLink
from airflow_vertex_persistent.names import persistent_resource_name
from airflow_vertex_persistent.operators.training.base import TrainingOperator
from airflow_vertex_persistent.operators.training.wait_policy import NoMachinesError
from airflow_vertex_persistent.operators.training.warm_machines import (
    ON_DEMAND,
    BusyPolicy,
    capacity_error,
    is_busy,
    on_demand_job,
    warm_job,
)
from airflow_vertex_persistent.result import training_result

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from airflow_vertex_persistent.exceptions import VertexTrainingError
    from airflow_vertex_persistent.names import ResourceName
    from airflow_vertex_persistent.operators.base import Duration
    from airflow_vertex_persistent.operators.training.execution import Execution
    from airflow_vertex_persistent.operators.training.wait_policy import WaitPolicy
    from airflow_vertex_persistent.operators.training.warm_machines import WhenBusy
    from airflow_vertex_persistent.specs.checks import Problems
    from airflow_vertex_persistent.specs.custom_job import JobRequest
    from airflow_vertex_persistent.states import JobSnapshot


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
        self._busy = False

    def wait_policy(self, problems: Problems) -> WaitPolicy:
        """Return what to do while other jobs have the machines."""
        return BusyPolicy.read(self.when_busy, self.max_wait_duration, problems)

    def fitting_job(self, request: JobRequest, execution: Execution) -> dict[str, Any]:
        """Return the job to create, as it fits the persistent resource, or machines on demand."""
        hook, name = self.resource_hook, self._resource(request, execution)
        if execution.fallback and self.when_busy == ON_DEMAND:
            return on_demand_job(request, hook, name)
        job, missing = warm_job(request, hook, name)
        self._busy = bool(missing)
        if missing and self.when_busy != "queue":
            raise NoMachinesError(capacity_error(f"{name} is busy: {'; '.join(missing)}"))
        if missing:
            self.log.info("%s is busy, the job will have to wait: %s", name, "; ".join(missing))
        return job

    def check_refusal(self, error: Exception, request: JobRequest, execution: Execution) -> None:
        """Raise that the persistent resource is busy, if that is what the refusal of a create means."""
        fallback = execution.fallback and self.when_busy == ON_DEMAND
        if fallback:
            return
        hook, name = self.resource_hook, self._resource(request, execution)
        if is_busy(error, request, hook, name, before=self._busy):
            raise NoMachinesError(capacity_error(f"Vertex AI refused the {self.subject}: {error}")) from error

    def job_error(self, job: JobSnapshot, details: Mapping[str, Any]) -> VertexTrainingError:
        """Return the error of a job that has ended without success; on a busy resource, what helps there."""
        error = super().job_error(job, details)
        if type(error) is CapacityError and job["persistent_resource_id"]:
            return capacity_error(str(error).rpartition("\nNext step: ")[0])
        return error

    def result(self, job: JobSnapshot, execution: Execution | None) -> dict[str, Any]:
        """Return what the task hands to the tasks after it."""
        return training_result(job, fallback=None if job["persistent_resource_id"] else ON_DEMAND)

    @staticmethod
    def _resource(request: JobRequest, execution: Execution) -> ResourceName:
        resource_id = request.job["job_spec"]["persistent_resource_id"]
        return persistent_resource_name(execution.project_id, execution.region, resource_id)
