# SPDX-License-Identifier: Apache-2.0
"""How numbers and texts of trials are written for people to read."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from airflow_vertex_persistent.trials import TrialSnapshot

_WHOLE_UP_TO = 1e15  # from here on whole numbers are written with an exponent too


def value_text(value: float | str | None) -> str:
    """Return a metric or parameter with five significant digits, whole numbers with all, nothing for ``None``."""
    if value is None:
        return ""
    if isinstance(value, str):
        return " ".join(value.split())
    whole = isinstance(value, int) or value.is_integer()
    return f"{value:.0f}" if whole and abs(value) < _WHOLE_UP_TO else f"{value:.5g}"


def cut(text: str, length: int) -> str:
    """Return a text of at most ``length`` characters, with an ellipsis for what is missing."""
    return text if len(text) <= length else f"{text[: length - 1].rstrip()}…"


def first_line(text: str) -> str:
    """Return the first line of a text that is not empty."""
    return next((line.strip() for line in text.splitlines() if line.strip()), "")


def parameter_names(trials: Iterable[TrialSnapshot]) -> list[str]:
    """Return the parameters that any of the trials has, in the order in which they turn up."""
    return list(dict.fromkeys(name for trial in trials for name in trial["parameters"]))
