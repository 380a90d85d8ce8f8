# SPDX-License-Identifier: Apache-2.0
"""What the file of a trial says, and what counts of it."""

from __future__ import annotations

import json

import pytest
from google.cloud.aiplatform_v1.types import StudySpec

from airflow_vertex_persistent.emulator.tuning.failure_rule import is_too_much
from airflow_vertex_persistent.emulator.tuning.measurements import Measured, as_messages, final, measured
from airflow_vertex_persistent.emulator.tuning.median_rule import is_hopeless
from airflow_vertex_persistent.emulator.tuning.metric_file import Report, Reports

TWO = [{"metric_id": "accuracy", "goal": "MAXIMIZE"}, {"metric_id": "loss", "goal": "MINIMIZE"}]
START = 1000.0


def study(*metrics: dict[str, str], **fields: object) -> StudySpec:
    """A study of some metrics."""
    return StudySpec({"metrics": list(metrics), **fields})


def line(time: float, step: int, **values: object) -> str:
    """A line as cloudml-hypertune writes it."""
    texts = {name: str(value) for name, value in values.items()}
    content = {"timestamp": time, "trial": "1", "global_step": str(step), "checkpoint_path": "", **texts}
    return json.dumps(content, sort_keys=True) + "\n"


def at(step: int, value: float, elapsed: float = 0.0) -> Measured:
    """A measurement of the loss."""
    return Measured(step, elapsed, {"loss": value})


def test_reports_that_left_the_file_are_kept() -> None:
    """The file has the last 100 only; what was read before is not read again."""
    reports = Reports(["loss"])
    lines = [line(START + n, n, loss=n) for n in range(120)]
    assert reports.read("".join(lines[:60]))
    assert not reports.read("".join(lines[:60]))
    assert reports.read("".join(lines[20:]))
    assert [report.step for report in reports.all] == list(range(120))


def test_a_file_that_is_being_written_is_no_trouble() -> None:
    """Half a line, or an empty file, says nothing yet, and nothing is lost or told twice."""
    reports = Reports(["loss"])
    text = line(START, 1, loss=0.5) + line(START + 1, 2, loss=0.4)
    for place in range(len(text) + 1):
        reports.read(text[:place])
    reports.read("")
    reports.read(text)
    assert reports.all == [Report(START, 1, "loss", 0.5), Report(START + 1, 2, "loss", 0.4)]


def test_reports_of_the_same_time_are_all_read() -> None:
    """Also when the second comes later."""
    reports = Reports(["loss"])
    reports.read(line(START, 1, loss=0.5))
    reports.read(line(START, 1, loss=0.5) + line(START, 2, loss=0.4))
    assert [report.step for report in reports.all] == [1, 2]


@pytest.mark.parametrize(
    "text",
    [
        line(START, 1, loss="nan"),
        line(START, 1, loss="inf"),
        line(START, 1, loss="much"),
        line(START, 1, other=0.5),
        line(START, -1, loss=0.5),
        '{"loss": "0.5"}\n',
        "[1]\n",
        "no JSON\n",
    ],
)
def test_what_is_no_measurement_is_left_out(text: str) -> None:
    """Values that are no finite numbers, other metrics, and lines of another form."""
    reports = Reports(["loss"])
    assert not reports.read(text)
    assert reports.all == []


def test_reports_at_one_step_are_one_measurement() -> None:
    """A metric that was not reported at a step keeps its value, and there is none until each has one."""
    spec = study(*TWO)
    reports = Reports(["accuracy", "loss"])
    reports.read(
        line(START + 1, 1, loss=0.9)
        + line(START + 2, 2, accuracy=0.5)
        + line(START + 3, 2, loss=0.8)
        + line(START + 4, 3, loss=0.7)
    )
    assert measured(reports.all, spec.metrics, START) == [
        Measured(2, 3.0, {"accuracy": 0.5, "loss": 0.8}),
        Measured(3, 4.0, {"accuracy": 0.5, "loss": 0.7}),
    ]


