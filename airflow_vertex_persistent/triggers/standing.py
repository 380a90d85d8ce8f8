# SPDX-License-Identifier: Apache-2.0
"""Who has won a race for machines, told by the states of its jobs alone: whoever looks decides the same."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from airflow_vertex_persistent.endings import is_lack_of_machines, job_error
from airflow_vertex_persistent.states import JobPhase, has_started, job_phase, seconds_between

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow_vertex_persistent.states import JobSnapshot

# Nobody cancels for a winner any more that has lost its machines; what was cancelled before has ended so soon after.
_CANCEL_SECONDS = 300.0
# After every time.
_LATEST = "9999"


@dataclass(frozen=True)
class Standing:
    """
    What the states of a race's jobs say.

    :param leader: The job whose end is the race's: the one that has its machines, or one whose end stops the others.
        ``None``: there is none yet, or, once it is over, none that got machines.
    :param losers: Jobs that need not go on.
    :param over: There is nothing more to wait for.
    """

    leader: JobSnapshot | None
    losers: tuple[JobSnapshot, ...]
    over: bool


def lacks_machines(job: JobSnapshot, *, next_on_quota: bool) -> bool:
    """
    Tell whether a job has ended for lack of machines, so that others may take its place.

    :param next_on_quota: Whether a quota that is used up counts as such.
    """
    if job_phase(job["state"]) is JobPhase.SUCCEEDED or not job_phase(job["state"]).ended:
        return False
    return is_lack_of_machines(job_error(job), next_on_quota=next_on_quota)


def standing(jobs: Sequence[JobSnapshot], *, next_on_quota: bool) -> Standing:
    """
    Return what the states of a race's jobs say.

    A job that has succeeded leads: the work is done. Otherwise the first to start does, among those that were not
    cancelled and have not lost their machines again; of two that started at the same moment, the one with the smaller
    name. Where there is none such, a job that has ended for another reason than a lack of machines stops the others.
    A job that was cancelled does so, too, unless it can have been for one that had won before and lost its machines.

    :param jobs: The newest job of each candidate that is in the race.
    :param next_on_quota: Whether a quota that is used up is a lack of machines.
    """
    lacking = [job for job in jobs if lacks_machines(job, next_on_quota=next_on_quota)]
    moving = [job for job in jobs if not job_phase(job["state"]).ended]
    leader = _first_to_start(jobs, lacking) or _stopper(jobs, lacking)
    if leader is None:
        return Standing(None, (), over=not moving)
    others = [job for job in moving if job is not leader]
    losers = tuple(job for job in others if job_phase(job["state"]) is not JobPhase.CANCELLING)
    return Standing(leader, losers, over=job_phase(leader["state"]).ended and not losers)


def _first_to_start(jobs: Sequence[JobSnapshot], lacking: Sequence[JobSnapshot]) -> JobSnapshot | None:
    gone = {JobPhase.CANCELLING, JobPhase.CANCELLED}
    done = [job for job in jobs if job_phase(job["state"]) is JobPhase.SUCCEEDED]
    started = [
        job for job in jobs if has_started(job) and job_phase(job["state"]) not in gone and job not in lacking
    ]
    return _earliest(done or started)


def _stopper(jobs: Sequence[JobSnapshot], lacking: Sequence[JobSnapshot]) -> JobSnapshot | None:
    lost = [job for job in lacking if has_started(job)]
    stoppers = [
        job
        for job in jobs
        if job not in lacking
        and (
            job_phase(job["state"]) is JobPhase.FAILED
            or (_was_cancelled(job) and not any(_maybe_cancelled_for(one, job) for one in lost))
        )
    ]
    return _earliest(stoppers)


def _was_cancelled(job: JobSnapshot) -> bool:
    return job_phase(job["state"]) is JobPhase.CANCELLED


def _maybe_cancelled_for(lost: JobSnapshot, job: JobSnapshot) -> bool:
    """
    Tell whether a job can have been cancelled because another one, which has lost its machines since, had won.

    Then it had not started before that one, nor after its end, and did not outlive it by much.
    """
    start, first, last = job["start_time"], lost["start_time"] or "", lost["end_time"] or _LATEST
    outlived = seconds_between(lost["end_time"], job["end_time"]) or 0.0
    return (start is None or first <= start <= last) and outlived <= _CANCEL_SECONDS


def _earliest(jobs: Sequence[JobSnapshot]) -> JobSnapshot | None:
    """Return the first to start. The service tells the start of a job that runs; without one it may be any time."""
    return min(jobs, key=lambda job: (job["start_time"] or _LATEST, job["job"]), default=None)
