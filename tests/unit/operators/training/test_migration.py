# SPDX-License-Identifier: Apache-2.0
"""What becomes of the arguments of the Google provider's tuning operator."""

from __future__ import annotations

import inspect
from typing import Any

import pytest
from airflow.providers.google.cloud.operators.vertex_ai.hyperparameter_tuning_job import (
    CreateHyperparameterTuningJobOperator,
)
from airflow.sdk import DAG
from google.cloud.aiplatform import hyperparameter_tuning as hpt
from google.cloud.aiplatform_v1.types import AcceleratorType, ContainerSpec, MachineSpec, WorkerPoolSpec
from jinja2 import Template

from airflow_vertex_persistent.operators.hyperparameter_tuning import HyperparameterTuningOperator
from airflow_vertex_persistent.operators.training.migration import (
    RENAMED,
    WITHOUT_EFFECT,
    our_arguments,
    plain,
)
from airflow_vertex_persistent.specs.study import double

METRICS = {"loss": "minimize"}
KEY = "projects/acme/locations/europe-west4/keyRings/ring/cryptoKeys/key"
IMAGE = "europe-west4-docker.pkg.dev/acme/training/small:1"
GOOGLES: dict[str, Any] = {
    "metric_spec": METRICS,
    "parameter_spec": {"x": {"double_value_spec": {"min_value": 0, "max_value": 1}}},
    "search_algorithm": "random",
    "hyperparameter_tuning_job_labels": {"team": "ml"},
    "hyperparameter_tuning_job_encryption_spec_key_name": KEY,
    "timeout": 3600,
}


def google_parameters() -> dict[str, inspect.Parameter]:
    """Return the parameters of Google's operator by name."""
    parameters = dict(inspect.signature(CreateHyperparameterTuningJobOperator.__init__).parameters)
    return {name: one for name, one in parameters.items() if name not in {"self", "kwargs"}}


def our_parameters() -> set[str]:
    """Return the names of everything that our operator is given, whichever of its classes has it."""
    return {
        name
        for base in HyperparameterTuningOperator.__mro__
        for name in inspect.signature(base.__init__).parameters  # type: ignore[misc]
    }


def test_every_argument_of_google_has_a_place() -> None:
    """Google's operator has none, in the version that is installed, that ours would refuse."""
    known = {*RENAMED, *WITHOUT_EFFECT, "staging_bucket"}
    assert known <= set(google_parameters())
    assert set(google_parameters()) - known <= our_parameters()
    assert set(RENAMED.values()) <= our_parameters()


def test_the_default_of_the_measurement_is_that_of_google() -> None:
    """A task that was written for Google's operator and does not say it gets what it had."""
    default = google_parameters()["measurement_selection"].default
    assert our_arguments(GOOGLES)["measurement_selection"] == default


@pytest.mark.parametrize("name", sorted(GOOGLES))
def test_a_name_of_google_becomes_ours(name: str) -> None:
    """With its value, and Google's name is gone."""
    arguments = our_arguments(GOOGLES)
    assert arguments[RENAMED[name]] == GOOGLES[name]
    assert name not in arguments


@pytest.mark.parametrize("name", sorted(GOOGLES))
def test_both_names_of_one_thing_are_refused(name: str) -> None:
    """The error says which one to drop."""
    with pytest.raises(ValueError, match=rf"Task 'tune' has both {RENAMED[name]} and .*: drop {name}\.$"):
        our_arguments({"task_id": "tune", name: GOOGLES[name], RENAMED[name]: GOOGLES[name]})


@pytest.mark.parametrize(
    "nothing", [{name: None} for name in RENAMED] + [{"timeout": 0}, {"staging_bucket": None}]
)
def test_what_google_takes_for_nothing_is_nothing(nothing: dict[str, Any]) -> None:
    """None goes with our name beside it, and so do 0 seconds."""
    ours = {"metrics": METRICS, "max_run_duration": 60}
    assert our_arguments({**ours, **nothing}) == ours


def test_a_task_of_our_own_stays_as_it_is() -> None:
    """Nothing is added to it: the service decides which measurement counts."""
    ours = {"metrics": METRICS, "measurement_selection": None, "default_args": {"timeout": 60}}
    assert our_arguments(ours) == ours


@pytest.mark.parametrize("told", ["last", "best"])
def test_a_measurement_that_is_told_stays(told: str) -> None:
    """The default is for those who say nothing."""
    assert our_arguments({**GOOGLES, "measurement_selection": told})["measurement_selection"] == told


def test_arguments_without_effect_are_dropped() -> None:
    """The SDK sends neither labels nor key of the custom job with a tuning job."""
    given = {"custom_job_labels": {"a": "b"}, "custom_job_encryption_spec_key_name": KEY}
    assert our_arguments(given) == {}


