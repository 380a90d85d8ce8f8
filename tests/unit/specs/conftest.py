# SPDX-License-Identifier: Apache-2.0
"""Asks the specs for a request, or for what is wrong with it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from google.cloud.aiplatform_v1.types import CustomJob
from google.protobuf.json_format import ParseDict

from airflow_vertex_persistent.exceptions import InvalidRequestError
from airflow_vertex_persistent.specs.checks import Problems
from airflow_vertex_persistent.specs.custom_job import custom_job

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.fixture(scope="session")
def request_of() -> Callable[[dict[str, Any]], dict[str, Any]]:
    """Return the request for a custom job that is wanted: it must be good, and one that the API can read."""

    def ask(wanted: dict[str, Any]) -> dict[str, Any]:
        problems = Problems("custom job")
        job = custom_job(wanted, problems).job
        problems.raise_if_any()
        ParseDict(job, CustomJob.pb()())
        return job

    return ask


@pytest.fixture(scope="session")
def problems_of() -> Callable[[dict[str, Any]], tuple[str, ...]]:
    """Return what is wrong with a custom job that is wanted: it must not be good."""

    def ask(wanted: dict[str, Any]) -> tuple[str, ...]:
        problems = Problems("custom job")
        custom_job(wanted, problems)
        with pytest.raises(InvalidRequestError) as caught:
            problems.raise_if_any()
        return caught.value.problems

    return ask
