# SPDX-License-Identifier: Apache-2.0
"""The trials of a tuning job, as the API has them, in the words of this package."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from google.cloud.aiplatform_v1.types import StudySpec, Trial

from airflow_vertex_persistent.hooks.values import enum_name, timestamp
from airflow_vertex_persistent.trials import MAXIMIZE, MINIMIZE

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from google.cloud.aiplatform_v1.types import HyperparameterTuningJob, Measurement

    from airflow_vertex_persistent.trials import TrialSnapshot, TuningSnapshot

_MINIMIZE = StudySpec.MetricSpec.GoalType.MINIMIZE


def tuning_snapshot(job: HyperparameterTuningJob, *, measurements: bool = True) -> TuningSnapshot:
    """
    Return what one look at a tuning job says of its trials, which lists leave out.

    :param measurements: Whether to read all reports of each trial, of which there may be many thousands.
    """
    kinds = dict(_kinds(job.study_spec.parameters))
    return {
        "display_name": job.display_name,
        # The service takes a goal that is not said for maximize.
        "goals": {
            metric.metric_id: MINIMIZE if metric.goal == _MINIMIZE else MAXIMIZE
            for metric in job.study_spec.metrics
        },
        "max_trial_count": job.max_trial_count,
        "max_failed_trial_count": job.max_failed_trial_count,
        "trials": [_trial_snapshot(trial, kinds, measurements=measurements) for trial in job.trials],
    }


def _kinds(parameters: Iterable[StudySpec.ParameterSpec]) -> Iterator[tuple[str, str]]:
    """Yield the kind of each parameter, by its id, children included."""
    for parameter in parameters:
        kind = StudySpec.ParameterSpec.pb(parameter).WhichOneof("parameter_value_spec")
        yield parameter.parameter_id, str(kind)
        yield from _kinds(child.parameter_spec for child in parameter.conditional_parameter_specs)


def _trial_snapshot(trial: Trial, kinds: dict[str, str], *, measurements: bool) -> TrialSnapshot:
    final = trial.final_measurement if "final_measurement" in trial else None
    return {
        "id": trial.id,
        "state": enum_name(Trial.State, trial.state),
        "parameters": {
            one.parameter_id: _value(one.value, kinds.get(one.parameter_id)) for one in trial.parameters
        },
        "metrics": {} if final is None else _metrics(final),
        "step": None if final is None else final.step_count,
        "measurements": [
            {
                "step": measurement.step_count,
                "elapsed_seconds": _seconds(measurement.elapsed_duration),
                "metrics": _metrics(measurement),
            }
            for measurement in (trial.measurements if measurements else ())
        ],
        "start_time": timestamp(trial.start_time),
        "end_time": timestamp(trial.end_time),
        "custom_job": trial.custom_job or None,
        "infeasible_reason": trial.infeasible_reason,
    }


def _seconds(duration: Any) -> float:
    """Return a duration, which the client's annotations have as another class than it is."""
    return float(duration.total_seconds())


def _metrics(measurement: Measurement) -> dict[str, float]:
    return {metric.metric_id: metric.value for metric in measurement.metrics}


def _value(value: Any, kind: str | None) -> float | int | str:
    """Return a parameter's value with the type that its kind has; the API's numbers all have a point."""
    if not isinstance(value, float):
        return str(value)
    whole = kind == "integer_value_spec" or (kind == "discrete_value_spec" and value.is_integer())
    return int(value) if whole else value
