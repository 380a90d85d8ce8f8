# SPDX-License-Identifier: Apache-2.0
"""Trials that fail, and what becomes of their tuning jobs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from google.cloud.aiplatform_v1.types import JobState, Trial

if TYPE_CHECKING:
    from tests.contract.conftest import Tuning

State = Trial.State
# A trial is told by its number whether it works, reports nothing, or fails.
BY_NUMBER = """
import json, os, time
trial = os.environ["CLOUD_ML_TRIAL_ID"]
if trial in {fails!r}:
    raise ValueError("no data for " + trial)
if trial not in {silent!r}:
    with open(os.environ["CLOUD_ML_HP_METRIC_FILE"], "w") as file:
        file.write(json.dumps({{"timestamp": time.time(), "trial": trial, "loss": "1", "global_step": "0"}}) + "\\n")
"""


def code(fails: str = "", silent: str = "") -> str:
    """Training code of which some trials fail and some are silent."""
    return BY_NUMBER.format(fails=set(fails), silent=set(silent))


def states(job: Any) -> str:
    """One letter a trial."""
    return "".join(trial.state.name[0] for trial in job.trials)


def test_the_first_failure_ends_the_job(tuning: Tuning) -> None:
    """Without a limit, a trial that fails before any has succeeded is the end, and the error tells its reason."""
    job = tuning.run(code(fails="1"), max_trial_count=3)
    assert job.state == JobState.JOB_STATE_FAILED
    assert states(job) == "I"
    assert job.error.code == 3
    assert job.error.message.startswith(
        "Hyperparameter Tuning Trial #1 Failed before any other successful trials"
    )
    assert "ValueError: no data for 1" in job.error.message
    assert "ValueError: no data for 1" in job.trials[0].infeasible_reason
    assert "final_measurement" not in job.trials[0]
    assert job.end_time


def test_a_later_failure_does_not(tuning: Tuning) -> None:
    """Without a limit, the job goes on when a trial has succeeded before."""
    job = tuning.run(code(fails="23"), max_trial_count=4)
    assert job.state == JobState.JOB_STATE_SUCCEEDED
    assert states(job) == "SIIS"


def test_a_silent_trial_is_infeasible(tuning: Tuning) -> None:
    """A job that succeeds without the metric is a failed trial."""
    job = tuning.run(code(silent="1"))
    assert job.state == JobState.JOB_STATE_FAILED
    assert (
        job.trials[0].infeasible_reason
        == "The trial has ended without a final measurement: it has reported no finite value of loss."
    )
    assert tuning.jobs_of(job)[0].state == JobState.JOB_STATE_SUCCEEDED


@pytest.mark.parametrize(("fails", "state", "trials"), [("12", "SUCCEEDED", "IIS"), ("123", "FAILED", "III")])
def test_so_many_may_fail(tuning: Tuning, fails: str, state: str, trials: str) -> None:
    """max_failed_trial_count is the number of failed trials that ends the job."""
    job = tuning.run(code(fails=fails), max_trial_count=3, max_failed_trial_count=3)
    assert job.state.name == f"JOB_STATE_{state}"
    assert states(job) == trials
    if state == "FAILED":
        assert job.error.message.startswith(
            "As many trials have failed as max_failed_trial_count says, 3. The last was trial #3"
        )


def test_the_end_of_the_job_cancels_the_trials_that_run(tuning: Tuning) -> None:
    """A trial that would run for long ends with the job that has failed."""
    pool = tuning.cloud.pool(code(fails="2") + "time.sleep(600 if trial == '1' else 0)")
    job = tuning.run(worker_pool_specs=[pool], max_trial_count=2, parallel_trial_count=2)
    assert job.state == JobState.JOB_STATE_FAILED
    assert "Trial #2" in job.error.message
    assert states(job) == "II"
    assert [run.state.name for run in tuning.jobs_of(job)] == ["JOB_STATE_CANCELLED", "JOB_STATE_FAILED"]
    assert (
        tuning.jobs_of(job)[0].error.message == "The tuning job has failed; its other trials are cancelled."
    )


def test_a_trial_that_never_runs_has_failed(tuning: Tuning) -> None:
    """With the reason of its job."""
    pool = tuning.cloud.pool(container_spec={"image_uri": "nowhere/no-image:1"})
    job = tuning.run(worker_pool_specs=[pool], max_trial_count=2, max_failed_trial_count=2)
    assert job.state == JobState.JOB_STATE_FAILED
    assert states(job) == "II"
    assert "no-image" in job.trials[0].infeasible_reason
    assert "start_time" not in job.trials[0]


def test_somebody_else_may_cancel_a_trial(tuning: Tuning) -> None:
    """By its custom job: the trial is infeasible."""
    job = tuning.create(code() + "time.sleep(600)")
    (trial,) = tuning.when(job, lambda now: now.trials and now.trials[0].state == State.ACTIVE).trials
    tuning.cloud.jobs.cancel_custom_job(name=trial.custom_job)
    ended = tuning.ended(job)
    assert ended.state == JobState.JOB_STATE_FAILED
    assert ended.error.code == 1
    assert states(ended) == "I"


def test_no_machines_fail_each_trial(tuning: Tuning) -> None:
    """A stockout that is ordered for the tuning job."""
    tuning.cloud.emulator.control.add_fault("CreateHyperparameterTuningJob", "stockout")
    job = tuning.run(code())
    assert job.state == JobState.JOB_STATE_FAILED
    assert job.error.code == 8
    assert "Resources are insufficient in region: europe-west4" in job.error.message
    assert "start_time" not in job


def test_the_error_may_come_late(tuning: Tuning) -> None:
    """The state comes first, as for custom jobs."""
    tuning.cloud.emulator.control.add_fault("CreateHyperparameterTuningJob", "late_error", seconds=0.5)
    job = tuning.run(code(fails="1"))
    assert "error" not in job
    assert tuning.when(job, lambda now: "error" in now).error.code == 3
