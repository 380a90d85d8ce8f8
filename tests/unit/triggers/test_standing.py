# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

from itertools import permutations
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_vertex_persistent.states import job_phase
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
# Cancelled with the winner, before it had lost its machines again, or long after that.
BESIDE, LONG_AFTER = job(15, "CANCELLED", 3, end=5), job(16, "CANCELLED", 3, end=59)
FIRST, WAITED_ON = job(17, "CANCELLED", 1, end=5), job(18, "CANCELLED", None, end=59)
LATER, LOST_AT_ONCE = job(19, "CANCELLED", 5, end=6), job(20, "FAILED", 2, STOCKOUT, end=3)
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
        ([WON, job(21, "RUNNING", 1)], WON, [job(21, "RUNNING", 1)], False),
        ([WON, job(22, "SUCCEEDED", 2), job(23, "FAILED", 1, FAILURE)], job(22, "SUCCEEDED", 2), [], True),
        ([LOST_AGAIN, CANCELLED], None, [], True),
        ([LOST_AGAIN, BESIDE], None, [], True),
        ([LOST_AGAIN, BESIDE, WAITS], None, [], False),
        ([LOST_AGAIN, LONG_AFTER], LONG_AFTER, [], True),
        ([LOST_AGAIN, WAITED_ON], WAITED_ON, [], True),
        ([LOST_AGAIN, FIRST], FIRST, [], True),
        ([LOST_AT_ONCE, LATER], LATER, [], True),
        ([NONE_THERE, BESIDE], BESIDE, [], True),
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


# State, whether it has had machines, and why it ended.
KINDS = [
    ("PENDING", False, ""),
    ("QUEUED", False, ""),
    ("RUNNING", True, ""),
    ("CANCELLING", False, ""),
    ("CANCELLING", True, ""),
    ("CANCELLED", False, ""),
    ("CANCELLED", True, ""),
    ("SUCCEEDED", True, ""),
    ("FAILED", False, FAILURE),
    ("FAILED", True, FAILURE),
    ("FAILED", False, STOCKOUT),
    ("FAILED", True, STOCKOUT),
    ("EXPIRED", False, STOCKOUT),
    ("EXPIRED", True, FAILURE),
    ("FAILED", False, QUOTA),
    ("FAILED", True, QUOTA),
]


@st.composite
def races(draw: st.DrawFn) -> list[tuple[JobSnapshot, tuple[str, bool, str]]]:
    """Return the jobs of any race at any moment, each with its kind."""
    chosen = draw(st.lists(st.sampled_from(KINDS), min_size=1, max_size=5))
    numbers = draw(st.permutations(range(len(chosen))))
    return [
        (
            job(
                number,
                kind[0],
                draw(st.integers(0, 3)) if kind[1] else None,
                kind[2],
                draw(st.integers(4, 59)),
            ),
            kind,
        )
        for number, kind in zip(numbers, chosen, strict=True)
    ]


@given(races(), st.booleans())
def test_never_two_winners_and_never_none(
    race: list[tuple[JobSnapshot, tuple[str, bool, str]]], next_on_quota: bool
) -> None:
    """
    One that has succeeded leads, or else the first of those that have their machines; the others have lost, and
    while nobody leads nobody has.
    """
    lacks = {STOCKOUT, QUOTA} if next_on_quota else {STOCKOUT}
    done = [one for one, (state, _, _) in race if state == "SUCCEEDED"]
    started = [
        one
        for one, (state, had_machines, error) in race
        if had_machines and not state.startswith("CANCEL") and error not in lacks
    ]
    stopped = [
        one for one, (state, _, error) in race if (state in {"FAILED", "EXPIRED"}) and error not in lacks
    ]
    moving = [one for one, (state, _, _) in race if state in {"PENDING", "QUEUED", "RUNNING", "CANCELLING"}]
    now = standing([one for one, _ in race], next_on_quota=next_on_quota)
    if ahead := done or started:
        assert now.leader == min(ahead, key=lambda one: (one["start_time"], one["job"]))
    elif stopped:
        assert now.leader is not None
    if now.leader is None:
        assert not now.losers
        assert now.over is (not moving)
        return
    assert now.leader["state"] != "JOB_STATE_CANCELLING"
    may_stop = [one for one in moving if one != now.leader and one["state"] != "JOB_STATE_CANCELLING"]
    assert list(now.losers) == may_stop
    assert now.over is (now.leader not in moving and not may_stop)
