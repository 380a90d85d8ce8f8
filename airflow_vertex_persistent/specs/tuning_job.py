# SPDX-License-Identifier: Apache-2.0
"""A tuning job: a custom job for each trial, and what is searched."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from airflow_vertex_persistent.specs.checks import whole_number
from airflow_vertex_persistent.specs.custom_job import JobRequest, custom_job
from airflow_vertex_persistent.specs.messages import spellings, unknown_field
from airflow_vertex_persistent.specs.study_reading import read_study
from airflow_vertex_persistent.specs.worker_pools import short_form_field

if TYPE_CHECKING:
    from airflow_vertex_persistent.specs.checks import Problems

# Accelerators, and machine types such as ct5lp-hightpu-4t and cloud-tpu.
_TPU = re.compile(r"TPU_|ct\d|cloud-tpu")
STUDY_FIELDS = ("metrics", "parameters", "algorithm", "measurement_selection", "early_stopping")
COUNT_FIELDS = ("max_trial_count", "parallel_trial_count", "max_failed_trial_count")
# What a body has of its own; the rest of it is that of a custom job.
_BODY_FIELDS = ("study_spec", "trial_job_spec", *COUNT_FIELDS)


def tuning_job(
    wanted: Mapping[str, Any], problems: Problems, *, default_display_name: str | None = None
) -> JobRequest:
    """
    Return the tuning job that is wanted.

    What is written as a parameter wins over the same field in ``config``.

    :param wanted: The fields of :data:`STUDY_FIELDS`, :data:`COUNT_FIELDS` and those that
        :func:`~airflow_vertex_persistent.specs.custom_job.custom_job` reads, after templates were rendered.
        ``config`` is a mapping: a HyperparameterTuningJob body (``studySpec``, ``trialJobSpec``), or one of the job
        of a trial as ``custom_job`` takes it.
    :param problems: Hears of everything that is wrong.
    :param default_display_name: For a job that has none.
    """
    config, own = _split(wanted.get("config"), problems)
    request = custom_job({**wanted, "config": config}, problems, default_display_name=default_display_name)
    study = own.get("study_spec") or {}
    if not isinstance(study, Mapping):
        problems.add_hidden("config.study_spec", "write a mapping")
        study = {}
    tuning = {"study_spec": read_study(wanted, study, problems), **_counts(wanted, own, problems)}
    _check_machines(request, problems)
    return request._replace(tuning=tuning)


def tuning_body(request: JobRequest, job: Mapping[str, Any]) -> dict[str, Any]:
    """
    Return the ``HyperparameterTuningJob`` to create, in the API's JSON form.

    :param job: The custom job that each trial is, with its machines.
    """
    rest = {field: value for field, value in job.items() if field != "job_spec"}
    return {**rest, **(request.tuning or {}), "trial_job_spec": job["job_spec"]}


def _split(config: Any, problems: Problems) -> tuple[Any, dict[str, Any]]:
    """Return the part of ``config`` that is as of a custom job, and what a tuning job has of its own."""
    if not isinstance(config, Mapping) or not config or _is_of_a_trial(config):
        return config, {}
    from google.cloud.aiplatform_v1.types import HyperparameterTuningJob

    known = [field.name for field in HyperparameterTuningJob.pb().DESCRIPTOR.fields]
    fields = spellings(known)
    # A body of which no field is known may be of either kind.
    meant = known if fields.keys() & config.keys() else [*known, *_trial_fields()]
    rest: dict[str, Any] = {"job_spec": {}}
    own: dict[str, Any] = {}
    for key, value in config.items():
        field = fields.get(str(key))
        if field is None:
            problems.add_hidden(f"config.{key}", unknown_field("HyperparameterTuningJob", str(key), meant))
        elif field not in _BODY_FIELDS:
            rest[key] = value
        elif field in own:
            problems.add_hidden(f"config.{field}", "is given twice")
        else:
            own[field] = value
    if "trial_job_spec" in own:
        rest["job_spec"] = own["trial_job_spec"]
    return rest, own


def _is_of_a_trial(config: Mapping[str, Any]) -> bool:
    """Tell whether ``config`` is the job of a trial, a ``CustomJob`` or its spec, and no tuning job."""
    if spellings(_BODY_FIELDS).keys() & config.keys():
        return False
    return bool(spellings(_trial_fields()).keys() & config.keys())


def _trial_fields() -> list[str]:
    """Return what the ``config`` of a trial's job may have at its top."""
    from google.cloud.aiplatform_v1.types import CustomJobSpec

    return ["job_spec", *(field.name for field in CustomJobSpec.pb().DESCRIPTOR.fields)]


def _counts(wanted: Mapping[str, Any], own: Mapping[str, Any], problems: Problems) -> dict[str, int]:
    """Read how many trials there are."""
    least = {"max_trial_count": 1, "parallel_trial_count": 1, "max_failed_trial_count": 0}
    counts: dict[str, int] = {"parallel_trial_count": 1}
    for field in COUNT_FIELDS:
        written = own.get(field) if wanted[field] is None else wanted[field]
        if written is None and field != "max_trial_count":
            continue
        number = whole_number(field, written, problems, least=least[field])
        if number is not None:
            counts[field] = number
    most = counts.get("max_trial_count")
    for field in ("parallel_trial_count", "max_failed_trial_count"):
        if most is not None and counts.get(field, 0) > most:
            problems.add(field, counts[field], f"must not be more than max_trial_count, {most}")
    return counts


def _check_machines(request: JobRequest, problems: Problems) -> None:
    rename = short_form_field if request.short_form else str
    for index, pool in enumerate(request.job["job_spec"].get("worker_pool_specs") or []):
        machine = pool.get("machine_spec") or {}
        for field in ("machine_type", "accelerator_type", "tpu_topology"):
            value = str(machine.get(field) or "")
            if (field == "tpu_topology" and value) or _TPU.match(value):
                path = rename(f"worker_pool_specs[{index}].machine_spec.{field}")
                problems.add(path, value, "use GPUs or none: Vertex AI tunes nothing on TPUs")
