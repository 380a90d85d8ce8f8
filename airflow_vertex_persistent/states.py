# SPDX-License-Identifier: Apache-2.0
"""
What a state of Vertex AI means.

States are the API's own names (``JOB_STATE_RUNNING``), never numbers. A state this table does not know is
one that a newer service has: it keeps being watched.
"""

from __future__ import annotations

from datetime import datetime
from enum import Enum
from typing import TYPE_CHECKING, Any, TypedDict

if TYPE_CHECKING:
    from collections.abc import Mapping


class JobPhase(Enum):
    """Where a job is in its life."""

    WAITING = "waits for machines"
    RUNNING = "runs"
    CANCELLING = "is being cancelled"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "was cancelled"

    @property
    def ended(self) -> bool:
        """Whether the state will not change any more."""
        return self in {JobPhase.SUCCEEDED, JobPhase.FAILED, JobPhase.CANCELLED}


_JOB_PHASES = {
    "JOB_STATE_QUEUED": JobPhase.WAITING,
    "JOB_STATE_PENDING": JobPhase.WAITING,
    "JOB_STATE_RUNNING": JobPhase.RUNNING,
    "JOB_STATE_UPDATING": JobPhase.RUNNING,
    "JOB_STATE_PAUSED": JobPhase.RUNNING,  # not an end: a paused job can be resumed
    "JOB_STATE_CANCELLING": JobPhase.CANCELLING,
    "JOB_STATE_SUCCEEDED": JobPhase.SUCCEEDED,
    "JOB_STATE_FAILED": JobPhase.FAILED,
    "JOB_STATE_EXPIRED": JobPhase.FAILED,
    "JOB_STATE_PARTIALLY_SUCCEEDED": JobPhase.FAILED,  # results are missing: nobody should promote them
    "JOB_STATE_CANCELLED": JobPhase.CANCELLED,
}


NOT_ENDED_FILTER = " AND ".join(f'state!="{state}"' for state, phase in _JOB_PHASES.items() if phase.ended)
"""The jobs that have not ended, those in a state of a newer service included, in the grammar of list filters."""


def job_phase(state: str) -> JobPhase:
    """Return the phase of a job in ``state``, ``RUNNING`` for a state that is not known."""
    return _JOB_PHASES.get(state, JobPhase.RUNNING)


class ResourcePhase(Enum):
    """Where a persistent resource is in its life."""

    MOVING = "is on its way"
    READY = "is ready"
    LEAVING = "is being deleted"
    LOST = "is lost"


REBOOTING = "REBOOTING"

_RESOURCE_PHASES = {
    "PROVISIONING": ResourcePhase.MOVING,
    REBOOTING: ResourcePhase.MOVING,
    "UPDATING": ResourcePhase.MOVING,
    "RUNNING": ResourcePhase.READY,
    "STOPPING": ResourcePhase.LEAVING,
    "ERROR": ResourcePhase.LOST,
}


def resource_phase(state: str) -> ResourcePhase:
    """Return the phase of a persistent resource in ``state``, ``MOVING`` for a state that is not known."""
    return _RESOURCE_PHASES.get(state, ResourcePhase.MOVING)


class JobSnapshot(TypedDict):
    """
    What one look at a job says: small, JSON, free of what the job was given (arguments, environment).

    It is what hooks read, triggers put into their event, and operators turn into a result or an error.
    Times are RFC 3339 in UTC.
    """

    job: str
    state: str
    persistent_resource_id: str | None
    strategy: str | None
    output_dir: str | None
    max_run_seconds: float | None
    max_wait_seconds: float | None
    create_time: str | None
    start_time: str | None
    end_time: str | None
    error_code: int
    error_message: str


FLEX_START, SPOT, STANDARD = "FLEX_START", "SPOT", "STANDARD"
"""How a job gets machines of its own, as ``Scheduling.strategy`` says it."""
DEFAULT_MAX_WAIT_SECONDS = 24 * 3600.0
"""How long a Flex Start job waits that does not say, by ``Scheduling.max_wait_duration``."""
# Longer times are told in minutes and more.
_SECONDS_UP_TO = 120.0


