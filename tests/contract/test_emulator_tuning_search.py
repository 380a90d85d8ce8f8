# SPDX-License-Identifier: Apache-2.0
"""What tuning jobs try, where their trials run, and which they stop early."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from google.api_core import exceptions
from google.cloud.aiplatform_v1.types import CustomJob, HyperparameterTuningJob, JobState, Trial

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.contract.conftest import Tuning

State = Trial.State
H100 = {"machine_type": "a3-highgpu-8g", "accelerator_type": "NVIDIA_H100_80GB", "accelerator_count": 8}
MODEL = {
    "parameter_id": "model",
    "categorical_value_spec": {"values": ["linear", "tree"]},
    "conditional_parameter_specs": [
        {
            "parent_categorical_values": {"values": ["tree"]},
            "parameter_spec": {
                "parameter_id": "depth",
                "integer_value_spec": {"min_value": 1, "max_value": 2},
            },
        }
    ],
}
REPORT = """
import json, os, time
def report(loss, step=0):
    with open(os.environ["CLOUD_ML_HP_METRIC_FILE"], "w") as file:
        line = {"timestamp": time.time(), "trial": "1", "loss": str(loss), "global_step": str(step)}
        file.write(json.dumps(line) + "\\n")
"""


def values(job: HyperparameterTuningJob) -> list[dict[str, Any]]:
    """The parameters of each trial."""
    return [{one.parameter_id: one.value for one in trial.parameters} for trial in job.trials]


def test_a_grid_ends_when_it_is_through(tuning: Tuning) -> None:
    """Though more trials were allowed; what depends on others is not there for all."""
    job = tuning.run(REPORT + "report(1)", parameters=[MODEL], algorithm="GRID_SEARCH", max_trial_count=9)
    assert job.state == JobState.JOB_STATE_SUCCEEDED
    assert values(job) == [{"model": "linear"}, {"model": "tree", "depth": 1}, {"model": "tree", "depth": 2}]
    args = [run.job_spec.worker_pool_specs[0].container_spec.args for run in tuning.jobs_of(job)]
    assert args == [["--model=linear"], ["--model=tree", "--depth=1.0"], ["--model=tree", "--depth=2.0"]]


def test_a_seed_chooses_the_sequence(tuning_with: Callable[..., Tuning], tuning: Tuning) -> None:
    """The same job has the same trials again, and others with another seed."""
    wanted = {"max_trial_count": 2, "algorithm": "RANDOM_SEARCH"}
    one, again = (values(tuning.run(REPORT + "report(1)", **wanted)) for _ in range(2))
    other = values(tuning_with(tuning_seed=7).run(REPORT + "report(1)", **wanted))
    assert one == again
    assert one[0] != one[1]
    assert one != other


def test_a_trial_below_the_median_is_stopped(tuning: Tuning) -> None:
    """It is STOPPING while its job is being cancelled, and has succeeded then, with what it had measured."""
    code = REPORT + (
        "import signal\n"
        "last = os.environ['CLOUD_ML_TRIAL_ID'] == '3'\n"
        "if last: signal.signal(signal.SIGTERM, lambda *_: time.sleep(0.5) or os._exit(1))\n"
        "report(9 if last else 1, step=5)\n"
        "if last: time.sleep(600)\n"
    )
    job = tuning.create(code, max_trial_count=3, median_automated_stopping_spec={})
    tuning.when(job, lambda now: [one.state for one in now.trials[2:]] == [State.STOPPING])
    ended = tuning.ended(job)
    assert ended.state == JobState.JOB_STATE_SUCCEEDED
    assert [trial.state for trial in ended.trials] == [State.SUCCEEDED] * 3
    assert ended.trials[2].final_measurement.metrics[0].value == 9
    stopped = tuning.jobs_of(ended)[2]
    assert stopped.state == JobState.JOB_STATE_CANCELLED
    assert stopped.error.message == "The trial was stopped early."


def test_trials_share_a_persistent_resource(tuning: Tuning) -> None:
    """One that finds all machines taken waits as REQUESTED, its job as PENDING."""
    tuning.cloud.resource("nightly")
    job = tuning.create(
        REPORT + "report(1); time.sleep(1)",
        max_trial_count=2,
        parallel_trial_count=2,
        persistent_resource_id="nightly",
    )
    now = tuning.when(job, lambda now: State.ACTIVE in [one.state for one in now.trials])
    assert [one.state for one in now.trials] == [State.ACTIVE, State.REQUESTED]
    assert tuning.jobs_of(now)[1].state == JobState.JOB_STATE_PENDING
    assert "start_time" not in now.trials[1]
    ended = tuning.ended(job)
    assert ended.state == JobState.JOB_STATE_SUCCEEDED
    assert {run.job_spec.persistent_resource_id for run in tuning.jobs_of(ended)} == {"nightly"}
    first, second = tuning.jobs_of(ended)
    assert CustomJob.pb(second).start_time.ToNanoseconds() > CustomJob.pb(first).end_time.ToNanoseconds()


def test_what_never_fits_a_persistent_resource_is_refused(tuning: Tuning) -> None:
    """By the rules for custom jobs, at once."""
    tuning.cloud.resource("small")
    pool = tuning.cloud.pool("", machine_spec={"machine_type": "n1-standard-8"})
    field = r"hyperparameter_tuning_job\.trial_job_spec\.worker_pool_specs\[0\]: .* match no resource pool"
    with pytest.raises(exceptions.InvalidArgument, match=field):
        tuning.create(worker_pool_specs=[pool], persistent_resource_id="small")
    with pytest.raises(exceptions.NotFound, match="The PersistentResource does not exist"):
        tuning.create(persistent_resource_id="none")


def test_a_trial_may_be_refused(tuning_with: Callable[..., Tuning]) -> None:
    """With busy_policy reject, a trial that finds no machines has no job and is infeasible."""
    tuning = tuning_with(busy_policy="reject")
    tuning.cloud.resource("nightly")
    job = tuning.create(
        REPORT + "report(1); time.sleep(600)",
        max_trial_count=2,
        parallel_trial_count=2,
        persistent_resource_id="nightly",
    )
    ended = tuning.ended(job)
    assert ended.state == JobState.JOB_STATE_FAILED
    assert ended.error.code == 8
    assert "other jobs use its machines" in ended.trials[1].infeasible_reason
    assert not ended.trials[1].custom_job


def test_each_trial_queues_for_flex_start(tuning_with: Callable[..., Tuning]) -> None:
    """The tuning job is PENDING until the first has machines; each has its own max_wait_duration."""
    tuning = tuning_with(stock={"europe-west4/a3-highgpu-8g": 0})
    wanted: dict[str, Any] = {
        "worker_pool_specs": [tuning.cloud.pool(REPORT + "report(1)", machine_spec=H100)],
        "max_trial_count": 2,
        "parallel_trial_count": 2,
    }
    job = tuning.create(**wanted, scheduling={"strategy": "FLEX_START"})
    waiting = tuning.when(job, lambda now: len(now.trials) == 2)
    queue = tuning.cloud.emulator.control.capacity()[0]["queue"]
    assert [place["job"] for place in queue] == [trial.custom_job for trial in waiting.trials]
    assert waiting.state == JobState.JOB_STATE_PENDING
    assert [trial.state for trial in waiting.trials] == [State.REQUESTED] * 2
    brief = tuning.run(**wanted, scheduling={"strategy": "FLEX_START", "max_wait_duration": "0.2s"})
    assert brief.state == JobState.JOB_STATE_FAILED
    assert brief.error.code == 8
    assert "not scheduled within its max_wait_duration" in brief.error.message
    tuning.cloud.emulator.control.set_stock("europe-west4/a3-highgpu-8g", 1)
    assert tuning.ended(job).state == JobState.JOB_STATE_SUCCEEDED


def test_a_waiting_job_can_be_cancelled(tuning_with: Callable[..., Tuning]) -> None:
    """Its trials leave the queue."""
    tuning = tuning_with(stock={"*/*": 0})
    pool = tuning.cloud.pool("", machine_spec=H100)
    job = tuning.create(worker_pool_specs=[pool], scheduling={"strategy": "FLEX_START"})
    tuning.when(job, lambda now: now.trials)
    ended = tuning.stop(job)
    assert ended.state == JobState.JOB_STATE_CANCELLED
    assert "start_time" not in ended
    assert not any(shelf["queue"] for shelf in tuning.cloud.emulator.control.capacity())


def test_what_a_project_can_never_have_is_refused(tuning_with: Callable[..., Tuning]) -> None:
    """More GPUs for one trial than its quota."""
    tuning = tuning_with(quota={"*/custom_model_training_nvidia_h100_gpus": 4})
    with pytest.raises(exceptions.ResourceExhausted, match="exceed quota limits"):
        tuning.create(worker_pool_specs=[tuning.cloud.pool("", machine_spec=H100)])
