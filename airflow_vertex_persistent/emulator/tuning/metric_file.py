# SPDX-License-Identifier: Apache-2.0
"""
What training code reports with cloudml-hypertune: one JSON object per line, the whole file written anew each time.

Values and steps are strings, a value may be ``nan``, and only the last 100 reports are in the file. Pure: text in,
reports out.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator


@dataclass(frozen=True)
class Report:
    """
    One line of the file, on one metric.

    :param time: when it was reported, in seconds since 1970.
    :param step: the training's own count, 0 when it gave none.
    """

    time: float
    step: int
    metric: str
    value: float


class Reports:
    """
    All reports of one trial, also those that the file has no room for any more.

    :param metrics: ids of the metrics that count; other lines are of no interest.
    """

    def __init__(self, metrics: Collection[str]) -> None:
        self._metrics = metrics
        self.all: list[Report] = []

    def read(self, text: str) -> bool:
        """
        Take what is new in the file; one that is just being written lacks lines, and has them the next time.

        :return: whether anything is.
        """
        last = self.all[-1].time if self.all else -math.inf
        known = {report for report in self.all if report.time == last}
        fresh = [
            report
            for report in _reports(text, self._metrics)
            if report.time > last or (report.time == last and report not in known)
        ]
        self.all += fresh
        return bool(fresh)


def _reports(text: str, metrics: Collection[str]) -> Iterator[Report]:
    for line in text.splitlines():
        try:
            content = json.loads(line)
        except ValueError:
            continue  # half a line: the file is being written
        if isinstance(content, dict):
            yield from _on_metrics(content, metrics)


def _on_metrics(content: dict[str, Any], metrics: Collection[str]) -> Iterator[Report]:
    """Yield what a line says on metrics that count; what is no number is not measured."""
    try:
        time, step = float(content["timestamp"]), int(content.get("global_step", 0))
        values = {metric: float(content[metric]) for metric in metrics if metric in content}
    except (KeyError, TypeError, ValueError, OverflowError):
        return
    for metric, value in values.items():
        if math.isfinite(value) and math.isfinite(time) and step >= 0:
            yield Report(time, step, metric, value)
