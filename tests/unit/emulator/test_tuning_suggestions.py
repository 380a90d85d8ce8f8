# SPDX-License-Identifier: Apache-2.0
"""What tuning jobs try next."""

from __future__ import annotations

import subprocess
import sys
from itertools import islice
from statistics import median
from typing import Any

import pytest
from google.cloud.aiplatform_v1.types import StudySpec

from airflow_vertex_persistent.emulator.tuning.advisors import Advisor, advisor_for
from airflow_vertex_persistent.emulator.tuning.space import Value, grid
from airflow_vertex_persistent.emulator.tuning.trial_job import flags

LOSS = [{"metric_id": "loss", "goal": "MINIMIZE"}]
RANDOM = StudySpec.Algorithm.RANDOM_SEARCH
GRID = StudySpec.Algorithm.GRID_SEARCH


def double(low: float, high: float, scale: str = "UNIT_LINEAR_SCALE", name: str = "x") -> dict[str, Any]:
    """A DOUBLE parameter."""
    return {
        "parameter_id": name,
        "double_value_spec": {"min_value": low, "max_value": high},
        "scale_type": scale,
    }


def integer(low: int, high: int, scale: str = "UNIT_LINEAR_SCALE", name: str = "n") -> dict[str, Any]:
    """An INTEGER parameter."""
    return {
        "parameter_id": name,
        "integer_value_spec": {"min_value": low, "max_value": high},
        "scale_type": scale,
    }


MODEL = {
    "parameter_id": "model",
    "categorical_value_spec": {"values": ["linear", "tree", "forest"]},
    "conditional_parameter_specs": [
        {
            "parent_categorical_values": {"values": ["tree", "forest"]},
            "parameter_spec": {
                **integer(1, 2, name="depth"),
                "conditional_parameter_specs": [
                    {
                        "parent_int_values": {"values": [2]},
                        "parameter_spec": {
                            "parameter_id": "leaf",
                            "discrete_value_spec": {"values": [0.5, 1.5]},
                        },
                    }
                ],
            },
        },
        {
            "parent_categorical_values": {"values": ["linear"]},
            "parameter_spec": {
                "parameter_id": "penalty",
                "categorical_value_spec": {"values": ["l1", "l2"]},
            },
        },
    ],
}


def study(*parameters: dict[str, Any], **fields: Any) -> StudySpec:
    """A study over some parameters."""
    return StudySpec({"metrics": LOSS, **fields, "parameters": list(parameters)})


def asked(advisor: Advisor, count: int = 60) -> list[dict[str, Value]]:
    """Ask for trials without telling of any."""
    return [values for _ in range(count) if (values := advisor.ask()) is not None]


@pytest.mark.parametrize("algorithm", [StudySpec.Algorithm.ALGORITHM_UNSPECIFIED, RANDOM])
def test_values_are_those_of_the_space(algorithm: int) -> None:
    """Of each kind, within its bounds, of the right type."""
    parameters = [
        double(-1, 1),
        integer(2, 4),
        {"parameter_id": "units", "discrete_value_spec": {"values": [16, 32, 256]}},
        {"parameter_id": "kind", "categorical_value_spec": {"values": ["a", "b"]}},
    ]
    found = asked(advisor_for(study(*parameters, algorithm=algorithm), 0))
    assert all(isinstance(one["x"], float) and -1 <= one["x"] <= 1 for one in found)
    assert {one["n"] for one in found} == {2, 3, 4}
    assert {one["units"] for one in found} == {16.0, 32.0, 256.0}
    assert {one["kind"] for one in found} == {"a", "b"}
    assert all(isinstance(one["n"], int) and isinstance(one["units"], float) for one in found)


@pytest.mark.parametrize(
    ("scale", "low", "high"),
    [("UNIT_LINEAR_SCALE", 300, 700), ("UNIT_LOG_SCALE", 10, 100), ("UNIT_REVERSE_LOG_SCALE", 901, 991)],
)
def test_scales_say_where_most_values_are(scale: str, low: float, high: float) -> None:
    """In the middle, at the bottom, or at the top: the median tells."""
    found = asked(
        advisor_for(study(double(1, 1000, scale), integer(1, 1000, scale), algorithm=RANDOM), 0), 200
    )
    for name in ("x", "n"):
        values = [float(one[name]) for one in found]
        assert low < median(values) < high
        assert all(1 <= value <= 1000 for value in values)


def test_one_value_is_a_space_too() -> None:
    """Bounds that are the same leave no choice."""
    found = asked(advisor_for(study(double(0.5, 0.5, "UNIT_LOG_SCALE"), integer(3, 3)), 0), 15)
    assert found == [{"x": 0.5, "n": 3}] * 15


