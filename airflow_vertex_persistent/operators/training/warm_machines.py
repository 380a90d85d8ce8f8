# SPDX-License-Identifier: Apache-2.0
"""The warm machines that a job is for: whether it fits them, and what becomes of it while others have them."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal, get_args

from airflow_vertex_persistent.call_problems import CallProblem, call_problem
from airflow_vertex_persistent.endings import job_error, resource_error
from airflow_vertex_persistent.exceptions import (
    CapacityError,
    MaxWaitExceededError,
    PersistentResourceError,
    VertexTrainingError,
)
from airflow_vertex_persistent.names import FALLBACK_LABEL, NOUNS, persistent_resource_name
from airflow_vertex_persistent.operators.training.machines import NextStep, NoMachinesError, try_again
from airflow_vertex_persistent.specs.checks import Problems, seconds
from airflow_vertex_persistent.specs.pool_matching import fit_to_pools
from airflow_vertex_persistent.states import ResourcePhase, resource_phase, seconds_between
from airflow_vertex_persistent.triggers.watch import backoff_seconds

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from airflow.sdk.types import Logger

    from airflow_vertex_persistent.hooks.persistent_resource import PersistentResourceHook
    from airflow_vertex_persistent.names import ResourceName
    from airflow_vertex_persistent.operators.training.execution import Execution
    from airflow_vertex_persistent.specs.custom_job import JobRequest
    from airflow_vertex_persistent.specs.pool_matching import PoolNeeds
    from airflow_vertex_persistent.states import JobSnapshot

WhenBusy = Literal["queue", "fail", "on_demand"]
ON_DEMAND: WhenBusy = "on_demand"

# A job that found its machines free may need so long to start: its image has to be loaded. Who does not want to queue
# gives a job that was not quick enough no more than that.
_SECONDS_TO_START = 300.0
# The pause between two tries grows with the time that has passed, up to this many seconds.
_GROWTH = 0.1
_LONGEST_PAUSE = 300.0
_NEXT_STEP = (
    "Next step: try again when other jobs have ended, give the resource more machines, let the job wait longer "
    "(when_busy='queue', max_wait_duration), or run it elsewhere (when_busy='on_demand')."
)


@dataclass(kw_only=True)
class WarmMachines:
    """
    The machines of a persistent resource, which other jobs may have. It keeps in mind whether they had.

    :param when_busy: See
        :class:`~airflow_vertex_persistent.operators.training.on_resource.ResourceTrainingOperator`.
    :param limit: Seconds for which jobs may wait; ``None``: for ever.
    :param hook: Returns what asks for the resource, when that is needed.
    :param kind: Collection of the jobs.
    :param log: The task's log.
    """

    when_busy: WhenBusy
    limit: float | None
    hook: Callable[[], PersistentResourceHook]
    kind: str
    log: Logger
    _was_busy: bool = field(default=False, init=False)

    def fitting_job(self, request: JobRequest, execution: Execution) -> dict[str, Any]:
        """Return the job to create, as it fits the persistent resource, or machines on demand."""
        name = _resource_of(request, execution)
        if self._runs_on_demand(execution):
            return self._on_demand_job(request, name)
        job, missing = self._warm_job(request, name)
        self._was_busy = bool(missing)
        if missing and self.when_busy != "queue":
            raise NoMachinesError(capacity_error(f"{name} is busy: {'; '.join(missing)}"))
        if missing:
            self.log.info("%s is busy, the job will have to wait: %s", name, "; ".join(missing))
        return job

    def check_refusal(self, error: Exception, request: JobRequest, execution: Execution) -> None:
        """Raise that the persistent resource is busy, if that is what the refusal of a create means."""
        if self._runs_on_demand(execution):
            return
        if self._is_busy(error, request, _resource_of(request, execution)):
            text = f"Vertex AI refused the {NOUNS[self.kind]}: {error}"
            raise NoMachinesError(capacity_error(text)) from error

    def _warm_job(self, request: JobRequest, name: ResourceName) -> tuple[dict[str, Any], list[str]]:
        """
        Return a job as it fits the resource, and what it is short of there now: nothing, if it could start.

        :raises PersistentResourceError: The resource takes no jobs.
        :raises InvalidRequestError: It can never run this one.
        """
        resource = self._look(name)
        state, error = resource.get("state", ""), resource.get("error", {})
        match resource_phase(state):
            case ResourcePhase.LOST:
                raise resource_error(name, state, error.get("message", ""))
            case ResourcePhase.LEAVING:
                raise PersistentResourceError(
                    f"No job: {name} is being deleted\nNext step: create it again once it is gone."
                )
            case ResourcePhase.MOVING:
                raise PersistentResourceError(
                    f"No job: {name} is {state}, not RUNNING\n"
                    "Next step: wait for it with PersistentResourceSensor, or with retries of this task."
                )
        needs = _fit(request, resource, name)
        return needs.job, needs.short_of(resource)

    def _on_demand_job(self, request: JobRequest, name: ResourceName) -> dict[str, Any]:
        """
        Return a job as it fits the resource, for machines of the same kind outside of it.

        :raises PersistentResourceError: The resource is not there.
        :raises InvalidRequestError: It can never run this job.
        """
        job = _fit(request, self._look(name), name).job
        spec = {field: value for field, value in job["job_spec"].items() if field != "persistent_resource_id"}
        return {**job, "job_spec": spec, "labels": {**job.get("labels", {}), FALLBACK_LABEL: ON_DEMAND}}

    def _look(self, name: ResourceName) -> dict[str, Any]:
        # Imported here: a DAG file that imports an operator must not import Google's client.
        from airflow_vertex_persistent.hooks.persistent_resource import resource_body

        live = self.hook().get(name)
        if live is None:
            raise PersistentResourceError(
                f"No job: {name} does not exist\n"
                f"Next step: create persistent resource {name.id!r} in the same project and region."
            )
        return resource_body(live)

    def _is_busy(self, error: Exception, request: JobRequest, name: ResourceName) -> bool:
        """
        Tell whether a create was refused since other jobs have the machines.

        The service does not document how it says so: where its text leaves it open, the resource tells. It may be
        free again by now.

        :raises PersistentResourceError: It takes no jobs any more.
        """
        match call_problem(error):
            case CallProblem.CAPACITY:
                return True
            case CallProblem.EXHAUSTED | CallProblem.NOT_NOW:
                try:
                    return bool(self._warm_job(request, name)[1]) or self._was_busy
                except Exception as unanswered:
                    if call_problem(unanswered) is None:
                        raise
                    return self._was_busy
        return False

    def _runs_on_demand(self, execution: Execution) -> bool:
        return execution.fallback is not None and self.when_busy == ON_DEMAND

    def fallback(self, job: JobSnapshot) -> str | None:
        """Return that a job runs on demand, if it does not run on the resource."""
        return None if job["persistent_resource_id"] else ON_DEMAND

    def job_error(self, job: JobSnapshot, details: Mapping[str, Any]) -> VertexTrainingError:
        """Return the error of a job that has ended without success; on a busy resource, what helps there."""
        error = job_error(job, details)
        if type(error) is CapacityError and job["persistent_resource_id"]:
            return capacity_error(str(error).rpartition("\nNext step: ")[0])
        return error

    def deadline(self, execution: Execution, job: JobSnapshot) -> str | None:
        """
        Return until when a job may wait.

        The limit counts from the execution's first job on. However late a job comes, it has the time to start.
        """
        if self.limit is None or job["persistent_resource_id"] is None:
            return None
        create_time = job["create_time"]
        created = _now() if create_time is None else datetime.fromisoformat(create_time)
        own = created + timedelta(seconds=min(self.limit, _SECONDS_TO_START))
        return max(self._end(execution, self.limit), own).isoformat()

    def goes_on(self, job: JobSnapshot, error: VertexTrainingError) -> bool:
        """Tell whether a job never got warm machines."""
        waited = job["start_time"] is None and job["persistent_resource_id"] is not None
        return waited and isinstance(error, CapacityError)

    def next_step(
        self, execution: Execution, error: VertexTrainingError, *, interval: float, overdue: bool
    ) -> NextStep:
        """Return what to do without a job on the persistent resource."""
        if self.when_busy == ON_DEMAND and execution.fallback is None:
            return NextStep(replace(execution, fallback=ON_DEMAND), "The same job runs on demand instead")
        if self.when_busy != "queue":
            return NextStep(execution, error=error)
        if self.limit is None:
            return try_again(execution, self._pause(execution, interval))
        left = (self._end(execution, self.limit) - _now()).total_seconds()
        if overdue or left <= 0:
            text = f"No machines after max_wait_duration, {self.limit:g} seconds. {error}"
            return NextStep(execution, error=MaxWaitExceededError(text))
        return try_again(execution, min(self._pause(execution, interval), left))

    def overdue_error(self, job: JobSnapshot) -> CapacityError:
        """Return the error of a job that was cancelled since others have the machines of its resource."""
        waited = seconds_between(job["create_time"], job["end_time"]) or 0.0
        return capacity_error(
            f"{job['job']} has waited for {waited:.0f} seconds for machines of persistent resource "
            f"{job['persistent_resource_id']!r} and was cancelled"
        )

    def _pause(self, execution: Execution, interval: float) -> float:
        waited = (_now() - datetime.fromisoformat(execution.first_submit)).total_seconds()
        return backoff_seconds(max(interval, min(waited * _GROWTH, _LONGEST_PAUSE)), 0)

    @staticmethod
    def _end(execution: Execution, limit: float) -> datetime:
        return datetime.fromisoformat(execution.first_submit) + timedelta(seconds=limit)


def wait_limit(when_busy: Any, max_wait_duration: Any, problems: Problems) -> float | None:
    """Return for how many seconds jobs may wait, ``None``: for ever; ``problems`` hears of what is wrong."""
    if when_busy not in get_args(WhenBusy):
        problems.add("when_busy", when_busy, "write 'queue', 'fail' or 'on_demand'")
    if max_wait_duration is None:
        return None if when_busy == "queue" else _SECONDS_TO_START
    return seconds("max_wait_duration", max_wait_duration, problems, zero=True) or None


def _now() -> datetime:
    return datetime.now(UTC)


def _resource_of(request: JobRequest, execution: Execution) -> ResourceName:
    resource_id = request.job["job_spec"]["persistent_resource_id"]
    return persistent_resource_name(execution.project_id, execution.region, resource_id)


def capacity_error(text: str) -> CapacityError:
    """Return the error of a task whose persistent resource is busy."""
    return CapacityError(f"{text}\n{_NEXT_STEP}")


def _fit(request: JobRequest, resource: Mapping[str, Any], name: ResourceName) -> PoolNeeds:
    problems = Problems(request.subject)
    needs = fit_to_pools(request, resource, problems, project_id=name.project, region=name.region)
    problems.raise_if_any()
    return needs
