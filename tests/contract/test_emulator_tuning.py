# SPDX-License-Identifier: Apache-2.0
"""Tuning jobs through the real client: their life, their trials and what these measure."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import pytest
from google.api_core import exceptions
from google.cloud.aiplatform_v1.types import (
    CustomJob,
    HyperparameterTuningJob,
    JobState,
    ListHyperparameterTuningJobsRequest,
    Trial,
)
from google.protobuf.field_mask_pb2 import FieldMask

from airflow_vertex_persistent.emulator.look_jobs import cancel_job, show_jobs

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.contract.conftest import Tuning

State = Trial.State
HYPERTUNE = """
import sys
from hypertune import HyperTune

x = float(sys.argv[-1].partition("=")[2])
tune = HyperTune()
for step in (1, 2, 3):
    tune.report_hyperparameter_tuning_metric("loss", abs(x - 5) + 3 - step, global_step=step)
"""
WRITE = """
import json, os, time

lines = []
def report(step, **values):
    for tag, value in values.items():
        line = {"timestamp": time.time(), "trial": "1", tag: str(value), "global_step": str(step), "checkpoint_path": ""}
        lines.append(json.dumps(line, sort_keys=True) + "\\n")
    with open(os.environ["CLOUD_ML_HP_METRIC_FILE"], "w") as file:
        file.writelines(lines)
"""
SLEEP = WRITE + "report(1, loss=0.5); print('up', flush=True); time.sleep(600)"


def loss_of(trial: Trial) -> float:
    """The loss that counts."""
    (metric,) = trial.final_measurement.metrics
    assert metric.metric_id == "loss"
    return float(metric.value)


def test_trials_are_custom_jobs_that_measure(tuning: Tuning) -> None:
    """Each trial is a job of its own, gets a flag per parameter and a folder, and has what it reported last."""
    folder = {"output_uri_prefix": "gs://emulator-bucket/out/"}
    job = tuning.create(HYPERTUNE, max_trial_count=3, base_output_directory=folder)
    assert job.state == JobState.JOB_STATE_PENDING
    assert not job.trials
    ended = tuning.ended(job)
    assert ended.state == JobState.JOB_STATE_SUCCEEDED
    assert "error" not in ended
    raw = HyperparameterTuningJob.pb(ended)
    times = [raw.create_time, raw.start_time, raw.end_time, raw.update_time]
    assert times == sorted(times, key=lambda time: time.ToNanoseconds())
    assert [trial.id for trial in ended.trials] == ["1", "2", "3"]
    listed = {one.name for one in tuning.cloud.jobs.list_custom_jobs(parent=tuning.cloud.PARENT)}
    for trial, run in zip(ended.trials, tuning.jobs_of(ended), strict=True):
        assert trial.state == State.SUCCEEDED
        (x,) = (float(str(one.value)) for one in trial.parameters if one.parameter_id == "x")
        assert loss_of(trial) == pytest.approx(abs(x - 5))
        assert trial.final_measurement.step_count == 3
        assert [one.step_count for one in trial.measurements] == [1, 2, 3]
        assert run.name in listed
        assert run.state == JobState.JOB_STATE_SUCCEEDED
        assert run.job_spec.worker_pool_specs[0].container_spec.args == [f"--x={x!r}"]
        output = run.job_spec.base_output_directory.output_uri_prefix
        assert output == f"gs://emulator-bucket/out/{trial.id}"
        assert trial.start_time == run.start_time
        assert Trial.pb(trial).end_time.ToNanoseconds() >= CustomJob.pb(run).end_time.ToNanoseconds()


def test_what_a_trial_sees(tuning: Tuning) -> None:
    """Its id and its metric file, besides what custom jobs see; flags come after the args of the spec."""
    code = WRITE + (
        "report(0, loss=1)\nimport sys; print(json.dumps([sys.argv[1:], dict(os.environ), os.getcwd()]))"
    )
    pool = tuning.cloud.pool(
        container_spec={"image_uri": tuning.cloud.IMAGE, "command": ["python", "-c", code], "args": ["own"]}
    )
    units = {"parameter_id": "units", "integer_value_spec": {"min_value": 256, "max_value": 256}}
    job = tuning.run(worker_pool_specs=[pool], parameters=[units])
    (run,) = tuning.jobs_of(job)
    args, environment, _ = json.loads(tuning.cloud.log(run)[0])
    assert args == ["own", "--units=256.0"]
    assert environment["CLOUD_ML_TRIAL_ID"] == "1"
    assert json.loads(environment["CLUSTER_SPEC"])["task"]["trial"] == "1"
    assert environment["CLOUD_ML_JOB_ID"] == run.name.rpartition("/")[2]
    assert "workerpool0-0" in environment["CLOUD_ML_HP_METRIC_FILE"]


def test_at_most_so_many_run_at_the_same_time(tuning: Tuning) -> None:
    """Three trials, two at a time: the third begins when one of the first two has ended."""
    ended = tuning.run(WRITE + "report(0, loss=1)", max_trial_count=3, parallel_trial_count=2)
    runs = [type(run).pb(run) for run in tuning.jobs_of(ended)]
    created = [run.create_time.ToNanoseconds() for run in runs]
    done = [run.end_time.ToNanoseconds() for run in runs]
    assert created[1] < done[0]
    assert created[2] > min(done[:2])


def test_measurements_show_while_a_trial_runs(tuning: Tuning) -> None:
    """A trial is ACTIVE, its job RUNNING, and what it has reported so far can be read."""
    job = tuning.create(SLEEP)
    running = tuning.when(job, lambda now: now.trials and now.trials[0].measurements)
    assert running.state == JobState.JOB_STATE_RUNNING
    (trial,) = running.trials
    assert trial.state == State.ACTIVE
    assert trial.measurements[0].step_count == 1
    assert trial.measurements[0].metrics[0].value == 0.5
    assert "final_measurement" not in trial
    tuning.stop(job)


def test_cancelling_cancels_the_trials(tuning: Tuning) -> None:
    """The job and its trials' jobs end as CANCELLED with code 1, and nothing is started any more."""
    job = tuning.create(SLEEP, max_trial_count=5, parallel_trial_count=2)
    tuning.when(job, lambda now: [trial.state for trial in now.trials] == [State.ACTIVE] * 2)
    ended = tuning.stop(job)
    assert ended.state == JobState.JOB_STATE_CANCELLED
    assert ended.error.code == 1
    assert [trial.state for trial in ended.trials] == [State.INFEASIBLE] * 2
    assert all(trial.infeasible_reason for trial in ended.trials)
    assert {run.state for run in tuning.jobs_of(ended)} == {JobState.JOB_STATE_CANCELLED}
    tuning.cloud.jobs.cancel_hyperparameter_tuning_job(name=job.name)  # no effect, as for custom jobs
    assert tuning.get(job) == ended


