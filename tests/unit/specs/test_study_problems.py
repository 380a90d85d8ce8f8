# SPDX-License-Identifier: Apache-2.0
"""What is wrong with a search, told by field."""

from __future__ import annotations

from typing import Any

import pytest
from google.cloud.aiplatform import hyperparameter_tuning as sdk
from searches import parameter, problem_of, problems_of

from airflow_vertex_persistent.specs.study import (
    categorical,
    discrete,
    double,
    integer,
    plain_parameter,
)


@pytest.mark.parametrize(
    ("written", "told"),
    [
        (
            double(2, 1),
            "parameters['p'].double_value_spec.max_value = 1.0: must not be less than min_value, 2",
        ),
        (double("a", 1), "parameters['p'].double_value_spec.min_value = 'a': write a number"),
        (
            double(0, 1, scale="log"),
            "parameters['p'].scale_type = 'log': needs values that are all",
        ),
        (double(1, 2, scale="cubic"), "parameters['p'].scale_type = 'cubic': write 'linear', 'log' or"),
        (integer(1, "2.5"), "parameters['p'].integer_value_spec.max_value = '2.5': write a whole number"),
        (discrete([]), "parameters['p'].discrete_value_spec.values: write 1 to 1000 numbers"),
        (discrete([1, 1]), "parameters['p'].discrete_value_spec.values: write them in increasing order"),
        (categorical(["a", "a"]), "parameters['p'].categorical_value_spec.values = 'a': is there twice"),
        (categorical([]), "parameters['p'].categorical_value_spec.values: write at least one text"),
        ({**categorical(["a"]), "scale_type": "log"}, "leave it out: texts have no scale"),
        ({}, "parameters['p']: write one of double(...), integer(...)"),
        (7, "parameters['p']: write one of double(...), integer(...)"),
        (double(0, 1, parent_values=["a"]), "parameters['p'].parent_values: goes with a child"),
        (
            {"double_value_spec": {"min_value": 0, "max_value": 1, "default_value": 0}},
            "a tuning job has none",
        ),
        (
            plain_parameter(
                sdk.DoubleParameterSpec(
                    min=0,
                    max=1,
                    scale="linear",
                    conditional_parameter_spec={
                        "c": sdk.DoubleParameterSpec(min=0, max=1, scale="linear", parent_values=[1])
                    },
                )
            ),
            "parameters['p'].children['c']: only integer, discrete and categorical parameters have children",
        ),
        (
            categorical(["a"], children={"c": double(0, 1)}),
            "parameters['p'].children['c'].parent_values: write the values of the parent",
        ),
        (
            discrete([16, "x"], children={"c": integer(1, 2, parent_values=[32])}),
            "values[1] = 'x': write a number",
        ),
        (
            discrete([16, 32], children={"c": integer(1, 2, parent_values=["x"])}),
            "parameters['p'].children['c'].parent_values[0] = 'x': write a number",
        ),
        (
            {
                **integer(1, 3),
                "conditional_parameter_specs": [
                    {
                        "parameter_spec": {"parameter_id": "c", **double(0, 1)},
                        "parent_int_values": {"values": [1]},
                        "parent_discrete_values": {"values": [1]},
                    }
                ],
            },
            "does not go with",
        ),
        (
            integer(1, 3, children={"c": double(0, 1, parent_values=[4])}),
            "parameters['p'].children['c'].parent_values = 4: is no value of the parent: 1 to 3",
        ),
        (categorical(["a"], children={"c": 0.1}), "parameters['p'].children['c']: write one of double(...)"),
        (
            categorical(["a"], children={"c": double(0, 1, parent_values="a")}),
            "parameters['p'].children['c'].parent_values: write a list",
        ),
        (
            categorical(
                ["a"],
                children={
                    "c": integer(1, 2, parent_values=["a"], children={"d": double(0, "x", parent_values=[1])})
                },
            ),
            "parameters['p'].children['c'].children['d'].double_value_spec.max_value = 'x': write a number",
        ),
        (
            categorical(["a"], children={"p": double(0, 1, parent_values=["a"])}),
            "parameters['p'].children['p']: a trial has another parameter of this name",
        ),
        (
            categorical("{{ params.kinds }}"),
            "values: write a list; of a template that makes one, set render_",
        ),
    ],
)
def test_a_parameter_that_is_wrong(written: Any, told: str) -> None:
    """Told by field, with the fix."""
    assert told in problem_of(parameters={"p": written})


def test_a_condition_that_is_wrong() -> None:
    """It is told once, and a field that there is not by the name that was written."""
    told = "parameters['p'].children[0]: write a mapping"
    assert told in problem_of(parameters={"p": {**integer(1, 3), "conditional_parameter_specs": ["c"]}})
    misspelt = {**integer(1, 3), "conditional_parameter_specs": [{"parameter_specs": {}}]}
    assert problems_of(parameters={"p": misspelt})[0].startswith(
        "parameters['p'].conditional_parameter_specs[0].parameter_specs: ConditionalParameterSpec has no such"
    )


