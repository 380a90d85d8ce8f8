# SPDX-License-Identifier: Apache-2.0
"""Custom jobs on machines that are already there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_vertex_persistent.exceptions import CapacityError
from airflow_vertex_persistent.links import PersistentResourcesLink
from airflow_vertex_persistent.names import persistent_resource_name
from airflow_vertex_persistent.operators.training_job import TrainingOperator
from airflow_vertex_persistent.operators.waiting import NoMachinesError
from airflow_vertex_persistent.operators.warm_machines import (
    ON_DEMAND,
    BusyPolicy,
    capacity_error,
    is_busy,
    on_demand_job,
    warm_job,
)
from airflow_vertex_persistent.result import training_result
from airflow_vertex_persistent.specs.checks import check_persistent_resource_id
from airflow_vertex_persistent.specs.custom_job import JOB_FIELDS, WARM_FIELDS, custom_job
from airflow_vertex_persistent.specs.scheduling import check_warm_machines

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from airflow_vertex_persistent.exceptions import VertexTrainingError
    from airflow_vertex_persistent.hooks.persistent_resource import PersistentResourceHook
    from airflow_vertex_persistent.names import ResourceName
    from airflow_vertex_persistent.operators.base import Duration
    from airflow_vertex_persistent.operators.execution import Execution
    from airflow_vertex_persistent.operators.warm_machines import WhenBusy
    from airflow_vertex_persistent.specs.checks import Problems
    from airflow_vertex_persistent.specs.custom_job import JobRequest
    from airflow_vertex_persistent.states import JobSnapshot


class PersistentResourceCustomJobOperator(TrainingOperator):
    """
    Run a custom job on the warm machines of a persistent resource.

    Vertex AI runs the container on machines of the resource whose type and disk equal the worker pool's; a worker
    pool that leaves them out gets those of the resource's pool. That it fits, and that the resource runs, is checked
    before the job is created. The task ends when the job has ended: with a small result, or with a typed error that
    holds the service's own text. Killing, clearing or marking the task cancels the job and leaves the resource
    alone. A retry takes over the job of the attempts before it.

    .. seealso:: :doc:`/operators/custom_job`

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
        :class:`~airflow_vertex_persistent.operators.training_parameters.TrainingParameters` and
        :class:`~airflow_vertex_persistent.operators.base.VertexOperator`.
    :return: ``job``, ``kind``, ``state``, ``region``, ``persistent_resource_id``, ``strategy``,
        ``candidate``, ``fallback``, ``create_time``, ``start_time``, ``end_time``, ``queued_seconds``,
        ``running_seconds``, ``output_dir``, ``model_dir``, ``console_url``; each is also an XCom of its own,
        as ``train.output["model_dir"]``.
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
        persistent_resource_id: str,
        resource_pool: str | None = None,
        when_busy: WhenBusy = "queue",
        max_wait_duration: Duration | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.persistent_resource_id: str | None = persistent_resource_id
        self.resource_pool = resource_pool
        self.when_busy = when_busy
        self.max_wait_duration = max_wait_duration
        self._resource_hook: PersistentResourceHook | None = None
        self._busy = False

    def job_requests(self, config: Any, default_display_name: str, problems: Problems) -> list[JobRequest]:
        """Return the one custom job that is asked for."""
        if self.persistent_resource_id is None:
            # A template may have rendered to nothing; without the id the job would run on demand, and cost.
            check_persistent_resource_id(None, problems)
        wanted = {field: getattr(self, field) for field in (*JOB_FIELDS, *WARM_FIELDS)}
        wanted["config"] = config
        request = custom_job(wanted, problems, default_display_name=default_display_name)
        check_warm_machines(request.job["job_spec"], problems)
        return [request]

    def wait_policy(self, problems: Problems) -> BusyPolicy:
        """Return what to do while other jobs have the machines."""
        return BusyPolicy.read(self.when_busy, self.max_wait_duration, problems)

    def fitting_job(self, request: JobRequest, execution: Execution) -> dict[str, Any]:
        """Return the job to create, as it fits the persistent resource, or machines on demand."""
        hook, name = self._resource(request, execution)
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
        hook, name = self._resource(request, execution)
        if is_busy(error, request, hook, name, before=self._busy):
            raise NoMachinesError(capacity_error(f"Vertex AI refused the custom job: {error}")) from error

    def job_error(self, job: JobSnapshot, details: Mapping[str, Any]) -> VertexTrainingError:
        """Return the error of a job that has ended without success; on a busy resource, what helps there."""
        error = super().job_error(job, details)
        if type(error) is CapacityError and job["persistent_resource_id"]:
            return capacity_error(str(error).rpartition("\nNext step: ")[0])
        return error

    def result(self, job: JobSnapshot, execution: Execution | None) -> dict[str, Any]:
        """Return what the task hands to the tasks after it."""
        return training_result(job, fallback=None if job["persistent_resource_id"] else ON_DEMAND)

    def _resource(
        self, request: JobRequest, execution: Execution
    ) -> tuple[PersistentResourceHook, ResourceName]:
        from airflow_vertex_persistent.hooks.persistent_resource import PersistentResourceHook

        if self._resource_hook is None:
            self._resource_hook = PersistentResourceHook(self.gcp_conn_id, self.impersonation_chain)
        resource_id = request.job["job_spec"]["persistent_resource_id"]
        name = persistent_resource_name(execution.project_id, execution.region, resource_id)
        return self._resource_hook, name
