# SPDX-License-Identifier: Apache-2.0
"""
Asks Vertex AI who uses a persistent resource: jobs on it, and machines in use.

What a teardown makes of that is said in ``usage``; which runs use it without a job, Airflow says in ``runs``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from airflow_vertex_persistent.call_problems import CallProblem, call_problem
from airflow_vertex_persistent.names import (
    CUSTOM_JOBS,
    DAG_LABEL,
    INSTALLATION_LABEL,
    RUN_LABEL,
    TUNING_JOBS,
    ResourceName,
    label_value,
)
from airflow_vertex_persistent.operators.labels import installation
from airflow_vertex_persistent.operators.persistent_resource.base import Wait
from airflow_vertex_persistent.operators.persistent_resource.usage import ActiveJob
from airflow_vertex_persistent.operators.training.listing import snapshot_of
from airflow_vertex_persistent.states import NOT_ENDED_FILTER, JobPhase, job_phase, machines_in_use
from airflow_vertex_persistent.triggers.watch import backoff_seconds

if TYPE_CHECKING:
    from airflow_vertex_persistent.hooks.job_kinds import TrainingJob
    from airflow_vertex_persistent.hooks.training_job import TrainingJobHook
    from airflow_vertex_persistent.names import Identity
    from airflow_vertex_persistent.states import ResourceSnapshot

_MOST_SHOWN = 5


def jobs_on(hook: TrainingJobHook, name: ResourceName) -> list[TrainingJob]:
    """
    Return the jobs on a resource that have not ended; the API's filter does not know of it.

    The custom jobs that are trials of a tuning job are not counted: it goes for all of them.
    """
    tuning, custom = (
        [
            job
            for job in hook.list_jobs(name.project, name.region, kind, NOT_ENDED_FILTER)
            if snapshot_of(job)["persistent_resource_id"] == name.id
        ]
        for kind in (TUNING_JOBS, CUSTOM_JOBS)
    )
    trials = {trial for job in tuning for trial in _trial_jobs(hook, job)}
    return [*tuning, *(job for job in custom if ResourceName.parse(job.name).identity not in trials)]


def _trial_jobs(hook: TrainingJobHook, tuning: TrainingJob) -> list[Identity]:
    """Return the custom jobs of a tuning job, none of one that is not there any more."""
    try:
        job: Any = hook.get_job(ResourceName.parse(tuning.name))
    except Exception as error:
        if call_problem(error) is not CallProblem.MISSING:
            raise
        return []
    return [ResourceName.parse(trial.custom_job).identity for trial in job.trials if trial.custom_job]


def who_uses(hook: TrainingJobHook, name: ResourceName, snapshot: ResourceSnapshot) -> str:
    """
    Return who uses a persistent resource, for the log and for errors; empty if nobody does.

    Users are the custom jobs and tuning jobs that run on it or wait for its machines. Of all other jobs only the
    machines show.
    """
    if jobs := [job.name for job in jobs_on(hook, name)]:
        more = f" and {len(jobs) - _MOST_SHOWN} more" if len(jobs) > _MOST_SHOWN else ""
        return ", ".join(sorted(jobs)[:_MOST_SHOWN]) + more
    machines = machines_in_use(snapshot)
    return f"a job of another kind on {machines} machines" if machines else ""


def until_unused(reason: str, snapshot: ResourceSnapshot, poll_interval: float) -> Wait:
    """
    Return how to wait for the end of those who use a persistent resource.

    Jobs that only wait for machines cannot be seen by looking at the resource.
    """
    until: Literal["unused"] | None = "unused" if machines_in_use(snapshot) else None
    return Wait(reason, until, seconds=backoff_seconds(poll_interval, 0))


def active_jobs(hook: TrainingJobHook, name: ResourceName, ti: Any) -> list[ActiveJob]:
    """
    Return what a teardown wants to know of the jobs on a resource that have not ended.

    :param ti: Its task instance.
    """
    return [_active_job(job, ti) for job in jobs_on(hook, name)]


def _active_job(job: TrainingJob, ti: Any) -> ActiveJob:
    labels = job.labels
    own = {
        DAG_LABEL: label_value(ti.dag_id),
        RUN_LABEL: label_value(ti.run_id),
        INSTALLATION_LABEL: installation(),
    }
    whose = f"run {labels[RUN_LABEL]} of DAG {labels[DAG_LABEL]}" if RUN_LABEL in labels else job.display_name
    return ActiveJob(
        text=f"job {ResourceName.parse(job.name).id} ({whose})",
        own=all(labels.get(key) == value for key, value in own.items()),
        cancelling=job_phase(snapshot_of(job)["state"]) is JobPhase.CANCELLING,
    )
