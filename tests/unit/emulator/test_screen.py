# SPDX-License-Identifier: Apache-2.0
"""How the command line shows things."""

from __future__ import annotations

import pytest

from airflow_vertex_persistent.emulator.look_jobs import _fitting
from airflow_vertex_persistent.emulator.screen import duration

WIDTHS = {"job": 19, "how": 20, "#": 0, "display name": 40}


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"),
        (0.04, "0s"),
        (2.54, "2.5s"),
        (9.96, "10s"),
        (48.5, "48s"),
        (59.7, "1m"),
        (62, "1m2s"),
        (3599.6, "1h"),
        (7200, "2h"),
        (7325, "2h2m"),
        (86400, "1d"),
        (200_000, "2d7h"),
    ],
)
def test_a_duration_has_two_units_at_most(seconds: float, text: str) -> None:
    """Whichever matter; tenths of a second only when there is nothing larger."""
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("width", "fitted"),
    [
        (100, {"job": 19, "how": 20, "display name": 40}),
        (60, {"job": 19, "how": 20, "display name": 19}),
        (45, {"job": 19, "how": 12, "display name": 12}),
        (35, {"job": 19, "how": 9, "display name": 5}),
        (30, {"job": 19, "how": 9}),
        (10, {"job": 19, "how": 9}),
    ],
)
def test_a_narrow_terminal_gets_less_of_the_names(width: int, fitted: dict[str, int]) -> None:
    """First of the display name, then of where the job is; an id is never cut, and empty columns are left out."""
    assert _fitting(WIDTHS, width) == fitted
