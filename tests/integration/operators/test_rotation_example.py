# SPDX-License-Identifier: Apache-2.0
"""The example ``persistent_resource_rotation.py`` over some weeks."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from google.cloud.aiplatform_v1.types import JobState

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from airflow.sdk import DAG

    from tests.conftest import Relay
    from tests.integration.conftest import Cloud
    from tests.integration.operators.conftest import Run

EXAMPLE = Path(__file__).parents[3] / "dags_examples" / "persistent_resource_rotation.py"


@pytest.fixture
def dag() -> DAG:
    """The DAG of the example, with short pauses."""
    made: DAG = runpy.run_path(str(EXAMPLE))["persistent_resource_rotation"]()
    task: Any = made.get_task("rotate")
    task.poll_interval = 0.05
    return made


def test_some_weeks(
    empty_cloud: Cloud,
    relay: Relay,
    dag: DAG,
    run_dag: Callable[[], Run],
    meanwhile: Callable[[Callable[[], object]], AbstractContextManager[None]],
) -> None:
    """The resource is created, kept while it is young, and replaced when it is old, once its job has ended."""
    first = run_dag().result("rotate")
    second = run_dag().result("rotate")
    assert [(week["created"], week["rotated"]) for week in (first, second)] == [(True, False), (False, False)]

    dag.get_task("rotate").params["max_age_days"] = 0.000001
    job, looks = empty_cloud.occupy("always-warm"), relay.count("GetPersistentResource")

    def end_the_job() -> None:
        empty_cloud.wait_for(lambda: relay.count("GetPersistentResource") > looks + 3, "the task waits")
        assert empty_cloud.jobs.get_custom_job(name=job.name).state == JobState.JOB_STATE_RUNNING
        empty_cloud.cancel_running_job()

    with meanwhile(end_the_job):
        third = run_dag().result("rotate")
    assert (third["created"], third["rotated"]) == (True, True)
    assert third["create_time"] > first["create_time"]
