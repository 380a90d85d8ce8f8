# SPDX-License-Identifier: Apache-2.0
"""When each of three places has a machine, at random and the same way every time, and what that means for a run."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

PLACES = ("east", "north", "west")
FREE, TAKEN = 4.0, 12.0
"""Mean seconds for which a place has a machine, and has none."""
_COVERED = 90.0
"""Seconds of a run for which that is said."""
LATE = 1.0
"""Seconds by which a turn may begin late, for each of the turns until it."""
_SHORTEST = 0.1
"""A machine that is free for fewer seconds may be missed."""


class Period(NamedTuple):
    """Seconds since the begin of a run."""

    begin: float
    end: float


class Turn(NamedTuple):
    """
    A time in which a run waits for a machine.

    :param place: Where, by its number.
    :param number: Of the turn, from 0.
    """

    place: int
    number: int
    time: Period


@dataclass(frozen=True)
class Scarcity:
    """
    What a run finds, the same for each way to look for a machine.

    :param seed: Number of the run.
    """

    seed: int

    def free(self, place: int) -> Iterator[Period]:
        """Yield the times in which a place has a machine."""
        dice = Random(f"{self.seed} {PLACES[place]}")  # noqa: S311 - the same seed is to give the same times
        moment, is_free = 0.0, dice.random() < FREE / (FREE + TAKEN)
        while moment < _COVERED:
            end = round(moment + dice.expovariate(1 / (FREE if is_free else TAKEN)), 3)
            if is_free:
                yield Period(moment, end)
            moment, is_free = end, not is_free

    def stock(self, place: int) -> str:
        """Return these times as the emulator reads them."""
        steps, before = ["0"], 0.0
        for period in self.free(place):
            steps += [f"1 after {period.begin - before:.3f} s", f"0 after {period.end - period.begin:.3f} s"]
            before = period.end
        return ", then ".join(steps)

    def came(self, turns: Sequence[Turn]) -> bool:
        """Tell whether a place has had a machine, for long enough, while a run that is a little late waited there."""
        return any(
            min(period.end, turn.time.end) - max(period.begin, turn.time.begin + LATE * (turn.number + 1))
            >= _SHORTEST
            for turn in turns
            for period in self.free(turn.place)
        )
