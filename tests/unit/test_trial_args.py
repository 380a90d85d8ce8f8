# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from airflow.sdk import DAG, BaseOperator, XComArg

from airflow_vertex_persistent.trial_args import trial_args

if TYPE_CHECKING:
    from collections.abc import Mapping

PARAMETERS = {"layers": 3, "rate": 1e-05, "width": 256.0, "third": 1 / 3, "optimizer": "adam w", "note": ""}
FLAGS = [
    "--layers=3",
    "--rate=1e-05",
    "--width=256.0",
    "--third=0.3333333333333333",
    "--optimizer=adam w",
    "--note=",
]


@pytest.fixture
def best_trial() -> XComArg:
    """A reference to the best trial of a task."""
    with DAG(dag_id="nightly", schedule=None):
        return BaseOperator(task_id="tune").output["best_trial"]  # type: ignore[index, no-any-return]


def test_each_parameter_is_a_flag() -> None:
    """Whole numbers, others with all their digits, and texts come after the arguments that were there."""
    assert trial_args({"parameters": PARAMETERS}, "fit", "--epochs=50") == ["fit", "--epochs=50", *FLAGS]


def test_a_trial_without_parameters_adds_nothing() -> None:
    """A study without active parameters is no error."""
    assert trial_args({"parameters": {}}, "fit") == ["fit"]


def test_no_best_trial_is_an_error() -> None:
    """Training goes on with no parameters only when somebody decided so."""
    with pytest.raises(ValueError, match=r"no trial succeeded .* branch on best_trial"):
        trial_args(None, "fit")


@pytest.mark.parametrize("wrong", [{"best_trial": {}}, {"parameters": None}, "{{ a_text }}"])
def test_what_is_no_trial_is_an_error(wrong: Mapping[str, Any]) -> None:
    """The whole result of a task, or a text, is not taken for a trial without parameters."""
    with pytest.raises(ValueError, match=r'tune\.output\["best_trial"\]'):
        trial_args(wrong)


@pytest.mark.parametrize("best", ["trial", "reference"])
def test_a_list_of_arguments_is_an_error(best: str, best_trial: XComArg) -> None:
    """It is told when the DAG file is read, not when the task runs."""
    wrong: Any = ["--epochs=50"]
    with pytest.raises(TypeError, match=r"each argument as a text of its own"):
        trial_args({"parameters": {}} if best == "trial" else best_trial, wrong)


def test_a_reference_stays_one(best_trial: XComArg) -> None:
    """With a reference the result refers to the same tasks, those of other arguments included."""
    with DAG(dag_id="other", schedule=None):
        data = BaseOperator(task_id="extract").output
    made = trial_args(best_trial, "fit", data)

    assert isinstance(made, XComArg)
    assert [(task.task_id, key) for task, key in made.iter_references()] == [
        ("tune", "best_trial"),
        ("extract", "return_value"),
    ]


def test_equal_ones_are_made_of_the_same(best_trial: XComArg) -> None:
    """Two are equal only with the same arguments before the same trial's parameters."""
    assert trial_args(best_trial, "fit") == trial_args(best_trial, "fit")
    assert trial_args(best_trial, "fit") != trial_args(best_trial, "evaluate")
    assert trial_args(best_trial) != best_trial
