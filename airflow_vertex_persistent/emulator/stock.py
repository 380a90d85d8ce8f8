# SPDX-License-Identifier: Apache-2.0
"""How many machines there are outside persistent resources, by region and machine type. Pure, and quick to import."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from .timetable import UNLIMITED, parse_stock

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from datetime import datetime

    from .timetable import Change, Plan, Timetable

_WHERE = re.compile(r"([a-z0-9-]+|\*)/([a-z0-9-]+|\*)")


def check_where(where: str) -> None:
    """
    Check the name of a stock.

    :raises ValueError: when it is none.
    """
    if not _WHERE.fullmatch(where):
        raise ValueError(f"{where!r} is not of the form REGION/MACHINE_TYPE, each of which may be *")


class Rule(NamedTuple):
    """
    What somebody said of a stock.

    :param where: ``REGION/MACHINE_TYPE``; either may be ``*``.
    :param text: the stock, as it was written.
    :param since: when its timetable began.
    """

    where: str
    text: str
    since: datetime


class Stock:
    """
    All that was said of stock; what nobody speaks of is unlimited.

    :param rules: stock by ``REGION/MACHINE_TYPE``. Either may be ``*``: each region and machine type has a stock of
        its own even so, and of several rules the most exact one counts, the region before the machine type.
    :param now: when the timetables begin.
    :raises ValueError: for what cannot be read.
    """

    def __init__(self, rules: Mapping[str, str | int], now: datetime) -> None:
        self._rules: dict[str, tuple[Plan, Rule]] = {}
        self._timetables: dict[str, Timetable | None] = {}
        for where, stock in rules.items():
            self.set(where, str(stock), now)

    def set(self, where: str, text: str, now: datetime) -> None:
        """
        Say how many machines there are from now on.

        :raises ValueError: for what cannot be read.
        """
        check_where(where)
        self._rules[where] = parse_stock(text), Rule(where, text, now)
        self._timetables.clear()

    def wildcards(self) -> list[Rule]:
        """All rules with ``*``, by name."""
        return sorted(rule for where, (_, rule) in self._rules.items() if "*" in where)

    def named(self) -> Iterator[tuple[str, str]]:
        """Region and machine type of all rules without ``*``."""
        for where in self._rules:
            region, machine_type = where.split("/")
            if "*" not in where:
                yield region, machine_type

    def at(self, region: str, machine_type: str, now: datetime) -> float:
        """How many there are now; ``UNLIMITED`` is a number too."""
        timetable = self._timetable(region, machine_type)
        return timetable.at(now) if timetable else UNLIMITED

    def next_change(self, region: str, machine_type: str, now: datetime) -> Change | None:
        """What comes after now, ``None`` when everything stays as it is."""
        timetable = self._timetable(region, machine_type)
        return timetable.next_change(now) if timetable else None

    def _timetable(self, region: str, machine_type: str) -> Timetable | None:
        where = f"{region}/{machine_type}"
        if where not in self._timetables:
            candidates = (where, f"{region}/*", f"*/{machine_type}", "*/*")
            found = next((self._rules[rule] for rule in candidates if rule in self._rules), None)
            self._timetables[where] = found[0](found[1].since, where) if found else None
        return self._timetables[where]
