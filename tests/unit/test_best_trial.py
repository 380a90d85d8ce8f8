# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import json
import math
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_vertex_persistent.trials import (
    best_first,
    best_trial,
    best_trial_result,
    json_lines,
    trial_counts,
)

if TYPE_CHECKING:
    from airflow_vertex_persistent.trials import Goals, TrialSnapshot

ACCURACY: Goals = {"accuracy": "maximize"}
STATES = ["REQUESTED", "ACTIVE", "STOPPING", "SUCCEEDED", "INFEASIBLE"]
# Few different values, so that ties are as frequent as they are interesting.
VALUES = st.sampled_from([0.0, -0.0, 0.5, -1.0, 1.0, 1e300, math.nan, math.inf, -math.inf])
METRICS = ["accuracy", "loss", "seconds"]


def trial(number: int, *, state: str = "SUCCEEDED", **metrics: float) -> TrialSnapshot:
    """Return a trial with metrics."""
    return {
        "id": str(number),
        "state": state,
        "parameters": {"rate": 0.1 * number, "layers": number, "optimizer": "adam"},
        "metrics": metrics,
        "step": 100 if metrics else None,
        "measurements": [{"step": 100, "elapsed_seconds": 60.0, "metrics": metrics}] if metrics else [],
        "start_time": "2026-11-22T02:00:00+00:00",
        "end_time": "2026-11-22T02:10:00+00:00",
        "custom_job": f"projects/123/locations/europe-west4/customJobs/{number}",
        "infeasible_reason": "" if state != "INFEASIBLE" else "The trial reported no metric.",
    }


@st.composite
def trials_lists(draw: st.DrawFn) -> list[TrialSnapshot]:
    """Draw trials in any order, with any states, and any metrics of three missing."""
    numbers = draw(st.lists(st.integers(1, 1000), unique=True, max_size=12))
    metrics = st.dictionaries(st.sampled_from(METRICS), VALUES)
    likely = st.sampled_from([*STATES, "SUCCEEDED", "SUCCEEDED", "SUCCEEDED"])
    return [trial(number, state=draw(likely), **draw(metrics)) for number in numbers]


@st.composite
def goals_of(draw: st.DrawFn) -> Goals:
    """Draw one to three metrics in any order, each with its goal."""
    metrics = draw(st.lists(st.sampled_from(METRICS), unique=True, min_size=1))
    return {metric: draw(st.sampled_from(["maximize", "minimize"])) for metric in metrics}


def beats(one: TrialSnapshot, other: TrialSnapshot, goals: Goals) -> bool:
    """Tell whether a trial is better than another: the definition, metric by metric."""
    for metric, goal in goals.items():
        mine, theirs = (found["metrics"].get(metric, math.nan) for found in (one, other))
        if math.isfinite(mine) != math.isfinite(theirs):
            return math.isfinite(mine)
        if math.isfinite(mine) and mine != theirs:
            return mine > theirs if goal == "maximize" else mine < theirs
    return int(one["id"]) < int(other["id"])


@given(trials_lists(), goals_of())
def test_the_best_beats_every_other(trials: list[TrialSnapshot], goals: Goals) -> None:
    """The best is the one of those that take part which beats all others; there is one if any takes part."""
    first = next(iter(goals))
    taking_part = [
        found
        for found in trials
        if found["state"] == "SUCCEEDED" and abs(found["metrics"].get(first, math.nan)) < math.inf
    ]
    winners = [
        one for one in taking_part if all(one is other or beats(one, other, goals) for other in taking_part)
    ]
    best = best_trial(trials, goals)
    assert ([] if best is None else [best["id"]]) == [winner["id"] for winner in winners]
    assert bool(winners) == bool(taking_part)


@given(trials_lists(), goals_of())
def test_the_best_is_the_first_of_all(trials: list[TrialSnapshot], goals: Goals) -> None:
    """In the list from the best to the worst each trial beats the next one."""
    ordered = best_first(trials, goals)
    assert ordered[:1] == [best for best in [best_trial(trials, goals)] if best is not None]
    assert all(beats(one, after, goals) for one, after in pairwise(ordered))


@given(trials_lists(), goals_of(), st.randoms())
def test_the_order_of_the_trials_does_not_matter(
    trials: list[TrialSnapshot], goals: Goals, random: Any
) -> None:
    """The service may list trials in any order: the best and the file are the same."""
    shuffled = random.sample(trials, len(trials))
    assert best_trial(shuffled, goals) is best_trial(trials, goals)
    assert json_lines(shuffled) == json_lines(trials)


@pytest.mark.parametrize(("goal", "best"), [("maximize", "2"), ("minimize", "3")])
def test_the_goal_says_what_is_better(goal: str, best: str) -> None:
    """The largest value is the best when it is to be large, the smallest when it is to be small."""
    trials = [trial(1, accuracy=0.5), trial(2, accuracy=0.9), trial(3, accuracy=0.1)]
    found = best_trial(trials, {"accuracy": goal})
    assert found is not None
    assert found["id"] == best


