# SPDX-License-Identifier: Apache-2.0
"""Asks for a tuning job, or for what is wrong with it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from google.cloud.aiplatform_v1.types import HyperparameterTuningJob
from google.protobuf.json_format import ParseDict

from airflow_vertex_persistent.exceptions import InvalidRequestError
from airflow_vertex_persistent.specs.checks import Problems
from airflow_vertex_persistent.specs.custom_job import JOB_FIELDS, QUEUE_FIELDS, WARM_FIELDS
from airflow_vertex_persistent.specs.study import double
from airflow_vertex_persistent.specs.tuning_job import COUNT_FIELDS, STUDY_FIELDS, tuning_body, tuning_job

FIELDS = (*STUDY_FIELDS, *COUNT_FIELDS, *JOB_FIELDS, *WARM_FIELDS, *QUEUE_FIELDS)
WORK = {"region": "europe-west4", "container_uri": "trainer:1", "machine_type": "n1-standard-4"}
SEARCH: dict[str, Any] = {
    "metrics": {"accuracy": "maximize"},
    "parameters": {"rate": double(0.1, 1)},
    "max_trial_count": 10,
}


def body(**wanted: Any) -> dict[str, Any]:
    """Return the tuning job that becomes of some fields, in the API's JSON form."""
    problems = Problems("tuning job")
    given = {**WORK, **SEARCH, **wanted}
    request = tuning_job({**dict.fromkeys(FIELDS), **given}, problems, default_display_name="search")
    problems.raise_if_any()
    made = tuning_body(request, request.job)
    json.dumps(made)
    ParseDict(made, HyperparameterTuningJob.pb()())
    return made


def parameter(written: Any) -> dict[str, Any]:
    """Return a parameter named p as the API gets it."""
    (read,) = body(parameters={"p": written})["study_spec"]["parameters"]
    assert read.pop("parameter_id") == "p"
    return dict(read)


def problems_of(**wanted: Any) -> list[str]:
    """Return what is told of some fields."""
    with pytest.raises(InvalidRequestError) as caught:
        body(**wanted)
    return list(caught.value.problems)


def problem_of(**wanted: Any) -> str:
    """Return the one thing that is told of some fields."""
    (problem,) = problems_of(**wanted)
    return problem