def test_parameters_can_depend_on_others() -> None:
    """They are there when their parent has one of their values, and only then."""
    found = asked(advisor_for(study(MODEL), 0))
    assert {one["model"] for one in found} == {"linear", "tree", "forest"}
    for one in found:
        assert ("penalty" in one) == (one["model"] == "linear")
        assert ("depth" in one) == (one["model"] != "linear")
        assert ("leaf" in one) == (one.get("depth") == 2)


def test_the_same_id_may_mean_another_range_under_another_value() -> None:
    """Children with one id, of which only one is ever there."""
    parent = {
        "parameter_id": "kind",
        "categorical_value_spec": {"values": ["low", "high"]},
        "conditional_parameter_specs": [
            {"parent_categorical_values": {"values": ["low"]}, "parameter_spec": integer(1, 2)},
            {"parent_categorical_values": {"values": ["high"]}, "parameter_spec": integer(8, 9)},
        ],
    }
    found = asked(advisor_for(study(parent), 0))
    assert {(one["kind"], one["n"]) for one in found} == {("low", 1), ("low", 2), ("high", 8), ("high", 9)}


def test_a_grid_is_gone_through_once() -> None:
    """Each point, the last parameter fastest, with what depends on others."""
    advisor = advisor_for(study(MODEL, algorithm=GRID), 0)
    assert asked(advisor) == [
        {"model": "linear", "penalty": "l1"},
        {"model": "linear", "penalty": "l2"},
        {"model": "tree", "depth": 1},
        {"model": "tree", "depth": 2, "leaf": 0.5},
        {"model": "tree", "depth": 2, "leaf": 1.5},
        {"model": "forest", "depth": 1},
        {"model": "forest", "depth": 2, "leaf": 0.5},
        {"model": "forest", "depth": 2, "leaf": 1.5},
    ]
    advisor.tell(0, {"loss": 1.0})
    assert advisor.ask() is None


def test_a_large_grid_costs_nothing() -> None:
    """Only the points that are asked for are made."""
    parameters = study(integer(0, 10**12, name="a"), integer(5, 10**12, name="b")).parameters
    assert list(islice(grid(list(parameters)), 2)) == [{"a": 0, "b": 5}, {"a": 0, "b": 6}]


@pytest.mark.parametrize("algorithm", [StudySpec.Algorithm.ALGORITHM_UNSPECIFIED, RANDOM])
def test_a_seed_chooses_the_sequence(algorithm: int) -> None:
    """The same one again, or another."""

    def sequence(seed: int) -> list[dict[str, Value]]:
        advisor, found = advisor_for(study(double(0, 1), algorithm=algorithm), seed), []
        for number in range(15):
            values = advisor.ask()
            assert values
            found.append(values)
            advisor.tell(number, {"loss": float(values["x"])})
        return found

    assert sequence(1) == sequence(1)
    assert sequence(1) != sequence(2)


@pytest.mark.parametrize("goals", [["MINIMIZE"], ["MINIMIZE", "MAXIMIZE"]])
def test_the_default_learns(goals: list[str]) -> None:
    """It comes closer to what is best than random search does, for several metrics too; some trials fail."""

    def miss(algorithm: int) -> float:
        metrics = [{"metric_id": goal, "goal": goal} for goal in goals]
        spec, found = study(double(0, 10), metrics=metrics, algorithm=algorithm), []
        for seed in range(3):
            advisor = advisor_for(spec, seed)
            for number in range(60):
                values = advisor.ask()
                assert values
                off = abs(float(values["x"]) - 7)
                advisor.tell(number, None if off > 6 else {"MINIMIZE": off, "MAXIMIZE": -off})
                found += [off] if number >= 30 else []
        return median(found)

    assert miss(StudySpec.Algorithm.ALGORITHM_UNSPECIFIED) < 0.6 * miss(RANDOM)


def test_flags_are_floats_or_plain() -> None:
    """Numbers as Vertex AI is seen to write them, or without the point of whole ones."""
    values: dict[str, Value] = {"units": 256, "batch": 32.0, "rate": 1e-05, "kind": "a b"}
    assert flags(values, plain=False) == ["--units=256.0", "--batch=32.0", "--rate=1e-05", "--kind=a b"]
    assert flags(values, plain=True) == ["--units=256", "--batch=32", "--rate=1e-05", "--kind=a b"]


def test_the_start_of_an_emulator_does_not_import_optuna() -> None:
    """Only who tunes pays for it."""
    code = "import sys, airflow_vertex_persistent.emulator.serving; sys.exit('optuna' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
