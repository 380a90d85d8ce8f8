# SPDX-License-Identifier: Apache-2.0
"""What a request for a tuning job may say on trials and metrics; the rest is that of a custom job."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from google.cloud.aiplatform_v1.types import StudySpec

from airflow_vertex_persistent.emulator.errors import Problems, unimplemented
from airflow_vertex_persistent.emulator.machines import is_tpu

from .checks import check_job_spec, check_texts, refuse_packages
from .study_checks import all_parameters, check_parameters

if TYPE_CHECKING:
    from google.cloud.aiplatform_v1.types import HyperparameterTuningJob

JOB = "hyperparameter_tuning_job"
_SPACE = re.compile(r"\s")
_STOPPING = "automated_stopping_spec"


def check_tuning_job(job: HyperparameterTuningJob) -> None:
    """
    Check a tuning job that is to be created.

    :raises ApiError: INVALID_ARGUMENT with all problems, UNIMPLEMENTED for what is not emulated.
    """
    problems = Problems()
    check_texts(job.display_name, job.labels, JOB, problems)
    _check_counts(job, problems)
    _check_metrics(job.study_spec, problems)
    _check_algorithm(job.study_spec, problems)
    check_parameters(job.study_spec.parameters, f"{JOB}.study_spec.parameters", problems)
    field = f"{JOB}.trial_job_spec"
    check_job_spec(job.trial_job_spec, field, problems)
    for index, pool in enumerate(job.trial_job_spec.worker_pool_specs):
        problems.check(
            not is_tpu(pool.machine_spec),
            f"{field}.worker_pool_specs[{index}].machine_spec",
            "Hyperparameter tuning does not support TPUs.",
        )
    problems.answer()
    refuse_packages(job.trial_job_spec)
    _refuse_what_is_not_emulated(job.study_spec)


def _check_counts(job: HyperparameterTuningJob, problems: Problems) -> None:
    most, parallel, failed = job.max_trial_count, job.parallel_trial_count, job.max_failed_trial_count
    problems.check(most > 0, f"{JOB}.max_trial_count", f"{most} is not greater than 0.")
    problems.check(
        0 < parallel <= most,
        f"{JOB}.parallel_trial_count",
        f"{parallel} is not between 1 and max_trial_count ({most}).",
    )
    problems.check(
        0 <= failed <= most,
        f"{JOB}.max_failed_trial_count",
        f"{failed} is not between 0 and max_trial_count ({most}).",
    )


def _check_metrics(study: StudySpec, problems: Problems) -> None:
    field = f"{JOB}.study_spec.metrics"
    problems.check(study.metrics, field, "Required field is not set.")
    ids = [metric.metric_id for metric in study.metrics]
    problems.check(len(ids) == len(set(ids)), field, "Two metrics have the same metric_id.")
    for index, (name, metric) in enumerate(zip(ids, StudySpec.pb(study).metrics, strict=True)):
        problems.check(
            name and not _SPACE.search(name),
            f"{field}[{index}].metric_id",
            f"{name!r} is empty or contains whitespace.",
        )
        problems.check(
            metric.goal in set(StudySpec.MetricSpec.GoalType),
            f"{field}[{index}].goal",
            f"{metric.goal} is not a known goal.",
        )


def _check_algorithm(study: StudySpec, problems: Problems) -> None:
    raw, field = StudySpec.pb(study), f"{JOB}.study_spec"
    problems.check(
        raw.algorithm in set(StudySpec.Algorithm),
        f"{field}.algorithm",
        f"{raw.algorithm} is not a known algorithm.",
    )
    problems.check(
        raw.measurement_selection_type in set(StudySpec.MeasurementSelectionType),
        f"{field}.measurement_selection_type",
        f"{raw.measurement_selection_type} is not a known measurement selection type.",
    )
    if raw.algorithm == StudySpec.Algorithm.GRID_SEARCH:
        for name in (
            one.parameter_id for one in all_parameters(study.parameters) if "double_value_spec" in one
        ):
            problems.add(
                f"{field}.algorithm", f"GRID_SEARCH does not support DOUBLE parameters such as {name!r}."
            )


def _refuse_what_is_not_emulated(study: StudySpec) -> None:
    raw = StudySpec.pb(study)
    rule = raw.WhichOneof(_STOPPING)
    if rule not in {None, "median_automated_stopping_spec"}:
        raise unimplemented(f"{rule} is not emulated; use median_automated_stopping_spec.")
    if rule and len(study.metrics) > 1:
        raise unimplemented(f"{rule} with several metrics is not emulated.")
    if raw.HasField("study_stopping_config"):
        raise unimplemented("study_stopping_config is not emulated.")
    if any(metric.HasField("safety_config") for metric in raw.metrics):
        raise unimplemented("safety_config is not emulated.")
