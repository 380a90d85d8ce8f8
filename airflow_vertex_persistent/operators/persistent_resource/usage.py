# SPDX-License-Identifier: Apache-2.0
"""Who uses a persistent resource."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from airflow_vertex_persistent.operators.persistent_resource.base import Wait
from airflow_vertex_persistent.states import (
    NOT_ENDED_FILTER,
    ResourcePhase,
    ResourceSnapshot,
    machines_in_use,
    resource_phase,
)
from airflow_vertex_persistent.triggers.watch import outage_pause

if TYPE_CHECKING:
    from airflow_vertex_persistent.hooks.training_job import TrainingJobHook
    from airflow_vertex_persistent.names import ResourceName

_MOST_SHOWN = 5


def users_of(hook: TrainingJobHook, name: ResourceName, snapshot: ResourceSnapshot) -> str:
    """
    Return who uses a persistent resource, for the log and for errors; empty if nobody does.

    Users are the custom jobs that run on it or wait for its machines. Of all other jobs, such as those of a
    hyperparameter tuning, only the machines show, and only while the resource runs.
    """
    listed = hook.list_custom_jobs(name.project, name.region, NOT_ENDED_FILTER)
    jobs = [job.name for job in listed if job.job_spec.persistent_resource_id == name.id]
    if jobs:
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