@pytest.mark.parametrize(
    ("bucket", "root"),
    [
        ("models", "gs://models"),
        ("gs://models/", "gs://models"),
        ("gs://models/staging", "gs://models/staging"),
        ("{{ params.bucket }}", "{{ params.bucket }}"),
    ],
)
def test_without_a_folder_one_in_the_staging_bucket_is_taken(bucket: str, root: str) -> None:
    """By DAG, task, run and map index, for a retry takes over what is in it."""
    folder = our_arguments({"staging_bucket": bucket})["base_output_dir"]
    assert folder.startswith(f"{root}/")
    below = Template(folder.removeprefix(root))
    task = {"dag": {"dag_id": "nightly"}, "task": {"task_id": "tune"}, "run_id": "scheduled"}
    assert below.render(**task, ti={"map_index": -1}) == "/aiplatform-custom-job/nightly/tune/scheduled"
    assert below.render(**task, ti={"map_index": 2}) == "/aiplatform-custom-job/nightly/tune/scheduled/2"


@pytest.mark.parametrize(
    "given",
    [{"base_output_dir": "gs://models/a"}, {"default_args": {"base_output_dir": "gs://models/a"}}],
)
def test_a_folder_wins_over_the_staging_bucket(given: dict[str, Any]) -> None:
    """As with Google, where a staging bucket must always be given."""
    assert our_arguments({**given, "staging_bucket": "models"}) == given


def test_default_arguments_of_google_count_for_a_task_of_google() -> None:
    """Airflow itself hands on those of our names only."""
    defaults = {"staging_bucket": "gs://models", "timeout": 60, "search_algorithm": "grid"}
    arguments = our_arguments({**GOOGLES, "default_args": defaults})
    assert arguments["base_output_dir"].startswith("gs://models/")
    assert (arguments["max_run_duration"], arguments["algorithm"]) == (3600, "random")


def test_an_argument_wins_over_a_default_of_google() -> None:
    """By whichever name it is given."""
    arguments = our_arguments(
        {"metric_spec": METRICS, "max_run_duration": 60, "default_args": {"timeout": 30}}
    )
    assert arguments["max_run_duration"] == 60


def test_messages_become_dictionaries() -> None:
    """Enums by name, fields that say nothing left out, wherever the message stands."""
    machine = MachineSpec(machine_type="g2-standard-4", accelerator_type=AcceleratorType.NVIDIA_L4)
    container = ContainerSpec(image_uri=IMAGE, args=["--a=1"], env=[{"name": "A", "value": "1"}])
    pool = {
        "machine_spec": {"machine_type": "g2-standard-4", "accelerator_type": "NVIDIA_L4"},
        "container_spec": {"image_uri": IMAGE, "args": ["--a=1"], "env": [{"name": "A", "value": "1"}]},
    }
    assert plain([WorkerPoolSpec(machine_spec=machine, container_spec=container)]) == [pool]
    assert plain([{"machine_spec": machine, "container_spec": container}]) == [pool]
    assert plain({"accelerator_type": AcceleratorType.NVIDIA_L4}) == {"accelerator_type": "NVIDIA_L4"}


@pytest.mark.parametrize("value", ["{{ params.pools }}", None, 3, 0.5, True, b"x", object()])
def test_all_else_stays(value: object) -> None:
    """Templates above all."""
    assert plain(value) is value


def operator(**arguments: Any) -> HyperparameterTuningOperator:
    """Make a task in a DAG of its own."""
    defaults = {"region": "europe-west4", "staging_bucket": "gs://models"}
    with DAG("nightly", schedule=None, default_args=defaults):
        return HyperparameterTuningOperator(task_id="tune", **arguments)


def test_the_operator_has_what_was_meant() -> None:
    """Its attributes, which templates are rendered in, are those of our names."""
    spec = {"x": hpt.DoubleParameterSpec(min=0, max=1, scale="linear")}
    task = operator(**{**GOOGLES, "parameter_spec": spec}, max_failed_trial_count=0)
    assert task.metrics == METRICS
    assert task.parameters == {"x": double(0, 1, scale="linear")}
    assert (task.algorithm, task.measurement_selection) == ("random", "best")
    assert (task.labels, task.encryption_spec_key_name) == ({"team": "ml"}, KEY)
    assert (task.max_run_duration, task.max_failed_trial_count) == (3600, 0)
    assert str(task.base_output_dir).startswith("gs://models/")
    assert all(hasattr(task, field) for field in task.template_fields)


def test_the_operator_refuses_both_names_at_once() -> None:
    """When the DAG file is read, as Airflow does with an unknown argument."""
    with pytest.raises(ValueError, match="drop metric_spec"):
        operator(metrics=METRICS, metric_spec=METRICS)


def test_an_unknown_argument_is_still_one() -> None:
    """Airflow's own error names it."""
    with pytest.raises(TypeError, match="metric_specs"):
        operator(metric_specs=METRICS)


def test_a_mapped_task_wants_our_names() -> None:
    """Airflow refuses the others before the operator sees them."""
    with pytest.raises(TypeError, match="unexpected keyword argument 'metric_spec'"):
        HyperparameterTuningOperator.partial(task_id="tune", region="europe-west4", metric_spec=METRICS)
