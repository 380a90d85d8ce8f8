# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import json
import math
import re
import subprocess
import sys
from html import unescape
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from plotly.offline import get_plotlyjs

from airflow_vertex_persistent.report.axes import UNSET, axis
from airflow_vertex_persistent.report.charts import objective_chart, parameters_chart
from airflow_vertex_persistent.report.page import report_html
from airflow_vertex_persistent.report.table import progress_line, trial_table
from airflow_vertex_persistent.report.values import value_text
from airflow_vertex_persistent.trials import best_trial

if TYPE_CHECKING:
    from airflow_vertex_persistent.trials import Goals, TrialSnapshot

GOALS: Goals = {"accuracy": "maximize", "loss": "minimize"}
REASON = "\nthe loss is not a number\nMore."
TABLE = """\
  trial  state       accuracy  loss       rate  layers  optimizer  momentum  seconds
*     2  SUCCEEDED    0.95123  12.5  0.0012346       3  adam                     612
      3  INFEASIBLE                  0.0012346       3  adam                     612  the loss is not a number
      4  ACTIVE                      0.0012346       3  adam
     10  SUCCEEDED        0.5  12.5  0.0012346       3  adam            0.9      612
* the best trial"""
EVIL = "<script>alert(1)</script><img src=x onerror=alert(2)>\"'&%{x}"


def trial(number: int, accuracy: float | None = None, **changes: Any) -> TrialSnapshot:
    """Return a trial that succeeded with an accuracy, one that is infeasible without."""
    values: TrialSnapshot = {
        "id": str(number),
        "state": "INFEASIBLE" if accuracy is None else "SUCCEEDED",
        "parameters": {"rate": 0.00123456789, "layers": 3, "optimizer": "adam"},
        "metrics": {} if accuracy is None else {"accuracy": accuracy, "loss": 12.5},
        "step": None,
        "measurements": [],
        "start_time": "2026-11-22T02:00:00+00:00",
        "end_time": "2026-11-22T02:10:12.4+00:00",
        "custom_job": None,
        "infeasible_reason": REASON if accuracy is None else "",
    }
    values.update(changes)  # type: ignore[typeddict-item]
    return values


def running(number: int) -> TrialSnapshot:
    """Return a trial that runs."""
    return trial(number, state="ACTIVE", end_time=None, infeasible_reason="")


@pytest.mark.parametrize(
    ("trials", "line"),
    [
        ([], "0 of 20 trials done"),
        ([running(1), running(2)], "0 of 20 trials done, 2 running"),
        ([trial(1)], "1 of 20 trials done (1 infeasible)"),
        ([trial(1, 0.5)], "1 of 20 trials done; best: trial 1, accuracy 0.5"),
        (
            [trial(1), trial(2, 0.9512345), trial(3, 0.5), running(4), running(5)],
            "3 of 20 trials done (1 infeasible), 2 running; best: trial 2, accuracy 0.95123",
        ),
    ],
)
def test_progress_is_one_line(trials: list[TrialSnapshot], line: str) -> None:
    """The line says what there is to say, and leaves out what there is none of."""
    assert progress_line(trials, GOALS, 20) == line


def test_the_table_is_aligned() -> None:
    """Numbers stand at the right of their column, texts at the left, by trial number; the best is marked."""
    trials = [trial(10, 0.5), trial(2, 0.9512345), trial(3), running(4)]
    trials[0]["parameters"]["momentum"] = 0.9
    assert trial_table(trials, GOALS, trials[1]) == TABLE


def test_the_legend_needs_the_best_trial() -> None:
    """Among trials without the best one nothing is marked, and no mark is explained."""
    assert "*" not in trial_table([trial(1, 0.5)], GOALS, trial(2, 0.9))
    assert "*" not in trial_table([trial(1)], GOALS, None)


def test_a_long_reason_is_cut() -> None:
    """Of a reason there is what fits, and 60 characters where there are many parameters."""
    reason = "The replica exited with a non-zero status of 1. " * 4
    (_, row) = trial_table([trial(1, infeasible_reason=reason)], GOALS, None).splitlines()
    assert 150 < len(row) <= 160
    assert row.endswith("…")
    many = {f"parameter_{number}": number for number in range(30)}
    (_, row, *_) = trial_table(
        [trial(1, infeasible_reason=reason, parameters=many)], GOALS, None
    ).splitlines()
    assert "  The replica exited with a non-zero status of 1. The replica" in row