def test_a_job_is_deleted_when_it_has_ended(tuning: Tuning) -> None:
    """Deleting is refused before; afterwards it is gone, and its trials' jobs are still there."""
    job = tuning.create(SLEEP)
    with pytest.raises(exceptions.FailedPrecondition, match="cancel it"):
        tuning.cloud.jobs.delete_hyperparameter_tuning_job(name=job.name)
    tuning.when(job, lambda now: now.trials)
    ended = tuning.stop(job)
    assert tuning.cloud.jobs.delete_hyperparameter_tuning_job(name=job.name).done()
    with pytest.raises(exceptions.NotFound, match="The HyperparameterTuningJob does not exist"):
        tuning.get(job)
    assert len(tuning.jobs_of(ended)) == 1


def test_lists_have_filters_masks_and_no_trials(tuning: Tuning) -> None:
    """The grammar is that of custom jobs."""
    mine = [
        tuning.run(WRITE + "report(0, loss=1)", labels={"list": "mine"}, display_name=name) for name in "ab"
    ]
    tuning.run(WRITE + "report(0, loss=1)", labels={"list": "other"})
    wanted = 'labels.list=mine AND state="JOB_STATE_SUCCEEDED"'

    def names(text: str, **fields: Any) -> list[HyperparameterTuningJob]:
        request = ListHyperparameterTuningJobsRequest(parent=tuning.cloud.PARENT, filter=text, **fields)
        return list(tuning.cloud.jobs.list_hyperparameter_tuning_jobs(request))

    found = names(wanted)
    assert [job.name for job in found] == [job.name for job in reversed(mine)]
    assert not any(job.trials for job in found)
    assert found[0].study_spec == mine[1].study_spec
    assert [job.name for job in names(wanted, page_size=1)] == [job.name for job in found]
    masked = names(f'{wanted} AND display_name="a"', read_mask=FieldMask(paths=["name", "state"]))
    assert masked == [HyperparameterTuningJob(name=mine[0].name, state=mine[0].state)]
    with pytest.raises(exceptions.InvalidArgument, match="Invalid filter"):
        names("trials:*")


