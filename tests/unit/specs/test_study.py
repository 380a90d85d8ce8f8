# SPDX-License-Identifier: Apache-2.0
"""What a user writes of a search, and the tuning job that it becomes."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from google.cloud.aiplatform import hyperparameter_tuning as sdk
from google.cloud.aiplatform_v1.types import HyperparameterTuningJob, StudySpec
from google.protobuf.json_format import ParseDict
from searches import SEARCH, WORK, body, parameter, problem_of

from airflow_vertex_persistent.operators.labels import fingerprint
from airflow_vertex_persistent.specs.custom_job import JobRequest
from airflow_vertex_persistent.specs.study import (
    categorical,
    discrete,
    double,
    integer,
    plain_parameter,
    plain_parameters,
)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (double(0.5, 2), sdk.DoubleParameterSpec(min=0.5, max=2, scale="unspecified")),
        (double("0.5", "2", scale="log"), sdk.DoubleParameterSpec(min=0.5, max=2, scale="log")),
        (
            integer(1, 4, scale="reverse_log"),
            sdk.IntegerParameterSpec(min=1, max=4, scale="reverse_log"),
        ),
        (discrete([1, "2", 4], scale="linear"), sdk.DiscreteParameterSpec(values=[1, 2, 4], scale="linear")),
        (categorical(["a", "b"]), sdk.CategoricalParameterSpec(values=["a", "b"])),
    ],
)
def test_functions_say_what_the_sdk_says(ours: Any, theirs: Any) -> None:
    """A parameter of ours is the message that the SDK's own object makes, and so is that object with us."""
    message = HyperparameterTuningJob.pb()().study_spec.parameters.add()
    expected = type(message)()
    expected.CopyFrom(type(theirs._to_parameter_spec("p")).pb(theirs._to_parameter_spec("p")))
    for written in (ours, plain_parameter(theirs)):
        found = ParseDict({"parameter_id": "p", **parameter(written)}, type(message)())
        assert found == expected


def test_children_go_with_values_of_their_parent() -> None:
    """However deep, ours and the SDK's, in the field that goes with the kind of the parent."""
    depth = integer(1, 3, parent_values=["tree"], children={"leaf": double(0, 1, parent_values=[2, 3])})
    read = parameter(categorical(["tree", "net"], children={"depth": depth}))
    (condition,) = read["conditional_parameter_specs"]
    assert condition["parent_categorical_values"] == {"values": ["tree"]}
    assert condition["parameter_spec"]["parameter_id"] == "depth"
    (inner,) = condition["parameter_spec"]["conditional_parameter_specs"]
    assert inner["parent_int_values"] == {"values": [2, 3]}
    theirs = sdk.DiscreteParameterSpec(
        values=[1, 2],
        scale="linear",
        conditional_parameter_spec={
            "child": sdk.DoubleParameterSpec(min=0, max=1, scale="linear", parent_values=[2])
        },
    )
    (condition,) = parameter(plain_parameter(theirs))["conditional_parameter_specs"]
    assert condition["parent_discrete_values"] == {"values": [2.0]}


def test_the_api_s_own_dictionaries_are_good_too() -> None:
    """Lists of metrics and parameters, in camel case, and a goal that is not said."""
    made = body(
        metrics=[{"metricId": "accuracy"}, {"metric_id": "loss", "goal": "MINIMIZE"}],
        parameters=[{"parameterId": "p", "doubleValueSpec": {"minValue": 0, "maxValue": 1}}],
    )["study_spec"]
    assert made["metrics"] == [
        {"metric_id": "accuracy", "goal": "MAXIMIZE"},
        {"metric_id": "loss", "goal": "MINIMIZE"},
    ]
    assert made["parameters"] == [
        {"parameter_id": "p", "double_value_spec": {"min_value": 0.0, "max_value": 1.0}}
    ]


@pytest.mark.parametrize(
    ("wanted", "field", "value"),
    [
        ({"algorithm": "bayesian"}, "algorithm", "ALGORITHM_UNSPECIFIED"),
        ({"algorithm": "RANDOM_SEARCH"}, "algorithm", "RANDOM_SEARCH"),
        ({"measurement_selection": "best"}, "measurement_selection_type", "BEST_MEASUREMENT"),
        ({"early_stopping": "median"}, "median_automated_stopping_spec", {}),
        (
            {"early_stopping": {"convexAutomatedStoppingSpec": {"minStepCount": "3"}}},
            "convex_automated_stopping_spec",
            {"min_step_count": 3},
        ),
    ],
)
def test_how_it_is_searched(wanted: dict[str, Any], field: str, value: Any) -> None:
    """Short words and the API's names say the same."""
    assert body(**wanted)["study_spec"][field] == value


