# SPDX-License-Identifier: Apache-2.0
"""
How many machines there are, and when that changes: what a user writes, and the timetable that comes of it.

``8``, ``never`` and ``unlimited`` stay as they are. ``0, then 8 after 20 s, then 0 after 1 min, then 8 at 02:00`` is
a list of steps: ``after`` counts from the step before, ``at`` is the next such time of day, in UTC.
``random seed=1 free=300 taken=900 machines=8`` alternates between 8 machines and none; both last exponentially long,
with these means in seconds, and the same seed gives the same periods. Pure: time comes in, asking changes nothing.
"""

from __future__ import annotations

import math
import random
import re
from bisect import bisect_right
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

UNLIMITED = math.inf
_UNITS = {"s": 1, "min": 60, "h": 3600}
_MOST_SECONDS = 366 * 24 * 3600
_LEAST_MEAN = 0.1  # seconds: shorter periods would keep the emulator busy with nothing else
_AMOUNT = r"\d{1,6}|unlimited"
_NUMBER = r"\d{1,9}(?:\.\d{1,6})?"
_STEP = re.compile(
    rf"then\s+(?P<amount>{_AMOUNT})\s+"
    rf"(?:after\s+(?P<number>{_NUMBER})\s*(?P<unit>s|min|h)|at\s+(?P<hour>[01]\d|2[0-3]):(?P<minute>[0-5]\d))"
)
_RANDOM = re.compile(r"random((?:\s+\w+=\S+)*)")
_RANDOM_FIELDS = {"seed": r"\d{1,18}", "free": _NUMBER, "taken": _NUMBER, "machines": r"\d{1,6}"}


class Change(NamedTuple):
    """From this moment on there are so many machines."""

    moment: datetime
    amount: float


class Timetable:
    """
    How many machines there are at each moment.

    :param changes: by time, the first one when the timetable begins; may go on for ever.
    """

    def __init__(self, changes: Iterator[Change]) -> None:
        self._coming = changes
        self._read = [next(changes)]

    def at(self, now: datetime) -> float:
        """How many there are; ``UNLIMITED`` is a number too."""
        return self._read[max(self._place(now) - 1, 0)].amount

    def next_change(self, now: datetime) -> Change | None:
        """What comes after now, ``None`` when everything stays as it is."""
        place = self._place(now)
        return self._read[place] if place < len(self._read) else None

    def _place(self, now: datetime) -> int:
        """Count the changes until now, with one more read when there is one."""
        while self._read[-1].moment <= now and (change := next(self._coming, None)):
            self._read.append(change)
        return bisect_right(self._read, now, key=lambda change: change.moment)


Plan = Callable[[datetime, str], Timetable]
"""Begins a timetable now, for a place: places of the same random plan take turns of their own."""


def parse_stock(text: str) -> Plan:
    """
    Read what a user wrote; see the module.

    :raises ValueError: when it makes no sense.
    """
    head, *steps = (part.strip() for part in text.split(","))
    if head.split(maxsplit=1)[:1] == ["random"] and not steps:
        return _random(text, head)
    if head == "never" and not steps:
        head = "0"
    if not re.fullmatch(_AMOUNT, head):
        raise _unreadable(text, f"{head!r} is no number of machines to begin with")
    found = [_step(text, step) for step in steps]
    if any(_seconds(match) > _MOST_SECONDS for match in found):
        raise ValueError(f"stock {text!r}: a step can be at most 366 days after the one before")

    def changes(begin: datetime, _: str) -> Iterator[Change]:
        moment = begin
        yield Change(moment, _amount(head))
        for match in found:
            moment = _after(match, moment)
            yield Change(moment, _amount(match["amount"]))

    return lambda now, where: Timetable(changes(now, where))


def _step(text: str, step: str) -> re.Match[str]:
    if match := _STEP.fullmatch(step):
        return match
    raise _unreadable(text, f"step {step!r} is not of the form 'then 8 after 20 s' or 'then 8 at 02:00'")


def _unreadable(text: str, reason: str) -> ValueError:
    return ValueError(
        f"stock {text!r}: {reason}. A stock is 8, never, unlimited, "
        "'0, then 8 after 20 s, then 0 after 1 min, then 8 at 02:00', or "
        "'random seed=1 free=300 taken=900 machines=8'"
    )


def _amount(text: str) -> float:
    return UNLIMITED if text == "unlimited" else int(text)


def _seconds(step: re.Match[str]) -> float:
    return float(step["number"]) * _UNITS[step["unit"]] if step["number"] else 0.0


def _after(step: re.Match[str], before: datetime) -> datetime:
    if step["number"]:
        return before + timedelta(seconds=_seconds(step))
    moment = before.astimezone(UTC).replace(
        hour=int(step["hour"]), minute=int(step["minute"]), second=0, microsecond=0
    )
    return moment if moment > before else moment + timedelta(days=1)


def _random(text: str, head: str) -> Plan:
    match = _RANDOM.fullmatch(head)
    fields = dict(pair.split("=", 1) for pair in match[1].split()) if match else {}
    if fields.keys() != _RANDOM_FIELDS.keys() or not all(
        re.fullmatch(pattern, fields[name]) for name, pattern in _RANDOM_FIELDS.items()
    ):
        raise ValueError(f"stock {text!r}: a random one is 'random seed=1 free=300 taken=900 machines=8'")
    free, taken = float(fields["free"]), float(fields["taken"])
    if not all(_LEAST_MEAN <= mean <= _MOST_SECONDS for mean in (free, taken)):
        raise ValueError(f"stock {text!r}: free and taken are means of {_LEAST_MEAN} s to 366 days")
    machines = int(fields["machines"])

    def changes(begin: datetime, where: str) -> Iterator[Change]:
        dice = random.Random(f"{fields['seed']} {where}")  # noqa: S311 - the same seed is to give the same periods
        moment, is_free = begin, dice.random() < free / (free + taken)
        while True:
            yield Change(moment, machines if is_free else 0)
            moment += timedelta(seconds=dice.expovariate(1 / (free if is_free else taken)))
            is_free = not is_free

    return lambda now, where: Timetable(changes(now, where))