def test_a_child_with_the_name_of_another_parameter() -> None:
    """No trial can have two values of one name; two that never go together may share it."""
    child = double(0, 1, parent_values=["a"])
    kinds = categorical(["a", "b"], children={"rate": child})
    told = "parameters['kind'].children['rate']: a trial has another parameter of this name"
    assert told in problem_of(parameters={"kind": kinds, "rate": double(0, 1)})
    either = [
        {
            "parameter_spec": {"parameter_id": "rate", **double(0, 1)},
            "parent_categorical_values": {"values": [one]},
        }
        for one in ("a", "b")
    ]
    kind = {**categorical(["a", "b"]), "conditional_parameter_specs": either}
    assert len(parameter(kind)["conditional_parameter_specs"]) == 2


@pytest.mark.parametrize(
    ("wanted", "told"),
    [
        ({"metrics": {}}, "metrics: write what to make larger or smaller"),
        ({"metrics": {"a b": "maximize"}}, "metrics['a b'].metric_id = 'a b': write a name without spaces"),
        ({"metrics": {"a": "up"}}, "metrics['a'].goal = 'up': write 'maximize' or 'minimize'"),
        ({"metrics": [{"metric_id": "a"}, {"metric_id": "a"}]}, "metrics = 'a': is there twice"),
        ({"parameters": None}, "parameters: write what to search"),
        (
            {"algorithm": "grid"},
            "algorithm = 'grid': a grid search needs values that can be counted; rate is",
        ),
        ({"algorithm": "best"}, "algorithm = 'best': write 'bayesian', 'grid' or 'random'"),
        ({"measurement_selection": "mean"}, "measurement_selection = 'mean': write 'last' or 'best'"),
        ({"early_stopping": "mad"}, "early_stopping = 'mad': write 'median', 'decay_curve'"),
        (
            {"early_stopping": {"median_stopping_spec": {}}},
            "early_stopping.median_stopping_spec: it has no such field; did you mean 'median_automated_stopping",
        ),
        (
            {"early_stopping": {"median_automated_stopping_spec": {"use_elapsed": True}}},
            "early_stopping.median_automated_stopping_spec.use_elapsed: MedianAutomatedStoppingSpec has no such",
        ),
        ({"early_stopping": 7}, "or a mapping of one of median_automated_stopping_spec"),
        (
            {"metrics": "{{ params.metrics }}"},
            "like {'accuracy': 'maximize'}, not a text; of a template that makes one, set render_template_as_n",
        ),
        ({"max_trial_count": None}, "max_trial_count = None: write a whole number, 1 or more"),
        (
            {"max_trial_count": "four", "parallel_trial_count": 2},
            "max_trial_count = 'four': write a whole number, 1 or more",
        ),
        (
            {"parallel_trial_count": 11},
            "parallel_trial_count = 11: must not be more than max_trial_count, 10",
        ),
        ({"max_failed_trial_count": 11}, "max_failed_trial_count = 11: must not be more than"),
        (
            {"accelerator_type": "TPU_V3", "accelerator_count": 8},
            "accelerator_type = 'TPU_V3': use GPUs or none",
        ),
        ({"machine_type": "ct5lp-hightpu-4t"}, "machine_type = 'ct5lp-hightpu-4t': use GPUs or none"),
        (
            {"config": {"studySpec": {"decayCurveStoppingSpec": {}, "medianAutomatedStoppingSpec": {}}}},
            "does not go with",
        ),
        ({"config": {"studySpec": 7}}, "config.study_spec: write a mapping"),
        (
            {"config": {"studySpec": {}, "maxFailedTrialsCount": 2}},
            "HyperparameterTuningJob has no such field; did you mean 'max_failed_trial_count'?",
        ),
        ({"config": {"studySpec": {}, "jobSpec": {}}}, "config.jobSpec: HyperparameterTuningJob has no such"),
        ({"config": {"workerPoolSpec": []}}, "did you mean 'worker_pool_specs'?"),
        ({"config": {"studySpecs": {}, "displayName": "d"}}, "did you mean 'study_spec'?"),
        (
            {"config": {"studySpec": {"studyStoppingConfig": {"minNumTrials": {"value": 5}}}}},
            "study_stopping_config.min_num_trials: write a whole number",
        ),
        (
            {
                "config": {
                    "studySpec": {
                        "studyStoppingConfig": {"maximumRuntimeConstraint": {"endTime": "tomorrow"}}
                    }
                }
            },
            "end_time = 'tomorrow': write a time with its zone",
        ),
    ],
)
def test_a_search_that_is_wrong(wanted: dict[str, Any], told: str) -> None:
    """Told by field, with the fix."""
    assert any(told in problem for problem in problems_of(**wanted))
