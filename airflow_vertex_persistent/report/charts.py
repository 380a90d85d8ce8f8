# SPDX-License-Identifier: Apache-2.0
"""The charts of the page, as the plain data that Plotly draws. What comes from outside is escaped."""

from __future__ import annotations

import math
from html import escape
from typing import TYPE_CHECKING, Any

from airflow_vertex_persistent.report.axes import axis, is_logarithmic
from airflow_vertex_persistent.report.values import cut, first_line, parameter_names, value_text
from airflow_vertex_persistent.trials import (
    INFEASIBLE,
    SUCCEEDED,
    best_first,
    best_trial,
    finite_metric,
    takes_part,
    trial_number,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from airflow_vertex_persistent.report.axes import Value
    from airflow_vertex_persistent.trials import Goals, TrialSnapshot

FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, Helvetica, Arial, sans-serif"
INK, GRID, GREY = "#1f2933", "#e4e9ef", "#7b8794"
BLUE, ORANGE, RED = "#2f7ed8", "#e8710a", "#c5221f"
# By rank, from the worst to the best, so that few trials stand out however close their values are.
_SCALE = [[0.0, "#dfe5ec"], [0.5, "#b7d1ee"], [0.8, "#5f9fe0"], [1.0, "#08255a"]]
_LABEL = 20
_HOVER_LINES = 24
_HOVER_TEXT = 60
_MANY_TRIALS = 60
_EACH_NUMBER = 10  # up to here Plotly would mark halves too


def objective_chart(trials: Sequence[TrialSnapshot], goals: Goals) -> dict[str, Any]:
    """Return the first metric of every trial, the best so far as a line, and those without it at the bottom."""
    metric = next(iter(goals))
    by_number = sorted(trials, key=trial_number)
    measured = [trial for trial in by_number if takes_part(trial, goals)]
    values = [trial["metrics"][metric] for trial in measured]
    best = best_trial(measured, goals)
    size = 7 if len(trials) > _MANY_TRIALS else 9
    data = [
        _best_so_far(by_number, goals),
        _points("succeeded", measured, values, {"color": BLUE, "size": size, "opacity": 0.8}),
    ]
    if best is not None:
        star = {"color": ORANGE, "size": 17, "symbol": "star", "line": {"color": "white", "width": 1}}
        data.append(_points("best", [best], [best["metrics"][metric]], star))
    data += _without_value(by_number, goals)
    y_axis = _axis_style(metric) | _above_the_marks(values)
    numbers = [trial_number(trial) for trial in by_number]
    x_axis = _axis_style("trial") | _around(numbers)
    bottom = {"overlaying": "y", "range": [0, 1], "visible": False, "fixedrange": True}
    layout = _layout(height=400) | {
        "xaxis": x_axis,
        "yaxis": y_axis,
        "yaxis2": bottom,
        "hovermode": "closest",
        "showlegend": True,
        "legend": {"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0},
        "margin": {"l": 70, "r": 20, "t": 40, "b": 55},
    }
    return {"data": data, "layout": layout}


def parameters_chart(trials: Sequence[TrialSnapshot], goals: Goals) -> dict[str, Any] | None:
    """
    Return parallel coordinates of the trials that have a first metric, ``None`` if there are none.

    One axis each for the trial number, the parameters, and the metrics, the first of them last.
    """
    measured = best_first(trials, goals)[::-1]
    if not measured:
        return None
    first, *others = goals
    values = [trial["metrics"][first] for trial in measured]
    dimensions = [_dimension("trial", [trial_number(trial) for trial in measured])]
    dimensions += [
        _dimension(name, [trial["parameters"].get(name) for trial in measured])
        for name in parameter_names(measured)
    ]
    dimensions += [
        _dimension(metric, [finite_metric(trial, metric) for trial in measured]) for metric in others
    ]
    dimensions.append(_dimension(first, values))
    best = len(measured) - 1
    trace = {
        "type": "parcoords",
        "dimensions": dimensions,
        "line": {
            "color": list(range(len(measured))),
            "cmin": min(0, best - 1),
            "cmax": best,
            "colorscale": _SCALE,
        },
        "labelfont": {"size": 13, "color": INK},
        "tickfont": {"size": 12, "color": INK},
        "rangefont": {"size": 1, "color": "rgba(0,0,0,0)"},  # the marks say it
    }
    layout = _layout(height=440) | {"margin": {"l": 90, "r": 90, "t": 60, "b": 30}}
    return {"data": [trace], "layout": layout}


def _best_so_far(by_number: Iterable[TrialSnapshot], goals: Goals) -> dict[str, Any]:
    """Return the line of the best value up to each trial."""
    metric = next(iter(goals))
    numbers, values = [], []
    so_far: TrialSnapshot | None = None
    for trial in by_number:
        so_far = best_trial([trial] if so_far is None else [so_far, trial], goals)
        if so_far is not None:
            numbers.append(trial_number(trial))
            values.append(so_far["metrics"][metric])
    return {
        "type": "scatter",
        "mode": "lines",
        "name": "best so far",
        "x": numbers,
        "y": values,
        "line": {"shape": "hv", "color": ORANGE, "width": 2},
        "hoverinfo": "skip",
    }


def _without_value(by_number: Sequence[TrialSnapshot], goals: Goals) -> list[dict[str, Any]]:
    """Return marks at the bottom for the trials whose first metric is not there."""
    groups = {
        "infeasible": ([t for t in by_number if t["state"] == INFEASIBLE], RED, "x"),
        "no usable value": (
            [t for t in by_number if t["state"] == SUCCEEDED and not takes_part(t, goals)],
            ORANGE,
            "x",
        ),
        "not ended": (
            [t for t in by_number if t["state"] not in {INFEASIBLE, SUCCEEDED}],
            GREY,
            "circle-open",
        ),
    }
    return [
        _points(name, found, [0.03] * len(found), {"color": colour, "size": 9, "symbol": symbol})
        | {"yaxis": "y2"}
        for name, (found, colour, symbol) in groups.items()
        if found
    ]


def _points(
    name: str, trials: Sequence[TrialSnapshot], values: Sequence[float], marker: dict[str, Any]
) -> dict[str, Any]:
    return {
        "type": "scatter",
        "mode": "markers",
        "name": name,
        "x": [trial_number(trial) for trial in trials],
        "y": list(values),
        "marker": marker,
        "hovertext": [_hover_text(trial) for trial in trials],
        "hoverinfo": "text",
        "cliponaxis": False,
    }


def _hover_text(trial: TrialSnapshot) -> str:
    """Return what is said of a trial under the mouse."""
    reason = cut(first_line(trial["infeasible_reason"]), _HOVER_TEXT)
    lines = [f"<b>trial {escape(trial['id'])}</b>  {escape(trial['state'].lower())}"]
    lines += [escape(reason)] * bool(reason)
    pairs: list[tuple[str, Value]] = [*trial["metrics"].items(), ("", ""), *trial["parameters"].items()]
    for name, value in pairs[:_HOVER_LINES]:
        text = cut(value_text(value), _HOVER_TEXT)
        lines.append(f"{escape(cut(name, _HOVER_TEXT))}: <b>{escape(text)}</b>" if name else "")
    if len(pairs) > _HOVER_LINES:
        lines.append(f"and {len(pairs) - _HOVER_LINES} more")
    return "<br>".join(lines)


def _dimension(name: str, values: Sequence[Value]) -> dict[str, Any]:
    """Return one axis of the parallel coordinates."""
    found = axis(values)
    return {
        "label": escape(cut(name, _LABEL)),
        "values": found.positions,
        "range": list(found.ends),
        "tickvals": list(found.marks),
        "ticktext": list(found.marks.values()),  # the only texts that Plotly takes as they are
    }


def _above_the_marks(values: Sequence[float]) -> dict[str, Any]:
    """Return the scale and range of the metric's axis: the marks at the bottom have a place of their own."""
    if not values:
        return {"showticklabels": False, "showgrid": False}
    logarithmic = is_logarithmic(values)
    places = [math.log10(value) for value in values] if logarithmic else values
    low, high = min(places), max(places)
    room = (high - low) or abs(low) * 0.2 or 1.0
    return {"type": "log" if logarithmic else "linear", "range": [low - 0.14 * room, high + 0.08 * room]}


def _around(numbers: Sequence[int]) -> dict[str, Any]:
    """Return the range of the axis of trial numbers, and whole numbers as its marks."""
    low, high = (numbers[0], numbers[-1]) if numbers else (1, 1)
    room = max(0.6, (high - low) * 0.02)
    span = {"range": [low - room, high + room]}
    return span if high - low > _EACH_NUMBER else span | {"tick0": low, "dtick": 1}


def _axis_style(title: str) -> dict[str, Any]:
    return {"title": {"text": escape(cut(title, 40))}, "gridcolor": GRID, "zeroline": False}


def _layout(height: int) -> dict[str, Any]:
    return {
        "height": height,
        "font": {"family": FONT, "size": 13, "color": INK},
        "paper_bgcolor": "white",
        "plot_bgcolor": "white",
        "hoverlabel": {"bgcolor": "white", "bordercolor": GREY, "align": "left", "font": {"family": FONT}},
    }
