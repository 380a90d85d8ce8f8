# SPDX-License-Identifier: Apache-2.0
"""Jobs whose task has ended while nobody was there to cancel them: a sweep does it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from modes import modes

if TYPE_CHECKING:
    from stage import Stage, Training

pytestmark = pytest.mark.timeout(600)


@pytest.fixture
def no_triggerer(stage: Stage, training: Training, triggerer: str) -> None:
    """End the triggerer once it watches the job."""
    training.wait_until_watched()
    stage.airflow.kill(triggerer)


def check_swept(training: Training) -> None:
    """Check that a task has failed and its job has not ended, until a sweep finds and cancels it."""
    training.wait_for_task("failed")
    (job,) = training.jobs()
    assert training.states() == ["RUNNING"]
    assert job.name in training.stage.sweep()
    training.wait_for_jobs("CANCELLED")
    assert set(training.trial_states()) <= {"CANCELLED"}


@pytest.mark.durability(
    "Marked as failed while it is deferred and no triggerer runs",
    "Is failed, without a retry.",
    "Runs on, until the next ``CancelOrphanedJobsOperator`` cancels it.",
)
@pytest.mark.usefixtures("no_triggerer")
@pytest.mark.parametrize("mode", ["deferrable"])
def test_marked_without_triggerer(training: Training) -> None:
    """A job that no triggerer could cancel is found by a sweep."""
    training.mark_as_failed()
    check_swept(training)


@pytest.mark.durability(
    "SIGKILL of the task's process in the last attempt",
    "Is failed.",
    "Runs on, until the next ``CancelOrphanedJobsOperator`` cancels it.",
    tuning=True,
)
@modes("blocking", tuning="blocking")
def test_killed_in_the_last_attempt(training: Training) -> None:
    """A job that no retry will come for is found by a sweep."""
    training.wait_until_watched()
    training.kill_process()
    check_swept(training)