def test_reports_without_steps_are_measurements_of_their_own() -> None:
    """Each has step 0, and they are told apart by their time."""
    reports = [Report(START + n, 0, "loss", float(n)) for n in range(3)]
    found = measured(reports, study(TWO[1]).metrics, START)
    assert [(one.step, one.elapsed) for one in found] == [(0, 0.0), (0, 1.0), (0, 2.0)]


@pytest.mark.parametrize(("selection", "step"), [("LAST_MEASUREMENT", 3), ("BEST_MEASUREMENT", 2)])
def test_the_study_says_what_counts(selection: str, step: int) -> None:
    """The last measurement, or the best."""
    found = [at(1, 0.3), at(2, 0.1), at(3, 0.2)]
    chosen = final(found, study(TWO[1], measurement_selection_type=selection))
    assert chosen
    assert chosen.step == step
    assert final([], study(TWO[1], measurement_selection_type=selection)) is None


def test_the_first_metric_decides_which_is_best() -> None:
    """A goal that is not given means more is better."""
    spec = study({"metric_id": "accuracy"}, TWO[1], measurement_selection_type="BEST_MEASUREMENT")
    found = [Measured(n, 0.0, {"accuracy": n, "loss": 1 - n}) for n in (1, 3, 2)]
    chosen = final(found, spec)
    assert chosen
    assert chosen.step == 3


def test_measurements_are_shown_by_step() -> None:
    """Also those of a run that began again."""
    found = [at(1, 0.3, 1.0), at(2, 0.2, 2.0), at(1, 0.4, 3.0)]
    shown = [(one.step_count, one.metrics[0].value) for one in as_messages(found, study(TWO[1]))]
    assert shown == [(1, 0.3), (1, 0.4), (2, 0.2)]


MEDIAN = study(TWO[1], median_automated_stopping_spec={})


def test_a_trial_below_the_median_is_hopeless() -> None:
    """Its best value counts, against the means of what the others had measured by that step."""
    others = [[at(1, 0.2), at(2, 0.4), at(3, 9.0)], [at(1, 0.5), at(2, 0.5)], [at(1, 0.8), at(2, 0.6)]]
    assert is_hopeless([at(1, 0.9), at(2, 0.51)], others, MEDIAN)
    assert not is_hopeless([at(1, 0.9), at(2, 0.5)], others, MEDIAN)  # just as good as the median
    assert not is_hopeless([at(1, 0.4), at(2, 0.9)], others, MEDIAN)  # was better once


def test_more_may_be_better() -> None:
    """Goals turn the comparison around."""
    spec = study({"metric_id": "loss", "goal": "MAXIMIZE"}, median_automated_stopping_spec={})
    assert is_hopeless([at(1, 0.4)], [[at(1, 0.5)]], spec)
    assert not is_hopeless([at(1, 0.6)], [[at(1, 0.5)]], spec)


def test_without_anything_to_compare_with_there_is_hope() -> None:
    """No trial has succeeded, the trial has measured nothing, or the others nothing by then."""
    assert not is_hopeless([at(1, 9.0)], [], MEDIAN)
    assert not is_hopeless([], [[at(1, 0.5)]], MEDIAN)
    assert not is_hopeless([at(1, 9.0)], [[at(2, 0.5)]], MEDIAN)


def test_time_may_count_in_place_of_steps() -> None:
    """With use_elapsed_duration."""
    spec = study(TWO[1], median_automated_stopping_spec={"use_elapsed_duration": True})
    others = [[at(1, 0.9, elapsed=1.0), at(9, 0.1, elapsed=2.0)]]
    assert is_hopeless([at(1, 0.8, elapsed=2.0)], others, spec)
    assert not is_hopeless([at(1, 0.8, elapsed=1.0)], others, spec)


@pytest.mark.parametrize(
    ("failed", "succeeded", "limit", "too_much"),
    [(1, 0, 0, True), (1, 1, 0, False), (9, 1, 0, False), (1, 0, 2, False), (2, 5, 2, True)],
)
def test_how_many_failed_trials_end_a_job(failed: int, succeeded: int, limit: int, *, too_much: bool) -> None:
    """So many as it says; when it does not, one before any has succeeded."""
    assert is_too_much(failed, succeeded, limit) is too_much
