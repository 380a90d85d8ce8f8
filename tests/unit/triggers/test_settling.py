# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import re
from typing import Any, Literal

import pytest

from airflow_vertex_persistent.triggers.persistent_resource import PersistentResourceTrigger
from airflow_vertex_persistent.triggers.training_job import TrainingJobTrigger

SHARED: dict[str, Any] = {
    "region": "europe-west4",
    "gcp_conn_id": "google_cloud_default",
    "impersonation_chain": None,
    "poll_interval": 30.0,
    "max_outage": 3600.0,
}
JOB = "projects/1/locations/europe-west4/customJobs/2"


@pytest.mark.parametrize(
    ("state", "message", "settled"),
    [
        ("JOB_STATE_SUCCEEDED", "", True),
        ("JOB_STATE_CANCELLED", "", True),
        ("JOB_STATE_FAILED", "exited with 1", True),
        ("JOB_STATE_EXPIRED", "expired", True),
        ("JOB_STATE_FAILED", "", False),
        ("JOB_STATE_PENDING", "", False),
        ("JOB_STATE_CANCELLING", "", False),
        ("JOB_STATE_PAUSED", "", False),
        ("99", "", False),
    ],
)
def test_a_job_is_watched_to_its_end(state: str, message: str, *, settled: bool) -> None:
    """The watch of a job ends with the job; the reason of a failure, which comes later, is waited for."""
    trigger = TrainingJobTrigger(job=JOB, cancel_on_kill=True, **SHARED)
    assert trigger.settled({"state": state, "error_code": 0, "error_message": message}) is settled


PAST, FUTURE = "2026-01-01T00:00:00+00:00", "2226-01-01T00:00:00+00:00"


@pytest.mark.parametrize(
    ("state", "start", "deadline", "overdue"),
    [
        ("PENDING", None, PAST, True),
        ("QUEUED", None, PAST, True),
        ("PENDING", None, FUTURE, False),
        ("PENDING", None, None, False),
        ("PENDING", PAST, PAST, False),
        ("RUNNING", PAST, PAST, False),
        ("RUNNING", None, PAST, False),
        ("CANCELLING", None, PAST, False),
        ("99", None, PAST, False),
    ],
)
def test_only_a_job_that_waits_is_overdue(
    state: str, start: str | None, deadline: str | None, *, overdue: bool
) -> None:
    """A job that has started, or is being cancelled, is watched to its end, however long it had waited."""
    trigger = TrainingJobTrigger(job=JOB, cancel_on_kill=True, wait_deadline=deadline, **SHARED)
    assert trigger.overdue({"state": f"JOB_STATE_{state}", "start_time": start}) is overdue
    assert not trigger.overdue(None)


@pytest.mark.parametrize(
    ("start", "end", "said"),
    [
        (None, None, r", has queued \d+ s"),
        (None, "2026-11-22T01:00:30+00:00", r", has queued 30 s"),
        ("2026-11-22T01:00:12+00:00", None, r", queued 12 s, has run \d+ s"),
        ("2026-11-22T01:00:12+00:00", "2026-11-22T02:00:12+00:00", r", queued 12 s, ran 3600 s"),
    ],
)
def test_the_log_tells_how_long_a_job_queued_and_ran(start: str | None, end: str | None, said: str) -> None:
    """Behind each state stands the time in the queue and the time at work, as far as there is one."""
    trigger = TrainingJobTrigger(job=JOB, cancel_on_kill=True, **SHARED)
    times = {"create_time": "2026-11-22T01:00:00+00:00", "start_time": start, "end_time": end}
    assert re.fullmatch(said, trigger.progress(times))


def test_a_code_is_a_reason() -> None:
    """A failed job with a status code and no text has said why."""
    trigger = TrainingJobTrigger(job=JOB, cancel_on_kill=True, **SHARED)
    assert trigger.settled({"state": "JOB_STATE_FAILED", "error_code": 8, "error_message": ""})


@pytest.mark.parametrize(
    ("until", "state", "settled"),
    [
        ("ready", "PROVISIONING", False),
        ("ready", "REBOOTING", False),
        ("ready", "UPDATING", False),
        ("ready", "RUNNING", True),
        ("ready", "ERROR", True),
        ("ready", "STOPPING", False),
        ("ready", None, True),
        ("gone", "RUNNING", False),
        ("gone", "STOPPING", False),
        ("gone", "ERROR", False),
        ("gone", None, True),
    ],
)
def test_a_resource_is_watched_until_ready_or_gone(
    until: Literal["ready", "gone"], state: str | None, *, settled: bool
) -> None:
    """Ready is RUNNING, ERROR or not there; gone is only not there."""
    trigger = PersistentResourceTrigger(
        project_id="acme", persistent_resource_id="nightly", until=until, **SHARED
    )
    assert trigger.settled(None if state is None else {"state": state}) is settled


def test_the_log_names_what_is_watched() -> None:
    """A trigger's log lines name the job or resource by its id."""
    resource = PersistentResourceTrigger(
        project_id="acme", persistent_resource_id="nightly", until="gone", **SHARED
    )
    assert resource.subject == "Persistent resource nightly"
    assert TrainingJobTrigger(job=JOB, cancel_on_kill=True, **SHARED).subject == "Job 2"
