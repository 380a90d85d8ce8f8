# SPDX-License-Identifier: Apache-2.0
"""
The median rule of early stopping, as the API words it. Pure.

A running trial is stopped when its best value is strictly worse than the median of what the completed trials had
reached by then; what a trial had reached is the mean of all that it had measured.
"""

from __future__ import annotations

from statistics import fmean, median
from typing import TYPE_CHECKING

from .measurements import sign

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from google.cloud.aiplatform_v1.types import StudySpec

    from .measurements import Measured


def is_hopeless(
    running: Sequence[Measured], completed: Iterable[Sequence[Measured]], study: StudySpec
) -> bool:
    """
    Tell whether a running trial is to be stopped.

    :param running: what it has measured.
    :param completed: what each trial that has succeeded has measured.
    :param study: has one metric, and the median rule.
    """
    if not running:
        return False
    metric = study.metrics[0]
    by_time = study.median_automated_stopping_spec.use_elapsed_duration

    def place(one: Measured) -> float:
        return one.elapsed if by_time else one.step

    def values(found: Iterable[Measured]) -> list[float]:
        return [sign(metric) * one.values[metric.metric_id] for one in found]

    last = place(running[-1])
    reached = [
        fmean(values(early)) for trial in completed if (early := [one for one in trial if place(one) <= last])
    ]
    return bool(reached) and max(values(running)) < median(reached)
