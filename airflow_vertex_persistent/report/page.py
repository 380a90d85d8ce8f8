# SPDX-License-Identifier: Apache-2.0
"""The trials of a tuning job as one page with charts, which needs nothing but itself."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, Any

from airflow_vertex_persistent.report.charts import FONT, GREY, GRID, INK, objective_chart, parameters_chart
from airflow_vertex_persistent.report.values import cut, parameter_names, value_text
from airflow_vertex_persistent.states import duration_text, seconds_between
from airflow_vertex_persistent.trials import best_first, trial_counts

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from airflow_vertex_persistent.trials import Goals, TrialSnapshot

_TOP = 10
_CELL = 40
_AXIS_PIXELS, _LETTER_PIXELS = 100, 8
# Nothing that sends the data anywhere, as Plotly's own buttons do.
_CONFIG = {
    "displaylogo": False,
    "responsive": True,
    "showSendToCloud": False,
    "modeBarButtons": [["toImage", "zoomIn2d", "zoomOut2d", "resetScale2d"]],
}
_STYLE = f"""
body {{ margin: 0; background: #f4f6f9; color: {INK}; font: 15px/1.45 {FONT}; }}
main {{ max-width: 1280px; margin: 0 auto; padding: 28px 24px 40px; }}
h1 {{ font-size: 25px; margin: 0 0 18px; overflow-wrap: anywhere; }}
h2 {{ font-size: 17px; margin: 0 0 4px; overflow-wrap: anywhere; }}
p {{ color: {GREY}; margin: 0 0 10px; }}
section {{ background: white; border: 1px solid {GRID}; border-radius: 10px; padding: 18px 22px; margin: 0 0 18px; }}
.wide {{ overflow-x: auto; }}
.numbers {{ display: flex; flex-wrap: wrap; gap: 8px 40px; margin: 6px 0 0; }}
.numbers dt {{ color: {GREY}; font-size: 13px; }}
.numbers dd {{ margin: 0; font-size: 21px; font-weight: 600; overflow-wrap: anywhere; }}
.small dd {{ font-size: 16px; }}
table {{ border-collapse: collapse; font-variant-numeric: tabular-nums; }}
th, td {{ text-align: left; padding: 6px 22px 6px 0; border-bottom: 1px solid {GRID}; white-space: nowrap; }}
th {{ color: {GREY}; font-size: 13px; font-weight: 500; }}
.side {{ display: flex; flex-wrap: wrap; gap: 0 18px; }}
.side section {{ flex: 1 1 auto; }}
"""


def report_html(title: str, trials: Sequence[TrialSnapshot], goals: Goals) -> str:
    """
    Return a page about the trials of a tuning job: one file of about 5 MB, which needs no network.

    It has the best trial, the counts, the first metric of each trial with the best so far, parallel coordinates of
    the parameters, and a table of the ten best. It has parameters and metrics only, and of a trial that is
    infeasible the first line of the reason.

    :param title: Heading of the page; plain text.
    :raises ModuleNotFoundError: Plotly is not there: it comes with the extra ``report`` of this package.
    """
    from plotly.io import to_html
    from plotly.offline import get_plotlyjs

    def drawn(figure: dict[str, Any], name: str) -> str:
        bar = {"displayModeBar": name == "objective"}  # its buttons would hide a label of the other
        html: str = to_html(figure, _CONFIG | bar, include_plotlyjs=False, full_html=False, div_id=name)
        return html

    ranked = best_first(trials, goals)
    sections = [_summary(trials, ranked, goals)]
    if trials:
        sections.append(
            _section(
                f"Objective: {next(iter(goals))}",
                f"{_wish(goals)}. Point at a trial to see its parameters.",
                drawn(objective_chart(trials, goals), "objective"),
            )
        )
    coordinates = parameters_chart(trials, goals)
    if coordinates is not None:
        labels = [dimension["label"] for dimension in coordinates["data"][0]["dimensions"]]
        width = len(labels) * max(_AXIS_PIXELS, _LETTER_PIXELS * max(map(len, labels)))
        chart = drawn(coordinates, "parameters")
        sections.append(
            _section(
                "Parameters",
                "Each line is a trial: the darker, the better. Drag along an axis to keep the lines that pass there, "
                "click the axis to have all back.",
                f'<div class="wide"><div style="min-width: {width}px">{chart}</div></div>',
            )
        )
        sections.append(_best_table(ranked[:_TOP], goals))
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(title)}</title>
<style>{_STYLE}</style>
<script>window.PlotlyConfig = {{MathJaxConfig: "local"}};</script>
<script>{get_plotlyjs()}</script>
</head>
<body>
<main>
<h1>{escape(title)}</h1>
{"".join(sections)}
</main>
</body>
</html>
"""


def _wish(goals: Goals) -> str:
    """Return what is wanted of the metrics, as a sentence without its full stop."""
    (metric, goal), *others = goals.items()
    text = f"The goal is to {goal} {metric}"
    if others:
        more = ", then ".join(f"{goal} {metric}" for metric, goal in others)
        text += f"; what is equal there is to {more}"
    return text


def _section(heading: str, text: str, content: str) -> str:
    """Return a section; ``content`` is HTML, the others are texts."""
    paragraph = f"<p>{escape(text)}</p>" if text else ""
    return f"<section>\n<h2>{escape(heading)}</h2>\n{paragraph}\n{content}\n</section>\n"


def _summary(trials: Sequence[TrialSnapshot], ranked: Sequence[TrialSnapshot], goals: Goals) -> str:
    counts = trial_counts(trials)
    shown = [("trials", str(counts["total"])), ("succeeded", str(counts["succeeded"]))]
    shown += [
        (label, str(counts[key]))
        for key, label in (("infeasible", "infeasible"), ("running", "not ended"))
        if counts[key]
    ]
    seconds = [seconds_between(trial["start_time"], trial["end_time"]) for trial in trials]
    ran = sum(second for second in seconds if second is not None)
    if ran:
        shown.append(("time of all", duration_text(ran)))
    counted = _section("All trials", "", _pairs(shown))
    if not ranked:
        return counted + _section("No best trial", "No trial succeeded with a number to compare.", "")
    best = ranked[0]
    measured = [(metric, value_text(best["metrics"].get(metric))) for metric in goals]
    given = [(name, cut(value_text(value), _CELL)) for name, value in best["parameters"].items()]
    found = _section(f"Best: trial {best['id']}", "", _pairs(measured) + _pairs(given, "numbers small"))
    return f'<div class="side">{found}{counted}</div>'


def _pairs(pairs: Iterable[tuple[str, str]], style: str = "numbers") -> str:
    """Return labels with what they stand for, side by side."""
    items = "".join(f"<div><dt>{escape(name)}</dt><dd>{escape(text)}</dd></div>" for name, text in pairs)
    return f'<dl class="{style}">{items}</dl>'


def _best_table(ranked: Sequence[TrialSnapshot], goals: Goals) -> str:
    """Return the table of the best trials, the best first."""
    names = parameter_names(ranked)
    rows = [_row("th", ["trial", *goals, *names, "ran"])]
    for trial in ranked:
        values = [value_text(trial["metrics"].get(metric)) for metric in goals]
        values += [value_text(trial["parameters"].get(name)) for name in names]
        seconds = seconds_between(trial["start_time"], trial["end_time"])
        ran = "" if seconds is None else duration_text(seconds)
        rows.append(_row("td", [trial["id"], *values, ran]))
    heading = "The best trial" if len(ranked) == 1 else f"The best {len(ranked)} trials"
    return _section(heading, "", f'<div class="wide"><table>{"".join(rows)}</table></div>')


def _row(cell: str, texts: Iterable[str]) -> str:
    cells = "".join(f"<{cell}>{escape(cut(text, _CELL))}</{cell}>" for text in texts)
    return f"<tr>{cells}</tr>\n"