def test_names_are_those_of_tuning_jobs(tuning: Tuning) -> None:
    """With the project's number; a custom job's id is of no use here, nor the reverse."""
    job = tuning.run(WRITE + "report(0, loss=1)")
    match = re.fullmatch(r"projects/\d{12}/locations/europe-west4/hyperparameterTuningJobs/(\d+)", job.name)
    assert match
    by_id = f"{tuning.cloud.PARENT}/hyperparameterTuningJobs/{match[1]}"
    assert tuning.cloud.jobs.get_hyperparameter_tuning_job(name=by_id) == job
    with pytest.raises(exceptions.NotFound):
        tuning.cloud.jobs.get_custom_job(name=f"{tuning.cloud.PARENT}/customJobs/{match[1]}")


def test_the_last_report_counts_or_the_best(tuning: Tuning) -> None:
    """As the study says; a value that is no number counts for nothing."""
    code = WRITE + "report(1, loss=0.3); report(2, loss=0.1); report(3, loss=0.2); report(4, loss='nan')"
    last = tuning.run(code).trials[0]
    assert (last.final_measurement.step_count, loss_of(last)) == (3, 0.2)
    best = tuning.run(code, measurement_selection_type="BEST_MEASUREMENT").trials[0]
    assert (best.final_measurement.step_count, loss_of(best)) == (2, 0.1)
    assert [one.step_count for one in best.measurements] == [1, 2, 3]


def test_several_metrics_are_measured_together(tuning: Tuning) -> None:
    """A measurement has them all."""
    metrics = [{"metric_id": "loss", "goal": "MINIMIZE"}, {"metric_id": "accuracy", "goal": "MAXIMIZE"}]
    code = WRITE + "report(1, loss=0.3, accuracy=0.7); report(2, loss=0.2, accuracy=0.8)"
    job = tuning.run(code, metrics=metrics, max_trial_count=12, parallel_trial_count=4)
    assert job.state == JobState.JOB_STATE_SUCCEEDED
    final = job.trials[0].final_measurement
    assert {one.metric_id: one.value for one in final.metrics} == {"loss": 0.2, "accuracy": 0.8}


def test_the_log_tells_of_each_trial(tuning: Tuning) -> None:
    """What it was given, and what became of it."""
    job = tuning.run(WRITE + "report(7, loss=0.25)")
    lines = tuning.cloud.log(job, "service")
    (x,) = (one.value for one in job.trials[0].parameters)
    assert lines == [
        f"Trial 1: --x={x!r}",
        "Trial 1 SUCCEEDED: loss=0.25 (step 7)",
        "Job completed successfully.",
    ]


def test_whole_numbers_may_come_plain(tuning_with: Callable[..., Tuning]) -> None:
    """With the setting for it."""
    tuning = tuning_with(trial_numbers="plain")
    parameters = [
        {"parameter_id": "units", "integer_value_spec": {"min_value": 3, "max_value": 3}},
        {"parameter_id": "batch", "discrete_value_spec": {"values": [256]}},
        {"parameter_id": "rate", "discrete_value_spec": {"values": [0.5]}},
    ]
    (run,) = tuning.jobs_of(tuning.run(WRITE + "report(0, loss=1)", parameters=parameters))
    args = run.job_spec.worker_pool_specs[0].container_spec.args
    assert args == ["--units=3", "--batch=256", "--rate=0.5"]


def test_the_command_line_shows_and_cancels_tuning_jobs(
    tuning: Tuning, capsys: pytest.CaptureFixture[str]
) -> None:
    """A line for the job and one for its trial, newest first, each with its state."""
    job = tuning.create(SLEEP)
    running = tuning.when(job, lambda now: now.trials and now.trials[0].state == State.ACTIVE)
    names = [name.rpartition("/")[2] for name in (running.trials[0].custom_job, job.name)]
    show_jobs(tuning.cloud.emulator.address)
    trial, whole = (line.split() for line in capsys.readouterr().out.splitlines()[2:4])
    assert [trial[0], whole[0]] == names
    assert [trial[1], whole[1], whole[4]] == ["RUNNING", "RUNNING", "tuning"]
    cancel_job(tuning.cloud.emulator.address, names[1])
    assert re.fullmatch(rf"Job {names[1]} is CANCELL(ING|ED)\.\n", capsys.readouterr().out)
    assert tuning.ended(job).state == JobState.JOB_STATE_CANCELLED
