# SPDX-License-Identifier: Apache-2.0
"""Requests for tuning jobs that are refused, and why."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from google.api_core import exceptions

if TYPE_CHECKING:
    from tests.contract.conftest import Tuning

LOSS = {"metric_id": "loss", "goal": "MINIMIZE"}
X = {"parameter_id": "x", "double_value_spec": {"min_value": 0, "max_value": 10}}
KIND = {"parameter_id": "kind", "categorical_value_spec": {"values": ["a", "b"]}}
TPU = {
    "machine_spec": {"machine_type": "cloud-tpu"},
    "replica_count": 1,
    "container_spec": {"image_uri": "i"},
}


def discrete(*values: float) -> dict[str, Any]:
    """A study's parameters: one that is DISCRETE."""
    return {"parameters": [{"parameter_id": "x", "discrete_value_spec": {"values": list(values)}}]}


def child(parent: dict[str, Any], name: str = "y", **condition: list[Any]) -> dict[str, Any]:
    """A study's parameters: a parent, and one that depends on it."""
    ((field, values),) = condition.items()
    conditional = {field: {"values": values}, "parameter_spec": {**X, "parameter_id": name}}
    return {"parameters": [{**parent, "conditional_parameter_specs": [conditional]}]}


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"display_name": ""}, "hyperparameter_tuning_job.display_name; Message: Required field is not set"),
        ({"labels": {"Team": "a"}}, r"labels\['Team'\]"),
        ({"max_trial_count": 0}, "max_trial_count; Message: 0 is not greater than 0"),
        ({"parallel_trial_count": 2}, r"parallel_trial_count; Message: 2 is not between 1 and .*\(1\)"),
        ({"parallel_trial_count": 0}, "parallel_trial_count"),
        ({"max_failed_trial_count": 2}, "max_failed_trial_count; Message: 2 is not between 0"),
        ({"metrics": []}, "study_spec.metrics; Message: Required"),
        ({"metrics": [LOSS, LOSS]}, "Two metrics have the same metric_id"),
        ({"metrics": [{"metric_id": "the loss"}]}, r"metrics\[0\].metric_id; Message: 'the loss'"),
        ({"parameters": []}, "study_spec.parameters; Message: Required"),
        ({"parameters": [X, X]}, "Two parameters have the same parameter_id"),
        (
            {"parameters": [{"parameter_id": "x"}]},
            r"parameters\[0\]; Message: Required field .* one of double",
        ),
        ({"parameters": [{**X, "parameter_id": "the x"}]}, r"parameter_id; Message: 'the x'"),
        ({"parameters": [{**X, "scale_type": "UNIT_LOG_SCALE"}]}, "all greater than 0"),
        ({"parameters": [{**KIND, "scale_type": "UNIT_LINEAR_SCALE"}]}, "must not have a scale_type"),
        (
            {"parameters": [{**X, "double_value_spec": {"min_value": 2, "max_value": 1}}]},
            "min_value 2.0 is greater than max_value 1.0",
        ),
        (
            {"parameters": [{**X, "double_value_spec": {"max_value": float("inf")}}]},
            "Values must be finite",
        ),
        (
            {"parameters": [{**X, "double_value_spec": {"max_value": 1, "default_value": 0.5}}]},
            "default_value is not supported",
        ),
        ({"parameters": [{**KIND, "categorical_value_spec": {}}]}, "values; Message: Required"),
        ({"parameters": [{**KIND, "categorical_value_spec": {"values": ["a", "a"]}}]}, "are the same"),
        (discrete(), "values; Message: Required"),
        (discrete(2, 1), "increasing order"),
        (discrete(1, 1 + 1e-11), "at least 1e-10 apart"),
        (discrete(*range(1001)), "1001 values; at most 1000"),
        (child(X, parent_int_values=[1]), "A DOUBLE parameter has no conditions"),
        (child(KIND, parent_int_values=[1]), "needs values in parent_categorical_values"),
        (child(KIND, parent_categorical_values=["c"]), "are not all values of 'kind'"),
        (child(KIND, "kind", parent_categorical_values=["a"]), "'kind' is the id of another parameter"),
        ({"algorithm": "GRID_SEARCH"}, "GRID_SEARCH does not support DOUBLE parameters such as 'x'"),
        (
            {"algorithm": "GRID_SEARCH", **child(KIND, parent_categorical_values=["a"])},
            "GRID_SEARCH does not support DOUBLE parameters such as 'y'",
        ),
        ({"algorithm": 99}, "99 is not a known algorithm"),
        ({"measurement_selection_type": 99}, "99 is not a known measurement"),
        ({"worker_pool_specs": []}, "trial_job_spec.worker_pool_specs; Message: Required"),
        ({"worker_pool_specs": [TPU]}, "does not support TPUs"),
        (
            {"base_output_directory": {"output_uri_prefix": "out"}},
            "trial_job_spec.base_output_directory.output_uri_prefix",
        ),
        ({"scheduling": {"strategy": "FLEX_START"}}, "FLEX_START needs one of"),
    ],
)
def test_what_makes_no_sense_is_refused(tuning: Tuning, fields: dict[str, Any], words: str) -> None:
    """With the field and what is wrong with it."""
    with pytest.raises(exceptions.InvalidArgument, match=words):
        tuning.create(**fields)


def test_all_problems_are_told_at_once(tuning: Tuning) -> None:
    """Of study, counts and trials."""
    with pytest.raises(exceptions.InvalidArgument) as refusal:
        tuning.create(metrics=[], max_trial_count=0, worker_pool_specs=[])
    assert [words in str(refusal.value) for words in ("1.Field", "4.Field", "5.Field")] == [True, True, False]


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"decay_curve_stopping_spec": {}}, "decay_curve_stopping_spec is not emulated"),
        ({"convex_automated_stopping_spec": {}}, "convex_automated_stopping_spec is not emulated"),
        ({"study_stopping_config": {"max_num_trials": 3}}, "study_stopping_config is not emulated"),
        ({"metrics": [{**LOSS, "safety_config": {}}]}, "safety_config is not emulated"),
        (
            {"median_automated_stopping_spec": {}, "metrics": [LOSS, {"metric_id": "accuracy"}]},
            "with several metrics is not emulated",
        ),
        (
            {
                "worker_pool_specs": [
                    {
                        "machine_spec": {"machine_type": "n1-standard-4"},
                        "replica_count": 1,
                        "python_package_spec": {"executor_image_uri": "i", "python_module": "m"},
                    }
                ]
            },
            "python_package_spec is not emulated",
        ),
    ],
)
def test_what_is_not_emulated_says_so(tuning: Tuning, fields: dict[str, Any], words: str) -> None:
    """The real service can do it."""
    with pytest.raises(exceptions.MethodNotImplemented, match=words):
        tuning.create(**fields)
