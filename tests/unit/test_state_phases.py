# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import pytest
from google.cloud.aiplatform_v1.types import JobState, PersistentResource

from airflow_vertex_persistent import states
from airflow_vertex_persistent.states import JobPhase, ResourcePhase, job_phase, resource_phase

JOBS = {
    "JOB_STATE_UNSPECIFIED": JobPhase.RUNNING,
    "JOB_STATE_QUEUED": JobPhase.WAITING,
    "JOB_STATE_PENDING": JobPhase.WAITING,
    "JOB_STATE_RUNNING": JobPhase.RUNNING,
    "JOB_STATE_SUCCEEDED": JobPhase.SUCCEEDED,
    "JOB_STATE_FAILED": JobPhase.FAILED,
    "JOB_STATE_CANCELLING": JobPhase.CANCELLING,
    "JOB_STATE_CANCELLED": JobPhase.CANCELLED,
    "JOB_STATE_PAUSED": JobPhase.RUNNING,
    "JOB_STATE_EXPIRED": JobPhase.FAILED,
    "JOB_STATE_UPDATING": JobPhase.RUNNING,
    "JOB_STATE_PARTIALLY_SUCCEEDED": JobPhase.FAILED,
}
ENDS = {
    "JOB_STATE_SUCCEEDED",
    "JOB_STATE_FAILED",
    "JOB_STATE_CANCELLED",
    "JOB_STATE_EXPIRED",
    "JOB_STATE_PARTIALLY_SUCCEEDED",
}
RESOURCES = {
    "STATE_UNSPECIFIED": ResourcePhase.MOVING,
    "PROVISIONING": ResourcePhase.MOVING,
    "RUNNING": ResourcePhase.READY,
    "STOPPING": ResourcePhase.LEAVING,
    "ERROR": ResourcePhase.LOST,
    "REBOOTING": ResourcePhase.MOVING,
    "UPDATING": ResourcePhase.MOVING,
}


def test_every_state_of_the_installed_client_has_its_place() -> None:
    """A client with a new state makes this fail, so that somebody decides what the state means."""
    jobs, resources = set(JobState.__members__), set(PersistentResource.State.__members__)
    assert jobs == set(JOBS)
    assert resources == set(RESOURCES)
    assert set(states._JOB_PHASES) == jobs - {"JOB_STATE_UNSPECIFIED"}
    assert set(states._RESOURCE_PHASES) == resources - {"STATE_UNSPECIFIED"}


@pytest.mark.parametrize("state", JOBS)
def test_what_a_job_state_means(state: str) -> None:
    """Each state is in its phase, and only real ends end the watch."""
    assert job_phase(state) is JOBS[state]
    assert job_phase(state).ended is (state in ENDS)


@pytest.mark.parametrize("state", RESOURCES)
def test_what_a_resource_state_means(state: str) -> None:
    """Each state of a persistent resource is in its phase."""
    assert resource_phase(state) is RESOURCES[state]


@pytest.mark.parametrize("state", ["JOB_STATE_HIBERNATED", "99", ""])
def test_an_unknown_state_keeps_being_watched(state: str) -> None:
    """A state of a newer service is neither success nor failure."""
    assert not job_phase(state).ended
    assert resource_phase(state) is ResourcePhase.MOVING
