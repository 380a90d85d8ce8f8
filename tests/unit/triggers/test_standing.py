# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

from itertools import permutations
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_vertex_persistent.states import JobPhase, job_phase
from airflow_vertex_persistent.triggers.standing import lacks_machines, standing

if TYPE_CHECKING:
    from airflow_vertex_persistent.states import JobSnapshot

CREATED = "2026-11-22T01:00:00+00:00"
STOCKOUT = "Resources are insufficient in region: R. Try a different region or use a different accelerator."
QUOTA = "The following quota metrics exceed quota limits: aiplatform.googleapis.com/some_gpus"
FAILURE = "The replica workerpool0-0 exited with a non-zero status of 1."


def at(minute: int) -> str:
    """Return a moment of the race."""
    return f"2026-11-22T01:{minute:02}:00+00:00"


def job(number: int, state: str, start: int | None = None, error: str = "", end: int = 50) -> JobSnapshot:
    """Return one job of a race."""
    snapshot: Any = {
        "job": f"projects/1/locations/r{number}/customJobs/{number}",
        "state": f"JOB_STATE_{state}",
        "persistent_resource_id": None,
        "strategy": "FLEX_START",
        "output_dir": None,
        "max_run_seconds": None,
        "max_wait_seconds": 0.0,
        "create_time": CREATED,
        "start_time": None if start is None else at(start),
        "end_time": at(end) if job_phase(f"JOB_STATE_{state}").ended else None,
        "error_code": 0,
        "error_message": error,
    }
    result: JobSnapshot = snapshot
    return result


WAITS, QUEUED = job(1, "PENDING"), job(2, "QUEUED")
RUNS, RAN_EARLIER = job(3, "RUNNING", 10), job(4, "RUNNING", 5)
WON, FAILED = job(5, "SUCCEEDED", 3), job(6, "FAILED", 3, FAILURE)
NONE_THERE, LOST_AGAIN = job(7, "FAILED", None, STOCKOUT), job(8, "FAILED", 2, STOCKOUT)
CANCELLING, CANCELLED = job(9, "CANCELLING"), job(10, "CANCELLED")
CANCELLED_RUNNING = job(11, "CANCELLING", 1)
STOPPED_RUNNING = job(14, "CANCELLED", 4)
WRONG_IMAGE = job(12, "FAILED", None, "Image not found.")


@pytest.mark.parametrize(
    ("jobs", "leader", "losers", "over"),
    [
        ([WAITS, QUEUED], None, [], False),
        ([WAITS, RUNS], RUNS, [WAITS], False),
        ([RUNS, RAN_EARLIER], RAN_EARLIER, [RUNS], False),
        ([RUNS, CANCELLING], RUNS, [], False),
        ([RUNS, CANCELLED_RUNNING], RUNS, [], False),
        ([WON, WAITS], WON, [WAITS], False),
        ([WON, CANCELLED], WON, [], True),
        ([WON, CANCELLING], WON, [], True),
        ([FAILED, CANCELLED], FAILED, [], True),
        ([NONE_THERE, WAITS], None, [], False),
        ([NONE_THERE, RUNS], RUNS, [], False),
        ([NONE_THERE, job(13, "EXPIRED", None, STOCKOUT)], None, [], True),
        ([LOST_AGAIN, CANCELLED], None, [], True),
        ([LOST_AGAIN, CANCELLING], None, [], False),
        ([LOST_AGAIN, WAITS], None, [], False),
        ([LOST_AGAIN, RUNS], RUNS, [], False),
        ([WRONG_IMAGE, WAITS], WRONG_IMAGE, [WAITS], False),
        ([WRONG_IMAGE, RUNS], RUNS, [], False),
        ([CANCELLED, WAITS], CANCELLED, [WAITS], False),
        ([CANCELLED, NONE_THERE], CANCELLED, [], True),
        ([STOPPED_RUNNING, CANCELLED], STOPPED_RUNNING, [], True),
        ([STOPPED_RUNNING, RUNS], RUNS, [], False),
    ],
)
def test_what_states_say(
    jobs: list[JobSnapshot], leader: JobSnapshot | None, losers: list[JobSnapshot], *, over: bool
) -> None:
    """Who leads, who has lost and whether it is over does not depend on the order of the jobs."""
    for order in permutations(jobs):
        now = standing(order, next_on_quota=False)
        assert (now.leader, list(now.losers), now.over) == (leader, losers, over)


def test_whether_a_quota_is_a_lack_of_machines() -> None:
    """That is for the user to say."""
    no_quota = job(1, "FAILED", None, QUOTA)
    assert not lacks_machines(no_quota, next_on_quota=False)
    assert lacks_machines(no_quota, next_on_quota=True)


@st.composite
def races(draw: st.DrawFn) -> list[JobSnapshot]:
    """Return the jobs of any race at any moment."""
    kinds = [
        ("PENDING", False, ""),
        ("RUNNING", True, ""),
        ("CANCELLING", True, ""),
        ("CANCELLED", False, ""),
        ("SUCCEEDED", True, ""),
        ("FAILED", True, FAILURE),
        ("FAILED", False, STOCKOUT),
        ("FAILED", True, STOCKOUT),
    ]
    chosen = draw(st.lists(st.sampled_from(kinds), min_size=2, max_size=5))
    return [
        job(number, state, draw(st.integers(0, 40)) if started else None, error)
        for number, (state, started, error) in enumerate(chosen)
    ]


@given(races())
def test_never_two_winners_and_never_none(jobs: list[JobSnapshot]) -> None:
    """While jobs go on nobody gives up, and when it is over nobody goes on who has not won."""
    now = standing(jobs, next_on_quota=False)
    assert now.leader not in now.losers
    going_on = [
        one
        for one in jobs
        if job_phase(one["state"]) in {JobPhase.WAITING, JobPhase.RUNNING} and one is not now.leader
    ]
    if now.leader is not None:
        assert list(now.losers) == going_on
    if now.over:
        assert going_on == []
    assert now.over or going_on or any(not job_phase(one["state"]).ended for one in jobs) or now.losers
