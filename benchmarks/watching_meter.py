# SPDX-License-Identifier: Apache-2.0
"""What watching costs while it happens: reads that the emulator counts, processor time, memory."""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import psutil

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_vertex_persistent.emulator.control import EmulatorControl

READS = ("GetCustomJob", "ListCustomJobs")
_MINUTE = 60.0
_SECONDS_BETWEEN = 1.0


@dataclass(frozen=True)
class Sample:
    """
    All that was spent until a moment.

    :param at: Seconds since the epoch.
    :param cpu: Seconds of processor time.
    :param mib: Resident memory at this moment; pages that two processes share count twice.
    """

    at: float
    reads: int
    cpu: float
    mib: float


class Meter:
    """
    Takes a sample every second.

    :param control: Of the emulator.
    :param process_ids: Returns the ids of the triggerers' processes.
    """

    def __init__(self, control: EmulatorControl, process_ids: Callable[[], list[int]]) -> None:
        self._control = control
        self._process_ids = process_ids
        self.samples: list[Sample] = []

    def due(self) -> bool:
        """Tell whether it is time for the next sample."""
        return not self.samples or time.time() - self.samples[-1].at >= _SECONDS_BETWEEN

    def take(self) -> None:
        """Take a sample."""
        cpu = mib = 0.0
        for process_id in self._process_ids():
            with contextlib.suppress(psutil.NoSuchProcess):
                process = psutil.Process(process_id)
                times = process.cpu_times()
                cpu += times.user + times.system
                mib += process.memory_info().rss / 2**20
        counts = self._control.call_counts()
        self.samples.append(Sample(time.time(), sum(counts[read] for read in READS), cpu, mib))

    def between(self, start: float, end: float) -> tuple[Sample, Sample]:
        """
        Return the first and the last sample of a stretch of time.

        :raises RuntimeError: There are no two.
        """
        inside = [sample for sample in self.samples if start <= sample.at <= end]
        if len(inside) < 2:  # noqa: PLR2004 - a stretch has two ends
            raise RuntimeError(
                "the first job ended before all tasks were watched calmly: use a longer --steady"
            )
        return inside[0], inside[-1]

    def busiest_minute(self) -> int:
        """Return the most reads in any minute."""
        most = first = 0
        for last in self.samples:
            while last.at - self.samples[first].at > _MINUTE:
                first += 1
            most = max(most, last.reads - self.samples[first].reads)
        return most

    def peak_mib(self) -> float:
        """Return the most memory at any moment."""
        return max(sample.mib for sample in self.samples)
