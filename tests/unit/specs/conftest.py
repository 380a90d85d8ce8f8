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
from airflow_vertex_persistent.specs.pool_matching import fit_to_pools

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_vertex_persistent.specs.pool_matching import PoolNeeds


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


@pytest.fixture(scope="session")
def fit() -> Callable[..., PoolNeeds]:
    """Return what a job that is wanted needs of a live resource, which it must fit."""

    def ask(
        wanted: dict[str, Any], resource: dict[str, Any], project: str = "acme", region: str = "europe-west4"
    ) -> PoolNeeds:
        problems = Problems("custom job")
        request = custom_job({"display_name": "n", "persistent_resource_id": "nightly", **wanted}, problems)
        problems.raise_if_any()
        needs = fit_to_pools(request, resource, problems, project_id=project, region=region)
        problems.raise_if_any()
        return needs

    return ask


@pytest.fixture(scope="session")
def misfit(fit: Callable[..., PoolNeeds]) -> Callable[..., tuple[str, ...]]:
    """Return why a job that is wanted does not fit a live resource, which it must not."""

    def ask(wanted: dict[str, Any], resource: dict[str, Any], **place: str) -> tuple[str, ...]:
        with pytest.raises(InvalidRequestError) as caught:
            fit(wanted, resource, **place)
        return caught.value.problems

    return ask
