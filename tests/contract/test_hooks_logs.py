# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from airflow_vertex_persistent.exceptions import PermissionDeniedError
from airflow_vertex_persistent.hooks.client import VertexAsyncHook
from airflow_vertex_persistent.hooks.logs import last_lines as read_last_lines
from airflow_vertex_persistent.names import ResourceName
from airflow_vertex_persistent.triggers.training_job import TrainingJobTrigger

if TYPE_CHECKING:
    from google.cloud.aiplatform_v1.types import CustomJob

    from tests.conftest import Relay
    from tests.contract.conftest import Cloud

FAILS = "print(*range(100), sep='\\n'); print('x' * 9999); raise SystemExit('no loss')"

pytestmark = pytest.mark.usefixtures("relay")


@pytest.fixture
def failed(cloud: Cloud) -> CustomJob:
    """A job that has failed, in its second replica."""
    return cloud.run(cloud.pool("import time; time.sleep(600)"), cloud.pool(FAILS))


def last_lines(job: CustomJob, replica: str | None = None, since: str | None = None) -> list[str]:
    """Return what the hook answers."""

    async def run() -> list[str]:
        async with VertexAsyncHook() as hook:
            return await read_last_lines(hook, ResourceName.parse(job.name), replica, since)

    return asyncio.run(run())


def watched(job: CustomJob) -> dict[str, object]:
    """Return the details in the event of a job's trigger."""
    trigger = TrainingJobTrigger(
        job=job.name,
        cancel_on_kill=True,
        region="europe-west4",
        gcp_conn_id="google_cloud_default",
        impersonation_chain=None,
        poll_interval=0.1,
        max_outage=60.0,
    )
    return trigger.watch_here()["details"]


def test_the_last_lines_of_a_replica(failed: CustomJob) -> None:
    """At most twenty lines come, the oldest first, long ones cut, of the replica that was asked for."""
    lines = last_lines(failed, "workerpool1-0", "2026-01-01T00:00:00Z")
    assert lines == [*map(str, range(82, 100)), "x" * 500, "no loss"]
    assert last_lines(failed, "workerpool0-0") == []


def test_the_last_lines_of_a_job(failed: CustomJob) -> None:
    """Without a replica the service's own lines are among them."""
    assert last_lines(failed)[-1] == "Job failed."


def test_a_missing_permission_is_an_error(failed: CustomJob, relay: Relay) -> None:
    """Who may not read the log hears so, after one call."""
    relay.refuse("ListLogEntries", code="PERMISSION_DENIED", text="logging.logEntries.list", times=5)
    with pytest.raises(PermissionDeniedError, match=r"logging\.logEntries\.list"):
        last_lines(failed)
    assert relay.count("ListLogEntries") == 1


def test_the_event_of_a_failed_job_has_them(failed: CustomJob) -> None:
    """The trigger reads the log of the replica that the service blames."""
    details = watched(failed)
    assert list(details) == ["log_lines"]
    assert details["log_lines"] == last_lines(failed, "workerpool1-0")


def test_a_log_that_cannot_be_read_is_not_fatal(failed: CustomJob, relay: Relay) -> None:
    """Without the permission the event says so and is the same otherwise."""
    relay.refuse("ListLogEntries", code="PERMISSION_DENIED", text="you may not")
    details = watched(failed)
    assert list(details) == ["log_problem"]
    assert "you may not" in str(details["log_problem"])
