# SPDX-License-Identifier: Apache-2.0
"""What the watching benchmark runs, and what it finds."""

from __future__ import annotations

import math
from dataclasses import dataclass

INTERVAL = 10.0
"""Seconds between two looks at a job."""
OURS, THEIRS = "ours", "theirs"
APART, TOGETHER = "apart", "together"
SPAN = {APART: 180.0, TOGETHER: 60.0}
"""Seconds within which the jobs end."""


@dataclass(frozen=True)
class Case:
    """
    What is run.

    :param jobs: How many tasks wait, each for a job of its own.
    :param triggerers: In how many triggerers.
    :param ends: Key of :data:`SPAN`.
    :param whose: Whose triggers, :data:`OURS` or :data:`THEIRS`.
    """

    jobs: int
    triggerers: int
    ends: str
    whose: str

    def __str__(self) -> str:
        return f"{self.jobs:,} jobs, {self.triggerers} triggerer(s), ending {self.ends}, {self.whose}"


@dataclass(frozen=True)
class Outcome:
    """
    What a run cost, and how late it told.

    :param steady_reads: Reads a minute while no job ended.
    :param most_reads: Reads in the busiest minute, the start and the ends included.
    :param cpu: Seconds of processor time a minute while no job ended.
    :param mib: Most resident memory.
    :param delays: Seconds from each job's end to its event in the database.
    :param lost: Jobs whose event never came.
    """

    steady_reads: float
    most_reads: int
    cpu: float
    mib: float
    delays: list[float]
    lost: int

    def delay(self, percent: int) -> float:
        """Return the delay that so many percent of the events do not exceed."""
        ordered = sorted(self.delays) or [math.nan]
        return ordered[math.ceil(len(ordered) * percent / 100) - 1]
