# SPDX-License-Identifier: Apache-2.0
"""The tuning operator, from what a DAG file says to what the tasks after it get."""

from __future__ import annotations

import json
import urllib.request
from typing import TYPE_CHECKING, Any

import pytest
from airflow.sdk.exceptions import AirflowFailException
from google.cloud.aiplatform_v1.types import JobState, StudySpec

from airflow_vertex_persistent.exceptions import (
    CapacityError,
    JobFailedError,
    MaxWaitExceededError,
    QuotaExceededError,
)
from airflow_vertex_persistent.specs.study import categorical, discrete, double, integer

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow.sdk import DAG

    from airflow_vertex_persistent.operators.hyperparameter_tuning import HyperparameterTuningOperator
    from tests.conftest import Relay
    from tests.integration.conftest import Cloud
    from tests.integration.operators.conftest import Run

    Tune = Callable[..., HyperparameterTuningOperator]

BASE = "gs://nightly-models/tuning"
L4 = {"machine_type": "g2-standard-4", "accelerator_type": "NVIDIA_L4", "accelerator_count": 1}


def loss(x: float) -> float:
    """What the training code reports last."""
    return (x - 3) ** 2


def test_the_best_trial_is_the_result(
    cloud: Cloud, tune: Tune, run_dag: Callable[[], Run], *, deferrable: bool
) -> None:
    """On the warm machines: parameters with their types, metrics, folder and custom job; counts; all times."""
    tune(persistent_resource_id="nightly", base_output_dir=BASE, deferrable=deferrable)
    result = run_dag().result()
    (job,) = cloud.tuning_jobs()
    assert job.state == JobState.JOB_STATE_SUCCEEDED
    tried = {trial.id: int(trial.parameters[0].value) for trial in job.trials}  # type: ignore[call-overload]
    best = min(tried, key=lambda trial: (loss(tried[trial]), int(trial)))
    custom_job = {trial.id: trial.custom_job for trial in job.trials}[best]
    assert result["best_trial"] == {
        "id": best,
        "parameters": {"x": tried[best]},
        "metrics": {"loss": loss(tried[best])},
        "model_dir": f"{BASE}/{best}/model",
        "custom_job": custom_job,
    }
    assert isinstance(result["best_trial"]["parameters"]["x"], int)
    assert result["trial_counts"] == {"succeeded": 4, "infeasible": 0, "running": 0, "total": 4}
    assert result["model_dir"] == result["best_trial"]["model_dir"]
    assert result["kind"] == "hyperparameterTuningJobs"
    assert result["job"] == job.name
    assert result["persistent_resource_id"] == "nightly"
    assert result["running_seconds"] > 0
    assert (result["trials_uri"], result["report_uri"]) == (None, None)
    runs = cloud.all_jobs()
    assert {run.job_spec.persistent_resource_id for run in runs} == {"nightly"}
    assert len(json.dumps(result)) < 4096


def test_what_a_study_says_arrives(empty_cloud: Cloud, tune: Tune, run_dag: Callable[[], Run]) -> None:
    """Scales, children, texts that a template rendered, and how it is searched."""
    tune(
        parameters={
            "x": double("{{ 1 + 1 }}", 4.0, scale="log"),
            "model": categorical(["tree", "net"], children={"depth": integer(1, 3, parent_values=["tree"])}),
            "batch": discrete([16, 32]),
        },
        max_trial_count="{{ 3 }}",
        max_failed_trial_count=1,
        algorithm="random",
        measurement_selection="best",
        early_stopping="median",
        labels={"team": "ml"},
    )
    result = run_dag().result()
    (job,) = empty_cloud.tuning_jobs()
    x, model, batch = job.study_spec.parameters
    assert (x.double_value_spec.min_value, x.scale_type.name) == (2.0, "UNIT_LOG_SCALE")
    assert list(model.conditional_parameter_specs[0].parent_categorical_values.values) == ["tree"]
    assert list(batch.discrete_value_spec.values) == [16, 32]
    assert job.study_spec.algorithm == StudySpec.Algorithm.RANDOM_SEARCH
    assert job.study_spec.measurement_selection_type.name == "BEST_MEASUREMENT"
    assert "median_automated_stopping_spec" in job.study_spec
    assert (job.max_trial_count, job.parallel_trial_count, job.max_failed_trial_count) == (3, 2, 1)
    assert job.labels["team"] == "ml"
    best = result["best_trial"]["parameters"]
    assert best["batch"] in {16, 32}
    assert isinstance(best["batch"], int)
    assert ("depth" in best) == (best["model"] == "tree")