def test_the_smaller_number_wins_a_tie() -> None:
    """Numbers are compared, not texts: trial 9 comes before trial 10."""
    found = best_trial([trial(10, accuracy=0.5), trial(9, accuracy=0.5)], ACCURACY)
    assert found is not None
    assert found["id"] == "9"


def test_a_missing_second_metric_loses_a_tie() -> None:
    """A trial with a bad second metric is still better than an equal one without any."""
    goals = {"accuracy": "maximize", "loss": "minimize"}
    found = best_trial([trial(1, accuracy=0.5), trial(2, accuracy=0.5, loss=1e9)], goals)
    assert found is not None
    assert found["id"] == "2"


@pytest.mark.parametrize(
    "only",
    [
        trial(1),
        trial(1, loss=0.5),
        trial(1, accuracy=math.nan),
        trial(1, accuracy=math.inf),
        trial(1, state="INFEASIBLE", accuracy=0.9),
        trial(1, state="ACTIVE", accuracy=0.9),
        trial(1, state="STOPPING", accuracy=0.9),
    ],
)
def test_some_trials_take_no_part(only: TrialSnapshot) -> None:
    """A trial that has not succeeded, or without a number to compare, is never the best."""
    assert best_trial([only], ACCURACY) is None
    assert best_trial_result([only], ACCURACY, "gs://models/run") is None


@given(trials_lists())
def test_every_trial_is_counted_once(trials: list[TrialSnapshot]) -> None:
    """Succeeded, infeasible and running make up the total, whatever the states."""
    states = [found["state"] for found in trials]
    assert trial_counts(trials) == {
        "succeeded": states.count("SUCCEEDED"),
        "infeasible": states.count("INFEASIBLE"),
        "running": sum(state in {"REQUESTED", "ACTIVE", "STOPPING"} for state in states),
        "total": len(trials),
    }


def test_a_state_of_a_newer_service_counts_as_running() -> None:
    """A state that is not known has not ended: no trial is lost from the total."""
    assert trial_counts([trial(1, state="HIBERNATING")]) == {
        "succeeded": 0,
        "infeasible": 0,
        "running": 1,
        "total": 1,
    }


@pytest.mark.parametrize("output_dir", ["gs://models/run", "gs://models/run/"])
def test_the_result_says_where_the_model_is(output_dir: str) -> None:
    """The folder is that of the best trial's number below the job's; other metrics may be no numbers."""
    best = trial(2, accuracy=0.9, loss=math.nan, seconds=math.inf)
    assert best_trial_result([trial(1, accuracy=0.5), best], ACCURACY, output_dir) == {
        "id": "2",
        "parameters": {"rate": 0.2, "layers": 2, "optimizer": "adam"},
        "metrics": {"accuracy": 0.9, "loss": None, "seconds": None},
        "model_dir": "gs://models/run/2/model",
        "custom_job": "projects/123/locations/europe-west4/customJobs/2",
    }


def test_without_an_output_there_is_no_model() -> None:
    """A job without an output folder has a best trial all the same."""
    result = best_trial_result([trial(1, accuracy=0.5)], ACCURACY, None)
    assert result is not None
    assert result["model_dir"] is None


@given(trials_lists(), goals_of())
def test_the_result_is_json(trials: list[TrialSnapshot], goals: Goals) -> None:
    """What a task hands on is JSON that means the same to everyone: without NaN and infinity."""
    result = best_trial_result(trials, goals, "gs://models/run")
    assert json.loads(json.dumps(result, allow_nan=False)) == result


def test_the_result_is_small_for_a_thousand_trials() -> None:
    """The result does not grow with the number of trials: with 20 parameters it stays below 4 KB."""
    trials = [trial(number, accuracy=1 / number, loss=math.nan) for number in range(1, 1001)]
    for found in trials:
        found["parameters"] = {f"a_parameter_with_a_long_name_{index:02}": 1 / 3 for index in range(20)}
    result = best_trial_result(trials, ACCURACY, "gs://models/nightly/" + "x" * 100)
    assert len(json.dumps({"best_trial": result, "trials": trial_counts(trials)})) <= 4096


@given(trials_lists())
def test_the_file_has_a_line_for_each_trial(trials: list[TrialSnapshot]) -> None:
    """Each line is JSON and says all of one trial, by trial number; NaN and infinity are null."""
    text = json_lines(trials)

    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    lines = [json.loads(line, parse_constant=refuse) for line in text.splitlines()]
    assert text == "" or text.endswith("\n")
    assert [line["id"] for line in lines] == sorted((found["id"] for found in trials), key=int)
    by_id = {found["id"]: found for found in trials}
    for line in lines:
        wanted = by_id[line["id"]]
        assert set(line) == set(wanted)
        assert line["metrics"] == {
            metric: value if math.isfinite(value) else None for metric, value in wanted["metrics"].items()
        }


def test_a_line_break_in_a_text_is_no_new_line() -> None:
    """A reason of several lines, or a separator that only Unicode knows, stays within its trial's line."""
    failed = trial(1, state="INFEASIBLE")
    failed["infeasible_reason"] = "Traceback:\n  File\u2028ValueError: größer"
    text = json_lines([failed])
    assert len(text.splitlines()) == 1
    assert json.loads(text)["infeasible_reason"] == failed["infeasible_reason"]
