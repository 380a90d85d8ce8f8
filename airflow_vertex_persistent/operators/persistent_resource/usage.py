# SPDX-License-Identifier: Apache-2.0
"""
What a teardown does about those who use its persistent resource. Asks nobody: ``jobs`` and ``runs`` do.

A run uses it from the end of its setup to the start of its teardown, with or without a job: of all teardowns, the one
that starts last finds all others started, and deletes.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

from airflow.sdk import TaskInstanceState

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from airflow_vertex_persistent.specs.sharing import Span

    States = Mapping[str, str | None]

# How long the count of used machines may lag behind the end of a job.
COUNT_LAG_SECONDS = 120.0

# States that are not in these sets, of a newer Airflow perhaps, let the resource be.
_SETUP_UNDONE = {
    None,
    TaskInstanceState.SCHEDULED,
    TaskInstanceState.FAILED,
    TaskInstanceState.UPSTREAM_FAILED,
    TaskInstanceState.SKIPPED,
    TaskInstanceState.REMOVED,
}
_TEARDOWN_STARTED = {
    TaskInstanceState.RUNNING,
    TaskInstanceState.DEFERRED,
    TaskInstanceState.AWAITING_INPUT,
    TaskInstanceState.RESTARTING,
    TaskInstanceState.UP_FOR_RETRY,
    TaskInstanceState.UP_FOR_RESCHEDULE,
    TaskInstanceState.SUCCESS,
    TaskInstanceState.FAILED,
    TaskInstanceState.UPSTREAM_FAILED,
    TaskInstanceState.SKIPPED,
}
_NOT_MAPPED = -1


class Next(Enum):
    """What a teardown does next."""

    DELETE = "delete"
    LEAVE = "leave"
    WAIT = "wait"


@dataclass(frozen=True)
class Usage:
    """
    Who uses a resource, in short texts.

    :param used_by: Runs, jobs and machines that are somebody else's.
    :param undecided: What will be decided by itself: worth another look.
    """

    used_by: tuple[str, ...] = ()
    undecided: tuple[str, ...] = ()

    def __add__(self, other: Usage) -> Usage:
        return Usage(self.used_by + other.used_by, self.undecided + other.undecided)

    def next(self, when_in_use: str) -> Next:
        """Return what to do, as the user wants it for a resource that is in use."""
        if self.used_by and when_in_use == "leave":
            return Next.LEAVE
        return Next.WAIT if self.used_by or self.undecided else Next.DELETE


@dataclass(frozen=True)
class Hold:
    """
    A setup of a run that is not undone yet, and whose teardown has not started.

    :param map_index: Of the setup, -1 if it is not mapped.
    :param state: Of the setup.
    """

    dag_id: str
    run_id: str
    setup: str
    map_index: int
    state: str | None

    @property
    def decided(self) -> bool:
        """Whether the setup has succeeded."""
        return self.state == TaskInstanceState.SUCCESS

    def __str__(self) -> str:
        return f"run {self.run_id} of DAG {self.dag_id}"


def holds(span: Span, runs: Mapping[str, States]) -> Iterator[Hold]:
    """
    Yield what the states of a DAG's tasks say of its runs, those included that have ended.

    :param runs: States by run and name of the span's tasks; a mapped one is ``create_0``.
    """
    for run_id, states in runs.items():
        teardowns = _instances(span.teardown, span, states)
        for setup in span.setups:
            for map_index, state in _instances(setup, span, states).items():
                if state not in _SETUP_UNDONE and not _started(map_index, teardowns):
                    yield Hold(span.dag_id, run_id, setup, map_index, state)


def missing_tasks(span: Span, runs: Mapping[str, States]) -> list[str]:
    """Return the span's tasks that no run has."""
    return [
        task
        for task in (*span.setups, span.teardown)
        if not any(_instances(task, span, states) for states in runs.values())
    ]


def _instances(task_id: str, span: Span, states: States) -> dict[int, str | None]:
    """Return the states of a task's instances by map index."""
    found = {}
    for name, state in states.items():
        if name == task_id:
            found[_NOT_MAPPED] = state
            continue
        index = name.removeprefix(f"{task_id}_")
        if index != name and index.isdecimal() and name not in {*span.setups, span.teardown}:
            found[int(index)] = state
    return found


def _started(map_index: int, teardowns: Mapping[int, str | None]) -> bool:
    """Tell whether a setup's teardown has started: its like, if both are mapped, else all that there are."""
    states = [teardowns[map_index]] if map_index in teardowns else list(teardowns.values())
    return bool(states) and all(state in _TEARDOWN_STARTED for state in states)


@dataclass(frozen=True)
class ActiveJob:
    """
    A job on the resource that has not ended.

    :param text: What to call it.
    :param own: It is one of the run that this teardown belongs to.
    :param cancelling: It is about to end.
    """

    text: str
    own: bool
    cancelling: bool


def machine_usage(jobs: Sequence[ActiveJob], used_replicas: int, unexplained_seconds: float) -> Usage:
    """
    Return who uses the machines.

    Jobs of the own run are no reason to keep a resource: they end with it, at the latest.

    :param jobs: All active jobs on the resource.
    :param used_replicas: How many machines the resource says are in use.
    :param unexplained_seconds: For how long it has said so without any job.
    """
    ending = tuple(f"{job.text}, which is being cancelled" for job in jobs if job.cancelling)
    others = tuple(job.text for job in jobs if not job.cancelling and not job.own)
    if jobs or not used_replicas:
        return Usage(others, ending)
    machines = "1 machine" if used_replicas == 1 else f"{used_replicas} machines"
    if unexplained_seconds < COUNT_LAG_SECONDS:
        return Usage(undecided=(f"{machines} in use, by a job that has just ended perhaps",))
    return Usage((f"{machines} in use without a training job",))
