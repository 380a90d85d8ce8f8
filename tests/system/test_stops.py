# SPDX-License-Identifier: Apache-2.0
"""What becomes of a training job when somebody, or the clock, stops its task."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from modes import WAYS, modes

if TYPE_CHECKING:
    from stage import Stage, Training

pytestmark = pytest.mark.timeout(600)


@pytest.mark.durability(
    "Marked as failed while it runs or is deferred",
    "Is failed, without a retry.",
    "Is cancelled.",
    tuning=True,
)
@modes(*WAYS, tuning="deferrable")
def test_marked_as_failed(training: Training) -> None:
    """Marking a task as failed cancels its job, whether a worker or the triggerer waits for it."""
    training.wait_until_watched()
    training.mark_as_failed()
    training.wait_for_jobs("CANCELLED")
    assert set(training.trial_states()) <= {"CANCELLED"}
    assert training.task()["state"] == "failed"


@pytest.mark.durability(
    "Cleared while it runs or is deferred",
    "Starts anew and succeeds.",
    "Is cancelled; another takes its place.",
    tuning=True,
)
@modes(*WAYS, tuning="blocking")
def test_cleared(stage: Stage, training: Training) -> None:
    """Clearing a task cancels its job, and the task goes on with a new one."""
    training.wait_until_watched()
    # SQLite gives the id of the last trigger, once it is deleted, to the next: let it be another one's.
    bystander = stage.begin("bystander_deferrable")
    bystander.wait_until_watched()
    training.clear()
    training.wait_for_jobs("CANCELLED", "RUNNING")
    training.let_end(2)
    training.wait_for_task("success", try_number=2)
    old, new = training.jobs()
    assert training.states() == ["CANCELLED", "SUCCEEDED"]
    assert old.labels["airflow_execution"] != new.labels["airflow_execution"]
    assert training.result()["job"] == new.name
    assert set(training.trial_states()) <= {"CANCELLED", "SUCCEEDED"}
    training.check_best_trial(new.name)
    bystander.let_end()
    bystander.check_one_job()


@pytest.mark.durability(
    "Longer than ``execution_timeout`` while it runs or is deferred",
    "Fails with that error.",
    "Is cancelled.",
    tuning=True,
)
@modes(*WAYS, tuning="deferrable")
def test_execution_timeout(training: Training) -> None:
    """A task that takes longer than its execution_timeout fails, and its job is cancelled."""
    training.wait_for_task("failed")
    training.wait_for_jobs("CANCELLED")
    assert set(training.trial_states()) <= {"CANCELLED"}
    assert "is RUNNING" in training.log()
    assert "its task ran longer than execution_timeout" in training.log()
