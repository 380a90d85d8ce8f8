# SPDX-License-Identifier: Apache-2.0
"""States of jobs and persistent resources: what may follow, and what changes with it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from google.cloud.aiplatform_v1.types import CustomJob, JobState, PersistentResource
from google.rpc.status_pb2 import Status

from airflow_vertex_persistent.emulator.lifecycle import (
    IllegalMoveError,
    Verdict,
    job_created,
    job_explained,
    job_moved,
    resource_created,
    resource_moved,
    verdict,
)

NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
ERROR = Status(code=3, message="no")
State = PersistentResource.State


def running() -> CustomJob:
    """A job that started a minute after its creation."""
    created = job_created(CustomJob(display_name="job"), "name", NOON)
    return job_moved(created, JobState.JOB_STATE_RUNNING, NOON + MINUTE)


def test_a_created_job_forgets_what_only_the_service_says() -> None:
    """Name, state, times and error of the request are not taken over; the rest is."""
    asked = CustomJob(
        name="mine",
        display_name="job",
        state=JobState.JOB_STATE_SUCCEEDED,
        error=ERROR,
        end_time=NOON,
        labels={"a": "b"},
    )
    job = job_created(asked, "theirs", NOON)
    assert [job.name, job.state, job.create_time] == ["theirs", JobState.JOB_STATE_PENDING, NOON]
    assert "error" not in job
    assert "end_time" not in job
    assert dict(job.labels) == {"a": "b"}
    assert asked.name == "mine"


def test_times_follow_the_states() -> None:
    """RUNNING sets start_time, an end sets end_time, every move sets update_time."""
    job = job_moved(running(), JobState.JOB_STATE_SUCCEEDED, NOON + 2 * MINUTE)
    assert [job.create_time, job.start_time, job.end_time] == [NOON, NOON + MINUTE, NOON + 2 * MINUTE]
    assert job.update_time == job.end_time


def test_a_move_leaves_the_old_message_alone() -> None:
    """Whoever holds the message of before still sees the state of before."""
    job = running()
    job_moved(job, JobState.JOB_STATE_FAILED, NOON, ERROR)
    assert job.state == JobState.JOB_STATE_RUNNING


@pytest.mark.parametrize(
    ("state", "kept"),
    [
        (JobState.JOB_STATE_FAILED, True),
        (JobState.JOB_STATE_CANCELLED, True),
        (JobState.JOB_STATE_SUCCEEDED, False),
        (JobState.JOB_STATE_CANCELLING, False),
    ],
)
def test_only_failed_and_cancelled_jobs_have_an_error(state: JobState, *, kept: bool) -> None:
    """Other states drop it."""
    assert ("error" in job_moved(running(), state, NOON, ERROR)) is kept


def test_an_error_may_come_later() -> None:
    """It changes update_time and nothing else."""
    failed = job_moved(running(), JobState.JOB_STATE_FAILED, NOON + 2 * MINUTE)
    late = job_explained(failed, ERROR, NOON + 3 * MINUTE)
    assert late.error == ERROR
    assert [late.end_time, late.update_time] == [NOON + 2 * MINUTE, NOON + 3 * MINUTE]


@pytest.mark.parametrize(
    "state", [JobState.JOB_STATE_SUCCEEDED, JobState.JOB_STATE_FAILED, JobState.JOB_STATE_CANCELLED]
)
def test_an_ended_job_never_moves_again(state: JobState) -> None:
    """From an end there is no way on."""
    ended = job_moved(running(), state, NOON)
    for after in JobState.__members__.values():
        with pytest.raises(IllegalMoveError):
            job_moved(ended, after, NOON)


def test_an_expired_job_has_ended() -> None:
    """It never ran, and has no error."""
    queued = job_moved(job_created(CustomJob(), "name", NOON), JobState.JOB_STATE_QUEUED, NOON)
    expired = job_moved(queued, JobState.JOB_STATE_EXPIRED, NOON + MINUTE, ERROR)
    assert expired.end_time == NOON + MINUTE
    assert "start_time" not in expired
    assert "error" not in expired
    with pytest.raises(IllegalMoveError):
        job_moved(expired, JobState.JOB_STATE_PENDING, NOON)


def test_a_preempted_job_started_once() -> None:
    """It is PENDING again, and its start_time stays that of the first start."""
    waiting = job_moved(running(), JobState.JOB_STATE_PENDING, NOON + 2 * MINUTE)
    again = job_moved(waiting, JobState.JOB_STATE_RUNNING, NOON + 3 * MINUTE)
    assert [again.start_time, again.update_time] == [NOON + MINUTE, NOON + 3 * MINUTE]


@pytest.mark.parametrize(
    "end", [JobState.JOB_STATE_SUCCEEDED, JobState.JOB_STATE_FAILED, JobState.JOB_STATE_CANCELLED]
)
def test_a_cancelling_job_may_end_in_any_way(end: JobState) -> None:
    """Cancelling is best effort."""
    cancelling = job_moved(running(), JobState.JOB_STATE_CANCELLING, NOON)
    assert job_moved(cancelling, end, NOON).state == end


@pytest.mark.parametrize(
    ("code", "retries", "disabled", "expected"),
    [
        (1, 0, False, Verdict.FAIL),
        (137, 0, False, Verdict.FAIL),
        (6, 0, False, Verdict.RETRY),
        (134, 2, False, Verdict.RETRY),
        (11, 1, False, Verdict.RETRY),
        (139, 2, False, Verdict.RETRY),
        (139, 3, False, Verdict.FAIL),
        (134, 0, True, Verdict.FAIL),
    ],
)
def test_only_aborts_and_segfaults_are_worth_another_run(
    code: int, retries: int, *, disabled: bool, expected: Verdict
) -> None:
    """At most three times, and never with disable_retries."""
    assert verdict(code, retries, 3, disable_retries=disabled) is expected


def test_a_resource_starts_once() -> None:
    """start_time is the first RUNNING, also after a reboot; a reboot cures an error."""
    created = resource_created(PersistentResource(), "p/persistentResources/nightly", NOON)
    assert created.display_name == "nightly"
    up = resource_moved(created, State.RUNNING, NOON + MINUTE)
    down = resource_moved(up, State.REBOOTING, NOON + 2 * MINUTE)
    broken = resource_moved(down, State.ERROR, NOON + 3 * MINUTE, ERROR)
    assert broken.error == ERROR
    again = resource_moved(
        resource_moved(broken, State.REBOOTING, NOON + 4 * MINUTE), State.RUNNING, NOON + 5 * MINUTE
    )
    assert again.start_time == NOON + MINUTE
    assert again.update_time == NOON + 5 * MINUTE
    assert "error" in again
    assert not again.error.message


@pytest.mark.parametrize(("state", "kept"), [(State.STOPPING, True), (State.REBOOTING, False)])
def test_a_broken_resource_keeps_its_error_only_to_its_end(
    state: PersistentResource.State, *, kept: bool
) -> None:
    """A reboot forgets it, a delete does not; a running resource can break."""
    up = resource_moved(resource_created(PersistentResource(), "name", NOON), State.RUNNING, NOON)
    broken = resource_moved(up, State.ERROR, NOON + MINUTE, ERROR)
    assert broken.error == ERROR
    after = resource_moved(broken, state, NOON + 2 * MINUTE)
    assert "error" in after
    assert (after.error == ERROR) is kept


@pytest.mark.parametrize("state", [State.STOPPING, State.REBOOTING, State.UPDATING])
def test_a_resource_being_created_can_only_come_up_or_fail(state: PersistentResource.State) -> None:
    """Deleting, rebooting and updating wait for that."""
    with pytest.raises(IllegalMoveError):
        resource_moved(resource_created(PersistentResource(), "name", NOON), state, NOON)