def test_no_trials_are_a_table_too() -> None:
    """A job that has no trials yet has a table of titles."""
    assert trial_table([], GOALS, None) == "  trial  state  accuracy  loss  seconds"


@given(
    st.lists(
        st.builds(
            trial,
            st.integers(1, 10**6),
            st.none() | st.floats(),
            parameters=st.dictionaries(
                st.text(min_size=1, max_size=40),
                st.integers() | st.floats() | st.text(max_size=200),
                max_size=40,
            ),
            infeasible_reason=st.text(max_size=300),
        ),
        max_size=5,
    )
)
def test_no_line_is_wider_than_a_screen(trials: list[TrialSnapshot]) -> None:
    """However many and long parameters are, the table has a line for each trial of at most 160 columns."""
    lines = trial_table(trials, GOALS, best_trial(trials, GOALS)).split("\n")
    assert len(lines) >= len(trials) + 1
    assert max(map(len, lines)) <= 160


def test_parameters_without_room_are_named() -> None:
    """What has no column is said below the table."""
    wide = trial(1, 0.5, parameters={f"a_very_long_parameter_{index}": 1.0 for index in range(9)})
    *_, last = trial_table([wide], GOALS, None).splitlines()
    assert last.startswith("Not shown: a_very_long_parameter_")
    assert last.endswith("a_very_long_parameter_8")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (3, "3"),
        (256.0, "256"),
        (123456789, "123456789"),
        (1e20, "1e+20"),
        (0.00001234567, "1.2346e-05"),
        (math.nan, "nan"),
        (-math.inf, "-inf"),
        ("two\nlines", "two lines"),
        (None, ""),
    ],
)
def test_values_are_short(value: float | str | None, text: str) -> None:
    """Numbers have five digits, whole numbers all, and a text stays in its line."""
    assert value_text(value) == text


NUMBERS = st.floats(allow_nan=False, allow_infinity=False)


@given(st.lists(st.none() | NUMBERS | st.integers(-5, 5)) | st.lists(st.none() | st.text()))
def test_every_value_has_a_place_on_its_axis(values: list[float | str | None]) -> None:
    """Each place lies between finite ends, what is not set below all others, and a larger number never lower."""
    found = axis(values)
    low, high = found.ends
    assert -math.inf < low < high < math.inf
    assert len(found.positions) == len(values)
    assert all(low <= position <= high for position in [*found.positions, *found.marks])
    pairs = sorted(
        (value, position)
        for value, position in zip(values, found.positions, strict=True)
        if isinstance(value, float)
    )
    assert [position for _, position in pairs] == sorted(position for _, position in pairs)
    if None in values:
        assert found.marks[low] == UNSET
        assert all(
            (position == low) == (value is None)
            for value, position in zip(values, found.positions, strict=True)
        )


def test_numbers_over_decades_are_logarithmic() -> None:
    """The steps between powers of ten are equal, and they are what is marked."""
    found = axis([1e-4, 1e-3, 1e-2, 1e-1])
    assert found.positions == pytest.approx([-4, -3, -2, -1])
    assert list(found.marks.values()) == ["0.0001", "0.001", "0.01", "0.1"]


def test_one_small_number_makes_no_logarithm() -> None:
    """Evenly spread numbers, one of which happens to be near zero, stay on a linear axis."""
    values = [0.001, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6]
    found = axis(values)
    assert found.positions == values
    assert list(found.marks.values()) == ["0", "0.1", "0.2", "0.3", "0.4", "0.5", "0.6"]


def test_the_line_is_the_best_so_far() -> None:
    """The line steps up at each better trial; trials without a value stand at the bottom by their state."""
    trials = [trial(3, 0.4), trial(1, 0.5), trial(2), trial(4, 0.7), trial(5, math.nan), running(6)]
    data = {trace["name"]: trace for trace in objective_chart(trials, GOALS)["data"]}
    line = data["best so far"]
    assert (line["x"], line["y"]) == ([1, 2, 3, 4, 5, 6], [0.5, 0.5, 0.5, 0.7, 0.7, 0.7])
    assert (data["best"]["x"], data["best"]["y"]) == ([4], [0.7])
    assert {name: data[name]["x"] for name in ("infeasible", "no usable value", "not ended")} == {
        "infeasible": [2],
        "no usable value": [5],
        "not ended": [6],
    }
    assert "optimizer: <b>adam</b>" in data["infeasible"]["hovertext"][0]