def test_a_whole_body_as_gcloud_takes_it() -> None:
    """What is written as a parameter wins; the rest is the body's."""
    pool = {"machineSpec": {"machineType": "n1-standard-4"}, "containerSpec": {"imageUri": "i"}}
    config = {
        "displayName": "from-file",
        "labels": {"team": "ml"},
        "maxTrialCount": 7,
        "parallelTrialCount": 2,
        "studySpec": {
            "metrics": [{"metricId": "loss", "goal": "MINIMIZE"}],
            "parameters": [{"parameterId": "p", "integerValueSpec": {"minValue": "1", "maxValue": "4"}}],
            "algorithm": "GRID_SEARCH",
        },
        "trialJobSpec": {"workerPoolSpecs": [{**pool, "replicaCount": 1}]},
    }
    work = dict.fromkeys((*WORK, *SEARCH)) | {"region": "europe-west4"}
    made = body(**work, config=config)
    assert (made["display_name"], made["labels"]) == ("from-file", {"team": "ml"})
    assert (made["max_trial_count"], made["parallel_trial_count"]) == (7, 2)
    assert made["study_spec"]["algorithm"] == "GRID_SEARCH"
    assert made["trial_job_spec"]["worker_pool_specs"][0]["container_spec"] == {"image_uri": "i"}
    made = body(**work | {"max_trial_count": "9", "metrics": SEARCH["metrics"]}, config=config)
    assert made["max_trial_count"] == 9
    assert made["study_spec"]["metrics"] == [{"metric_id": "accuracy", "goal": "MAXIMIZE"}]


def test_what_is_not_said_is_the_service_s_to_say() -> None:
    """Nothing but one trial at a time is filled in."""
    made = body()
    assert made["parallel_trial_count"] == 1
    assert "max_failed_trial_count" not in made
    assert set(made["study_spec"]) == {"metrics", "parameters"}
    assert body(max_failed_trial_count=0)["max_failed_trial_count"] == 0


def test_early_stopping_wins_over_the_body() -> None:
    """Whichever rule that has, in whichever spelling."""
    for name in ("decayCurveStoppingSpec", "median_automated_stopping_spec", "medianAutomatedStoppingSpec"):
        study = body(early_stopping="median", config={"studySpec": {name: {}}})["study_spec"]
        assert study["median_automated_stopping_spec"] == {}
        assert "decay_curve_stopping_spec" not in study


def test_a_rule_without_settings_is_a_rule() -> None:
    """As the parameter, which is there for nothing else; null in a body of the API is no rule."""
    rule = "median_automated_stopping_spec"
    assert body(early_stopping={rule: None})["study_spec"][rule] == {}
    assert rule not in body(config={"studySpec": {rule: None}})["study_spec"]


def test_when_a_study_stops() -> None:
    """Numbers that may be missing, and times, are written as the API's JSON has them."""
    rule = {
        "minNumTrials": 5,
        "max_num_trials": "9",
        "shouldStopAsap": "true",
        "maximumRuntimeConstraint": {"endTime": "2026-11-22T01:00:00Z"},
    }
    if "study_stopping_config" not in StudySpec.pb().DESCRIPTOR.fields_by_name:
        pytest.skip("the installed client does not know study_stopping_config")
    read = body(config={"studySpec": {"studyStoppingConfig": rule}})["study_spec"]["study_stopping_config"]
    assert (read["min_num_trials"], read["max_num_trials"], read["should_stop_asap"]) == (5, 9, True)
    end = read["maximum_runtime_constraint"]["end_time"]
    assert datetime.fromisoformat(end) == datetime(2026, 11, 22, 1, tzinfo=UTC)


def test_a_parameter_that_says_its_own_id() -> None:
    """Under its own name it is the same, in both spellings; under another one that is told."""
    for field in ("parameter_id", "parameterId"):
        assert parameter({field: "p", **double(0, 1)}) == parameter(double(0, 1))
        told = problem_of(parameters={"p": {field: "q", **double(0, 1)}})
        assert told.startswith("parameters['p'].parameter_id: is given twice")
        child = {field: "c", **double(0, 1, parent_values=["a"])}
        assert parameter(categorical(["a"], children={"c": child}))


def test_what_a_custom_job_asks_for_is_not_changed_by_tuning() -> None:
    """A job that runs while this package is brought up to date is still the one that was asked for."""
    request = JobRequest({"display_name": "j"}, (None,), True, "europe-west4")
    assert fingerprint({"job": request.asked}) == fingerprint(
        {"job": [{"display_name": "j"}, [None], True, "europe-west4"]}
    )
    tuning = request._replace(tuning={"max_trial_count": 1})
    assert fingerprint({"job": tuning.asked}) != fingerprint({"job": request.asked})


def test_what_is_no_mapping_of_parameters_stays_as_it_is() -> None:
    """A list of the API, or a template that renders to one."""
    assert plain_parameters("{{ params.search }}") == "{{ params.search }}"
    assert plain_parameters([{"parameter_id": "p"}]) == [{"parameter_id": "p"}]