def test_all_trials_and_a_picture_are_written(
    empty_cloud: Cloud, tune: Tune, run_dag: Callable[[], Run]
) -> None:
    """Beside the folders of the trials; the button opens the picture."""
    tune(base_output_dir=BASE + "/", save_trials=True, save_report="true")
    run = run_dag()
    result = run.result()
    assert result["trials_uri"] == f"{BASE}/trials.jsonl"
    assert result["report_uri"] == f"{BASE}/report.html"
    report = run.xcoms["train"]["_link_TuningReportLink"]
    with urllib.request.urlopen(report) as answer:
        assert "plotly" in answer.read().decode()
    address = report.replace("report.html", "trials.jsonl")
    with urllib.request.urlopen(address) as answer:
        lines = [json.loads(line) for line in answer]
    (job,) = empty_cloud.tuning_jobs()
    assert [line["id"] for line in lines] == ["1", "2", "3", "4"]
    assert [line["custom_job"] for line in lines] == [trial.custom_job for trial in job.trials]
    assert [len(line["measurements"]) for line in lines] == [3] * 4


def test_trials_queue_for_gpus(empty_cloud: Cloud, tune: Tune, run_dag: Callable[[], Run]) -> None:
    """Each by the rules of Flex Start."""
    tune(strategy="flex_start", max_wait_duration=600, **L4)
    assert run_dag().result()["strategy"] == "FLEX_START"
    for job in empty_cloud.all_jobs():
        scheduling = job.job_spec.scheduling
        assert scheduling.strategy.name == "FLEX_START"
        assert scheduling.max_wait_duration.total_seconds() == 600  # type: ignore[attr-defined]


def test_trials_must_fit_the_pool_together(cloud: Cloud, tune: Tune, run_dag: Callable[[], Run]) -> None:
    """Three trials at once on two machines are refused before anything is created."""
    tune(persistent_resource_id="nightly", parallel_trial_count=3)
    error = run_dag().error()
    assert isinstance(error, AirflowFailException)
    assert "parallel_trial_count = 3: write at most 2, or give the resource more machines" in str(error)
    assert not cloud.tuning_jobs()


def test_a_busy_resource_is_seen_for_all_trials_at_once(
    cloud: Cloud, tune: Tune, run_dag: Callable[[], Run]
) -> None:
    """Who does not want to wait is told that not all trials can start."""
    cloud.occupy()
    tune(persistent_resource_id="nightly", when_busy="fail")
    error = run_dag().error()
    assert isinstance(error, CapacityError)
    assert "has 0 of 2 machines free, the job needs 2" in str(error)
    assert not cloud.tuning_jobs()


@pytest.mark.usefixtures("empty_cloud")
def test_bad_input_is_told_all_at_once(tune: Tune, run_dag: Callable[[], Run]) -> None:
    """By field, with the fix, before anything is created."""
    tune(
        metrics={"loss": "small"},
        parameters={"x": integer(8, 1)},
        max_trial_count=2,
        parallel_trial_count=3,
        max_wait_duration=60,
        resource_pool="gpus",
        save_trials=True,
        algorithm="best",
    )
    text = str(run_dag().error())
    for field in (
        "metrics['loss'].goal",
        "parameters['x'].integer_value_spec.max_value",
        "parallel_trial_count = 3",
        "max_wait_duration = 60",
        "resource_pool = 'gpus'",
        "save_trials = True: needs a base_output_dir",
        "algorithm = 'best'",
    ):
        assert field in text


def test_a_first_trial_that_fails_ends_the_job(
    empty_cloud: Cloud, tune: Tune, run_dag: Callable[[], Run], *, deferrable: bool
) -> None:
    """The error has the end of that trial's log, how far the job got, and what would have let it go on."""
    tune("--fail_above=0", parallel_trial_count=1, deferrable=deferrable)
    error = run_dag().error()
    assert type(error) is JobFailedError
    text = str(error)
    (job,) = empty_cloud.tuning_jobs()
    number = job.trials[0].custom_job.rpartition("/")[2]
    assert f"The log of trial 1, custom job {number} ends:" in text
    assert "is too large" in text
    assert "Trials: 1 of 4 trials done (1 infeasible)" in text
    assert "set max_failed_trial_count" in text


def test_some_trials_may_fail(empty_cloud: Cloud, tune: Tune, run_dag: Callable[[], Run]) -> None:
    """Those that did are counted, and none of them is the best."""
    tune(
        "--fail_above=1.5",
        parameters={"x": integer(1, 2)},
        algorithm="grid",
        max_trial_count=2,
        max_failed_trial_count=2,
    )
    result = run_dag().result()
    assert result["trial_counts"] == {"succeeded": 1, "infeasible": 1, "running": 0, "total": 2}
    assert result["best_trial"]["parameters"] == {"x": 1}
    assert len(empty_cloud.all_jobs()) == 2


def test_a_job_that_nobody_waits_for_has_no_best_trial_yet(
    empty_cloud: Cloud, tune: Tune, run_dag: Callable[[], Run]
) -> None:
    """The keys are there all the same."""
    tune(wait_for_completion=False, base_output_dir=BASE)
    result: dict[str, Any] = run_dag().result()
    fields = ("best_trial", "trial_counts", "trials_uri", "report_uri", "model_dir", "end_time")
    assert {field: result[field] for field in fields} == dict.fromkeys(fields)
    assert result["state"] == "JOB_STATE_PENDING"
    assert len(empty_cloud.tuning_jobs()) == 1