def max_wait_seconds(snapshot: JobSnapshot) -> float | None:
    """Return for how long the service lets a job wait; 0: for ever, ``None``: it is not one that queues."""
    if snapshot["strategy"] != FLEX_START:
        return None
    limit = snapshot.get("max_wait_seconds")  # the event of an older version has none
    return DEFAULT_MAX_WAIT_SECONDS if limit is None else limit


def limit_text(snapshot: JobSnapshot) -> str:
    """Return for how long a job may wait, as the end of a sentence that says how long it has."""
    limit = max_wait_seconds(snapshot)
    if limit is None:
        return ""
    return f" of at most {duration_text(limit)}" if limit else ", may queue for ever"


def duration_text(seconds: float) -> str:
    """Return a time for people to read: ``45 s``, ``26 min``, ``2 h 5 min``, ``1 d 3 h``."""
    if seconds < _SECONDS_UP_TO:
        return f"{seconds:.0f} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    days, hours = divmod(hours, 24)
    parts = [f"{count} {unit}" for count, unit in ((days, "d"), (hours, "h"), (minutes, "min")) if count]
    return " ".join(parts[:2])


def has_started(snapshot: Mapping[str, Any]) -> bool:
    """Tell whether a job has had its machines."""
    return snapshot["start_time"] is not None or job_phase(snapshot["state"]) is JobPhase.RUNNING


def queued_seconds(snapshot: JobSnapshot) -> float | None:
    """Return for how long a job waited for its machines, ``None`` if it never got them."""
    return seconds_between(snapshot["create_time"], snapshot["start_time"])


def running_seconds(snapshot: JobSnapshot) -> float | None:
    """Return for how long a job ran, ``None`` if it has not ended or never ran."""
    return seconds_between(snapshot["start_time"], snapshot["end_time"])


def seconds_between(start: str | None, end: str | None) -> float | None:
    """Return the seconds between two times in RFC 3339, ``None`` if there is only one."""
    if start is None or end is None:
        return None
    return (datetime.fromisoformat(end) - datetime.fromisoformat(start)).total_seconds()


class PoolSnapshot(TypedDict):
    """
    A pool of a persistent resource. What does not apply is ``None``.

    Free are the machines that no job uses, those included by which an autoscaled pool may still grow.
    """

    id: str
    machine_type: str
    accelerator_type: str | None
    accelerator_count: int
    disk_type: str | None
    disk_size_gb: int
    replica_count: int
    min_replica_count: int | None
    max_replica_count: int | None
    used_replica_count: int
    free_replica_count: int


class ResourceSnapshot(TypedDict):
    """What one look at a persistent resource says. Times are RFC 3339 in UTC."""

    persistent_resource: str
    state: str
    create_time: str | None
    start_time: str | None
    error_code: int
    error_message: str
    labels: dict[str, str]
    pools: list[PoolSnapshot]


def machines_in_use(snapshot: ResourceSnapshot) -> int:
    """
    Return how many machines of a persistent resource jobs run on, none of one that is lost: its count is of
    the past.
    """
    if resource_phase(snapshot["state"]) is ResourcePhase.LOST:
        return 0
    return sum(pool["used_replica_count"] for pool in snapshot["pools"])


def free_machines(snapshot: ResourceSnapshot, resource_pool: str | None) -> int:
    """
    Return how many machines a job can have of one pool now, 0 if there is no such pool.

    :param resource_pool: Id of the pool; ``None``: the one that has most.
    """
    return max((pool["free_replica_count"] for pool in _pools(snapshot, resource_pool)), default=0)


def most_machines(snapshot: ResourceSnapshot, resource_pool: str | None) -> int:
    """
    Return how many machines a job could ever have of one pool, 0 if there is no such pool.

    :param resource_pool: Id of the pool; ``None``: the one that can have most.
    """
    pools = _pools(snapshot, resource_pool)
    return max((pool["max_replica_count"] or pool["replica_count"] for pool in pools), default=0)


def _pools(snapshot: ResourceSnapshot, resource_pool: str | None) -> list[PoolSnapshot]:
    return [pool for pool in snapshot["pools"] if resource_pool in {None, pool["id"]}]
