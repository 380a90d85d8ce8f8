# SPDX-License-Identifier: Apache-2.0
"""How everything looks that ``vertex-emulator`` prints: width, tables, durations."""

from __future__ import annotations

import sys

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Column, Table

_WIDE = 160
_UNITS = (("d", 24 * 3600), ("h", 3600), ("m", 60), ("s", 1))
_SHORT = 10  # seconds; below that tenths matter


def console() -> Console:
    """Where to print: without a terminal there is no width to fit in, and nothing should be cut off."""
    return Console(highlight=False) if sys.stdout.isatty() else Console(highlight=False, width=_WIDE)


def narrow(*names: str, whole: str = "") -> Table:
    """
    A table that fits into most terminals, and breaks lines where it does not.

    :param whole: the column that is not broken.
    """
    columns = (Column(name, overflow="fold", no_wrap=name == whole) for name in names)
    return Table(*columns, box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)


def duration(seconds: float) -> str:
    """A duration in the two units that matter: ``2.5s``, ``48s``, ``3m5s``, ``2h``, ``1d3h``."""
    if seconds < _SHORT:
        return f"{round(seconds, 1):g}s"
    left = round(seconds)
    place = next(number for number, (_, size) in enumerate(_UNITS) if left >= size)
    (large, size), (small, part) = _UNITS[place], _UNITS[min(place + 1, len(_UNITS) - 1)]
    count, rest = divmod(left, size)
    return f"{count}{large}" + (f"{rest // part}{small}" if rest // part else "")
