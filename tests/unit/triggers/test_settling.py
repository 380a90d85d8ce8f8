# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

from typing import Any, Literal

import pytest

from airflow_vertex_persistent.states import JobPhase, job_phase
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
    "state", ["JOB_STATE_SUCCEEDED", "JOB_STATE_PENDING", "JOB_STATE_PAUSED", "JOB_STATE_EXPIRED", "99"]
)
def test_a_job_is_watched_to_its_end(state: str) -> None:
    """The watch of a job ends with its phase."""
    trigger = TrainingJobTrigger(job=JOB, cancel_on_kill=True, **SHARED)
    assert trigger.settled({"state": state}) is job_phase(state).ended
    assert trigger.settled({"state": state}) is (job_phase(state) in {JobPhase.SUCCEEDED, JobPhase.FAILED})


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
    """A trigger's log lines name the job or resource in full."""
    resource = PersistentResourceTrigger(
        project_id="acme", persistent_resource_id="nightly", until="gone", **SHARED
    )
    assert resource.subject == "projects/acme/locations/europe-west4/persistentResources/nightly"
    assert TrainingJobTrigger(job=JOB, cancel_on_kill=True, **SHARED).subject == JOB
