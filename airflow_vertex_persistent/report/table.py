# SPDX-License-Identifier: Apache-2.0
"""The trials of a tuning job as plain text, for the log of a task."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from airflow_vertex_persistent.report.values import cut, first_line, parameter_names, value_text
from airflow_vertex_persistent.states import seconds_between
from airflow_vertex_persistent.trials import best_trial, trial_counts, trial_number

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from airflow_vertex_persistent.trials import Goals, TrialSnapshot

WIDTH = 160
_CELL = 24
_REASON = 60
_GAP = "  "


class _Column(NamedTuple):
    """Cells of one column, its title first; numbers stand at its right."""

    cells: list[str]
    right: bool = True

    @property
    def width(self) -> int:
        return max(map(len, self.cells))

    def lines(self) -> list[str]:
        return [cell.rjust(self.width) if self.right else cell.ljust(self.width) for cell in self.cells]


def progress_line(trials: Sequence[TrialSnapshot], goals: Goals, max_trial_count: int) -> str:
    """
    Return how far a tuning job is: ``7 of 20 trials done (1 infeasible), 2 running; best: trial 5, accuracy 0.95``.

    :param max_trial_count: How many trials the job makes.
    """
    counts = trial_counts(trials)
    text = f"{counts['succeeded'] + counts['infeasible']} of {max_trial_count} trials done"
    if counts["infeasible"]:
        text += f" ({counts['infeasible']} infeasible)"
    if counts["running"]:
        text += f", {counts['running']} running"
    best = best_trial(trials, goals)
    if best is not None:
        metric = next(iter(goals))
        text += f"; best: trial {best['id']}, {metric} {value_text(best['metrics'][metric])}"
    return text


def trial_table(trials: Sequence[TrialSnapshot], goals: Goals, best: TrialSnapshot | None) -> str:
    """
    Return a table of trials by number, of at most 160 columns, without a newline at its end.

    It has the number, state, metrics, parameters and seconds of each trial; one without metrics has the first line
    of the reason at the end instead. Parameters that do not fit are named in a line below.

    :param best: The best trial of the job, which is marked if it is one of ``trials``.
    """
    shown = sorted(trials, key=trial_number)
    columns, left_out = _columns(shown, goals, best)
    lines = [_GAP.join(cells).rstrip() for cells in zip(*(column.lines() for column in columns), strict=True)]
    if best is not None and any(trial["id"] == best["id"] for trial in shown):
        lines.append("* the best trial")
    if left_out:
        lines.append(cut(f"Not shown: {', '.join(left_out)}", WIDTH))
    return "\n".join(lines)


def _columns(
    shown: list[TrialSnapshot], goals: Goals, best: TrialSnapshot | None
) -> tuple[list[_Column], list[str]]:
    """Return the columns that fit, and the names of the metrics and parameters that do not."""
    marks = ["*" if best is not None and trial["id"] == best["id"] else " " for trial in shown]
    before = [
        _Column(["  trial", *(f"{mark} {trial['id']:>5}" for mark, trial in zip(marks, shown, strict=True))]),
        _Column(["state", *(trial["state"] for trial in shown)], right=False),
    ]
    after = [_Column(["seconds", *map(_seconds, shown)])]
    reasons = ["" if trial["metrics"] else first_line(trial["infeasible_reason"]) for trial in shown]
    reason_room = min(_REASON, max(map(len, reasons), default=0))

    room = WIDTH - sum(column.width + len(_GAP) for column in (*before, *after))
    room -= reason_room and reason_room + len(_GAP)
    columns, left_out = [], []
    for name, values in _measured_and_given(shown, goals):
        column = _Column(
            [cut(text, _CELL) for text in (name, *map(value_text, values))],
            right=not any(isinstance(value, str) for value in values),
        )
        room -= column.width + len(_GAP)
        if room >= 0:
            columns.append(column)
        else:
            left_out.append(name)
            room += column.width + len(_GAP)
    if any(reasons):
        after.append(_Column(["", *(cut(reason, reason_room + room) for reason in reasons)], right=False))
    return [*before, *columns, *after], left_out


def _measured_and_given(
    shown: list[TrialSnapshot], goals: Goals
) -> Iterator[tuple[str, list[int | float | str | None]]]:
    """Return each metric and each parameter with its value in every trial, ``None`` where it has none."""
    for metric in goals:
        yield metric, [trial["metrics"].get(metric) for trial in shown]
    for name in parameter_names(shown):
        yield name, [trial["parameters"].get(name) for trial in shown]


def _seconds(trial: TrialSnapshot) -> str:
    """Return for how long a trial ran, nothing if it has not ended or never ran."""
    seconds = seconds_between(trial["start_time"], trial["end_time"])
    return "" if seconds is None else f"{seconds:.0f}"
