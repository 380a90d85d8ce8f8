# SPDX-License-Identifier: Apache-2.0
"""From reports on single metrics to measurements of a trial, and to the one that counts. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from google.cloud.aiplatform_v1.types import Measurement, StudySpec

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from .metric_file import Report

_Goal = StudySpec.MetricSpec.GoalType
_BEST = StudySpec.MeasurementSelectionType.BEST_MEASUREMENT


@dataclass(frozen=True)
class Measured:
    """
    What a trial had reached at one time.

    :param step: the training's own count, 0 when it gives none.
    :param elapsed: seconds since the trial's start.
    :param values: of all metrics, by id.
    """

    step: int
    elapsed: float
    values: Mapping[str, float]


def sign(metric: StudySpec.MetricSpec) -> int:
    """Tell what makes more of a metric better: 1 when it is to be large, -1 when it is to be small."""
    return -1 if metric.goal == _Goal.MINIMIZE else 1


def measured(
    reports: Iterable[Report], metrics: Sequence[StudySpec.MetricSpec], start: float
) -> list[Measured]:
    """
    Put reports on single metrics together, in their order.

    Reports on different metrics at the same step are one measurement. A metric that was not reported at a step has
    the value that it had before, and there is no measurement until each had one.

    :param start: when the trial was started, in seconds since 1970.
    """
    groups: list[list[Report]] = []
    for report in reports:
        group = groups[-1] if groups else []
        if group and group[0].step == report.step and report.metric not in {one.metric for one in group}:
            group.append(report)
        else:
            groups.append([report])
    values: dict[str, float] = {}
    found = []
    for group in groups:
        values |= {report.metric: report.value for report in group}
        if len(values) == len(metrics):
            found.append(Measured(group[0].step, max(0.0, group[-1].time - start), dict(values)))
    return found


def final(found: Sequence[Measured], study: StudySpec) -> Measured | None:
    """
    Choose the measurement that counts, ``None`` when there is none.

    The last one, or the best when the study says so; of several metrics, the first decides which is best.
    """
    if not found or study.measurement_selection_type != _BEST:
        return found[-1] if found else None
    first = study.metrics[0]
    return max(found, key=lambda one: sign(first) * one.values[first.metric_id])


def as_message(one: Measured, study: StudySpec) -> Measurement:
    """Put a measurement as the API has it."""
    return Measurement(
        step_count=one.step,
        elapsed_duration=timedelta(seconds=one.elapsed),
        metrics=[
            {"metric_id": metric.metric_id, "value": one.values[metric.metric_id]} for metric in study.metrics
        ],
    )


def as_messages(found: Iterable[Measured], study: StudySpec) -> list[Measurement]:
    """Put all measurements as the API has them, by step and time."""
    return [as_message(one, study) for one in sorted(found, key=lambda one: (one.step, one.elapsed))]