def test_the_best_line_is_the_darkest() -> None:
    """Trials are coloured by rank, also when a small value is the better one."""
    trials = [trial(1, 0.5), trial(2, 0.2), trial(3, 0.9), trial(4)]
    chart = parameters_chart(trials, {"accuracy": "minimize"})
    assert chart is not None
    (trace,) = chart["data"]
    numbers = dict(zip(trace["dimensions"][0]["values"], trace["line"]["color"], strict=True))
    assert numbers == {3: 0, 1: 1, 2: 2}
    assert [dimension["label"] for dimension in trace["dimensions"]] == [
        "trial",
        "rate",
        "layers",
        "optimizer",
        "accuracy",
    ]


def page_of(*trials: TrialSnapshot, title: str = "Nightly", goals: Goals = GOALS) -> str:
    """Return the page without Plotly's own code, which must be in it."""
    page = report_html(title, trials, goals)
    assert page.count(get_plotlyjs()) == 1
    return page.replace(get_plotlyjs(), "")


def test_the_page_needs_no_network() -> None:
    """Nothing is loaded from elsewhere, and nothing offers to send the data away."""
    page = page_of(trial(1, 0.5), trial(2, 0.9), trial(3))
    assert re.findall(r"https?://|<link|\ssrc=|@import", page) == []
    configs = re.findall(r'\{"displaylogo".*?\}', page)
    assert len(configs) == 2
    for config in map(json.loads, configs):
        assert config["showSendToCloud"] is False
        assert config["modeBarButtons"] == [["toImage", "zoomIn2d", "zoomOut2d", "resetScale2d"]]


def test_the_page_says_what_was_found() -> None:
    """The best trial comes with its metrics and parameters, the counts, and the ten best in a table."""
    page = page_of(*(trial(number, number / 100) for number in range(1, 31)), trial(31))
    assert "<h2>Best: trial 30</h2>" in page
    assert "<dt>infeasible</dt><dd>1</dd>" in page
    assert "<dt>rate</dt><dd>0.0012346</dd>" in page
    rows = re.findall(r"<tr><td>(\d+)</td>", page)
    assert rows == [str(number) for number in range(30, 20, -1)]


@pytest.mark.parametrize(
    ("trials", "charts"),
    [([], []), ([trial(1)], ["objective"]), ([trial(1, 0.5)], ["objective", "parameters"])],
)
def test_few_trials_are_a_page_too(trials: list[TrialSnapshot], charts: list[str]) -> None:
    """Without a trial that succeeded the page says so, and shows the chart that it has data for."""
    page = page_of(*trials)
    assert re.findall(r'<div id="(\w+)"', page) == charts
    assert ("No best trial" in page) == ("parameters" not in charts)


def test_names_and_texts_cannot_become_code() -> None:
    """What comes from a trial is text on the page, whatever it looks like."""
    found = trial(1, 0.5, parameters={EVIL: EVIL}, metrics={EVIL: 0.5})
    failed = trial(2, parameters={EVIL: EVIL}, infeasible_reason=EVIL)
    page = page_of(found, failed, title=EVIL, goals={EVIL: "maximize"})
    assert "<script>alert" not in page
    assert "<img" not in page
    assert f"<h1>{EVIL}</h1>" in unescape(page)
    assert "<img" not in json.dumps(objective_chart([found, failed], {EVIL: "maximize"}))


@settings(max_examples=25)
@given(
    st.lists(
        st.builds(
            trial,
            st.integers(1, 300),
            st.none() | st.floats(),
            parameters=st.dictionaries(
                st.text(max_size=5), st.integers() | NUMBERS | st.text(max_size=30), max_size=4
            ),
        ),
        max_size=6,
    )
)
def test_plotly_takes_every_chart(trials: list[TrialSnapshot]) -> None:
    """Whatever the trials are, the charts are such that Plotly finds no fault with them."""
    assert page_of(*trials).endswith("</html>\n")


def test_plotly_is_imported_when_a_page_is_made() -> None:
    """A DAG file, and the log of a task, do without Plotly."""
    code = "import sys, airflow_vertex_persistent.report.page; print('plotly' in sys.modules)"
    ran = subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.PIPE, text=True)
    assert ran.stdout.strip() == "False"