def test_a_wait_in_vain_is_worth_another_try(
    start_cloud: Callable[..., Cloud], tune: Tune, run_dag: Callable[[], Run]
) -> None:
    """GPUs that do not come within the limit of a trial end the job with the error that says so."""
    cloud = start_cloud(stock={"*/*": "never"})
    tune(strategy="flex_start", max_wait_duration=1, parallel_trial_count=1, **L4)
    error = run_dag().error()
    assert isinstance(error, MaxWaitExceededError)
    assert "max_wait_duration" in str(error)
    assert [job.state for job in cloud.tuning_jobs()] == [JobState.JOB_STATE_FAILED]


@pytest.mark.parametrize("written", [{"max_failed_trial_count": 2}, {"config": {"maxFailedTrialCount": 2}}])
def test_a_limit_on_failures_that_is_there_is_not_asked_for(
    empty_cloud: Cloud, tune: Tune, run_dag: Callable[[], Run], written: dict[str, Any]
) -> None:
    """Wherever it was written."""
    tune("--fail_above=0", parallel_trial_count=1, **written)
    error = run_dag().error()
    assert type(error) is JobFailedError
    assert "set max_failed_trial_count" not in str(error)
    assert "2 of 4 trials done (2 infeasible)" in str(error)
    assert len(empty_cloud.tuning_jobs()) == 1


def test_an_id_that_renders_to_nothing_is_refused(
    cloud: Cloud, tune: Tune, dag: DAG, run_dag: Callable[[], Run]
) -> None:
    """The search would run, and cost, on machines of its own."""
    dag.render_template_as_native_obj = True
    tune(persistent_resource_id="{{ none }}")
    error = run_dag().error()
    assert isinstance(error, AirflowFailException)
    assert "persistent_resource_id = None" in str(error)
    assert not cloud.tuning_jobs()


def test_a_busy_resource_is_left_for_machines_on_demand(
    cloud: Cloud, tune: Tune, run_dag: Callable[[], Run], *, deferrable: bool
) -> None:
    """The same search runs there, and the result says so."""
    cloud.occupy()
    tune(persistent_resource_id="nightly", when_busy="on_demand", max_trial_count=2, deferrable=deferrable)
    result = run_dag().result()
    assert (result["fallback"], result["persistent_resource_id"]) == ("on_demand", None)
    assert result["trial_counts"]["succeeded"] == 2
    (job,) = cloud.tuning_jobs()
    assert job.labels["airflow_fallback"] == "on_demand"


def test_a_busy_resource_is_waited_for_so_long(cloud: Cloud, tune: Tune, run_dag: Callable[[], Run]) -> None:
    """Then the tuning job, of which no trial has started, is cancelled."""
    cloud.occupy()
    tune(persistent_resource_id="nightly", max_wait_duration=1)
    error = run_dag().error()
    assert isinstance(error, MaxWaitExceededError)
    assert [job.state for job in cloud.tuning_jobs()] == [JobState.JOB_STATE_CANCELLED]


def test_a_quota_that_is_used_up_says_which(
    empty_cloud: Cloud, relay: Relay, tune: Tune, run_dag: Callable[[], Run]
) -> None:
    """Flex Start draws on the preemptible ones, which nobody would guess."""
    text = "The following quota metrics exceed quota limits: custom_model_training_preemptible_nvidia_l4_gpus"
    relay.refuse("CreateHyperparameterTuningJob", code="RESOURCE_EXHAUSTED", text=text)
    tune(strategy="flex_start", **L4)
    error = run_dag().error()
    assert isinstance(error, QuotaExceededError)
    assert str(error).startswith("Vertex AI has not created the tuning job: ")
    assert "'preemptible' in their name" in str(error)
    assert not empty_cloud.tuning_jobs()


def test_the_log_is_that_of_the_trial_that_failed(
    empty_cloud: Cloud, tune: Tune, run_dag: Callable[[], Run], *, deferrable: bool
) -> None:
    """Not of one that was cancelled since, which is infeasible too."""
    tune(
        "--fail_above=1.5",
        "--seconds=60",
        parameters={"x": integer(1, 2)},
        algorithm="grid",
        max_trial_count=2,
        deferrable=deferrable,
    )
    text = str(run_dag().error())
    (job,) = empty_cloud.tuning_jobs()
    failed = next(trial for trial in job.trials if trial.parameters[0].value == 2)
    assert f"The log of trial {failed.id}, custom job {failed.custom_job.rpartition('/')[2]} ends:" in text
    assert "2.0 is too large" in text


def test_a_metric_that_the_code_does_not_report(
    empty_cloud: Cloud, tune: Tune, run_dag: Callable[[], Run]
) -> None:
    """The error says so."""
    tune(metrics={"accuracy": "maximize"}, max_trial_count=1, parallel_trial_count=1)
    text = str(run_dag().error())
    assert "Next step: have the code report a finite value of accuracy" in text
    assert len(empty_cloud.tuning_jobs()) == 1
