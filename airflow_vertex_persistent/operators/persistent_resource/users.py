# SPDX-License-Identifier: Apache-2.0
"""Asks Airflow and Vertex AI who uses a persistent resource."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from airflow.sdk.exceptions import AirflowRuntimeError

from airflow_vertex_persistent.exceptions import PersistentResourceError
from airflow_vertex_persistent.names import (
    DAG_LABEL,
    INSTALLATION_LABEL,
    RUN_LABEL,
    ResourceName,
    label_value,
)
from airflow_vertex_persistent.operators.execution import installation
from airflow_vertex_persistent.operators.persistent_resource.base import Wait
from airflow_vertex_persistent.operators.persistent_resource.usage import (
    ActiveJob,
    Hold,
    Usage,
    holds,
    missing_tasks,
)
from airflow_vertex_persistent.states import (
    NOT_ENDED_FILTER,
    JobPhase,
    ResourcePhase,
    ResourceSnapshot,
    job_phase,
    machines_in_use,
    resource_phase,
)
from airflow_vertex_persistent.triggers.task_state import active_runs, has_active_run, task_states
from airflow_vertex_persistent.triggers.watch import outage_pause

if TYPE_CHECKING:
    from collections.abc import Sequence

    from google.cloud.aiplatform_v1.types import CustomJob

    from airflow_vertex_persistent.hooks.training_job import TrainingJobHook
    from airflow_vertex_persistent.specs.sharing import Span


_MOST_SHOWN = 5


def jobs_on(hook: TrainingJobHook, name: ResourceName) -> list[CustomJob]:
    """Return the custom jobs on a resource that have not ended; the API's filter does not know of it."""
    listed = hook.list_custom_jobs(name.project, name.region, NOT_ENDED_FILTER)
    return [job for job in listed if job.job_spec.persistent_resource_id == name.id]


def users_of(hook: TrainingJobHook, name: ResourceName, snapshot: ResourceSnapshot) -> str:
    """
    Return who uses a persistent resource, for the log and for errors; empty if nobody does.

    Users are the custom jobs that run on it or wait for its machines. Of all other jobs, such as those of a
    hyperparameter tuning, only the machines show, and only while the resource runs.
    """
    if jobs := [job.name for job in jobs_on(hook, name)]:
        more = f" and {len(jobs) - _MOST_SHOWN} more" if len(jobs) > _MOST_SHOWN else ""
        return ", ".join(sorted(jobs)[:_MOST_SHOWN]) + more
    machines = _machines_in_use(snapshot)
    return f"a job of another kind on {machines} machines" if machines else ""


def until_unused(reason: str, snapshot: ResourceSnapshot, poll_interval: float) -> Wait:
    """
    Return how to wait for the end of those who use a persistent resource.

    Jobs that only wait for machines cannot be seen by looking at the resource.
    """
    until: Literal["unused"] | None = "unused" if _machines_in_use(snapshot) else None
    return Wait(reason, until, seconds=outage_pause(poll_interval, 0))


def _machines_in_use(snapshot: ResourceSnapshot) -> int:
    """Return how many machines are in use; those of a resource that does not run are not."""
    ready = resource_phase(snapshot["state"]) is ResourcePhase.READY
    return machines_in_use(snapshot) if ready else 0


@dataclass(frozen=True)
class Users:
    """
    Those who may use a persistent resource besides one teardown's own run.

    :param name: The resource.
    :param spans: Between which tasks a run uses it, the DAG of the teardown included.
    :param ti: The teardown's task instance.
    :param jobs: Where to ask for jobs.
    """

    name: ResourceName
    spans: Sequence[Span]
    ti: Any
    jobs: TrainingJobHook

    def active_jobs(self) -> list[ActiveJob]:
        """Return the custom jobs on the resource that have not ended."""
        return [self._active(job) for job in jobs_on(self.jobs, self.name)]

    def _active(self, job: CustomJob) -> ActiveJob:
        labels = job.labels
        own = {
            DAG_LABEL: label_value(self.ti.dag_id),
            RUN_LABEL: label_value(self.ti.run_id),
            INSTALLATION_LABEL: installation(),
        }
        whose = (
            f"run {labels[RUN_LABEL]} of DAG {labels[DAG_LABEL]}" if RUN_LABEL in labels else job.display_name
        )
        return ActiveJob(
            text=f"job {ResourceName.parse(job.name).id} ({whose})",
            own=all(labels.get(key) == value for key, value in own.items()),
            cancelling=job_phase(job.state.name) is JobPhase.CANCELLING,
        )

    def of_runs(self) -> Usage:
        """
        Ask Airflow.

        :raises PersistentResourceError: It did not answer, or knows no such DAG or task.
        """
        from airflow.sdk.api.client import ServerResponseError  # where no process is in between: dag.test()

        found: list[Hold] = []
        for span in self.spans:
            try:
                found += self._holds(span)
            except (AirflowRuntimeError, ServerResponseError) as error:
                raise PersistentResourceError(
                    f"Airflow did not say which runs of DAG {span.dag_id} use {self.name}: {error}\n"
                    "Next step: if there is no such DAG, correct shared_with; else a retry asks again."
                ) from error
        used_by = {str(hold): None for hold in found if hold.decided}
        undecided = {
            f"{hold}, whose {hold.setup} is {hold.state}": None for hold in found if not hold.decided
        }
        return Usage(tuple(used_by), tuple(undecided))

    def _holds(self, span: Span) -> list[Hold]:
        runs = task_states(span.dag_id, [*span.setups, span.teardown])
        if span.dag_id == self.ti.dag_id and span.teardown == self.ti.task_id:
            runs.pop(self.ti.run_id, None)
        elif (missing := missing_tasks(span, runs)) and has_active_run(span.dag_id):
            raise PersistentResourceError(
                f"No run of DAG {span.dag_id} has a task {' or '.join(missing)}: that does not say whether one uses "
                f"{self.name}\nNext step: correct shared_with; a task in a task group has the group's id and a dot "
                "before its own."
            )
        found = list(holds(span, runs))
        active = active_runs(span.dag_id, sorted({hold.run_id for hold in found}))
        return [hold for hold in found if hold.run_id in active and self._may_be_here(hold)]

    def _may_be_here(self, hold: Hold) -> bool:
        """Tell whether a run's setup is about this resource: others may have rendered to another region or id."""
        if not hold.decided:
            return True
        result = self.ti.xcom_pull(hold.setup, hold.dag_id, run_id=hold.run_id, map_indexes=hold.map_index)
        try:
            return ResourceName.parse(result["persistent_resource"]).identity == self.name.identity
        except (KeyError, TypeError, ValueError):
            return True  # it is not one of our operators that has set it up
