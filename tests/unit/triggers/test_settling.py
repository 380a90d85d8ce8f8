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
        ("JOB_STATE_EXPIRED", "", True),
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
    snapshot = {"state": state, "error_code": 0, "error_message": message, "end_time": None}
    assert trigger.settled(snapshot) is settled


@pytest.mark.parametrize(
    ("state", "start", "settled"),
    [
        ("PENDING", None, False),
        ("RUNNING", None, True),
        ("RUNNING", "2026-11-22T01:00:00+00:00", True),
        ("PENDING", "2026-11-22T01:00:00+00:00", True),
        ("CANCELLING", None, False),
        ("CANCELLED", None, True),
        ("FAILED", "2026-11-22T01:00:00+00:00", True),
    ],
)
def test_the_start_of_a_job_can_be_enough(state: str, start: str | None, *, settled: bool) -> None:
    """Who waits for machines waits until the job has had them, or has ended without."""
    trigger = TrainingJobTrigger(job=JOB, cancel_on_kill=False, until="started", **SHARED)
    snapshot = {"state": f"JOB_STATE_{state}", "start_time": start, "error_code": 0, "error_message": ""}
    assert trigger.settled(snapshot) is settled


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
        (None, None, r", has queued [\d dhmin]+"),
        (None, "2026-11-22T01:00:30+00:00", r", has queued 30 s"),
        ("2026-11-22T01:00:12+00:00", None, r", queued 12 s, has run [\d dhmin]+"),
        ("2026-11-22T01:00:12+00:00", "2026-11-22T02:00:12+00:00", r", queued 12 s, ran 1 h"),
    ],
)
def test_the_log_tells_how_long_a_job_queued_and_ran(start: str | None, end: str | None, said: str) -> None:
    """Behind each state stands the time in the queue and the time at work, as far as there is one."""
    trigger = TrainingJobTrigger(job=JOB, cancel_on_kill=True, **SHARED)
    times = {
        "create_time": "2026-11-22T01:00:00+00:00",
        "start_time": start,
        "end_time": end,
        "strategy": None,
    }
    assert re.fullmatch(said, trigger.progress(times))


@pytest.mark.parametrize(
    ("limit", "said"),
    [(None, " of at most 1 d"), (1800.0, " of at most 30 min"), (0.0, ", may queue for ever")],
)
def test_the_log_tells_how_long_a_job_may_queue(limit: float | None, said: str) -> None:
    """A job that waits in the service's own queue has a limit there."""
    trigger = TrainingJobTrigger(job=JOB, cancel_on_kill=True, **SHARED)
    waits = {
        "create_time": "2026-11-22T01:00:00+00:00",
        "start_time": None,
        "end_time": "2026-11-22T01:00:30+00:00",
        "strategy": "FLEX_START",
        "max_wait_seconds": limit,
    }
    assert trigger.progress(waits) == f", has queued 30 s{said}"


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


def resource(state: str, *pools: tuple[str, int, int]) -> dict[str, Any]:
    """Return the snapshot of a resource with pools of so many machines, of which so many are used."""
    return {
        "state": state,
        "pools": [
            {
                "id": id_,
                "replica_count": size,
                "max_replica_count": None,
                "used_replica_count": used,
                "free_replica_count": size - used,
            }
            for id_, size, used in pools
        ],
    }


CPU_AND_GPU = (("cpu", 4, 1), ("gpu", 2, 2))


@pytest.mark.parametrize(
    ("state", "pool", "replicas", "settled"),
    [
        ("RUNNING", None, 3, True),
        ("RUNNING", "cpu", 3, True),
        ("RUNNING", None, 4, False),
        ("RUNNING", "cpu", 4, False),
        ("RUNNING", "gpu", 1, False),
        ("RUNNING", "gpu", 3, True),  # it never has so many
        ("RUNNING", "tpu", 1, True),  # there is no such pool
        ("RUNNING", None, 5, True),
        ("PROVISIONING", "cpu", 1, False),
        ("STOPPING", "cpu", 1, False),
        ("ERROR", "gpu", 1, True),
    ],
)
def test_free_machines_are_waited_for(state: str, pool: str | None, replicas: int, *, settled: bool) -> None:
    """The wait ends when one pool has the machines, or nothing can bring them."""
    trigger = PersistentResourceTrigger(
        project_id="acme",
        persistent_resource_id="nightly",
        until="free",
        resource_pool=pool,
        free_replicas=replicas,
        **SHARED,
    )
    assert trigger.settled(resource(state, *CPU_AND_GPU)) is settled
    assert trigger.settled(None)


@pytest.mark.parametrize(
    ("state", "used", "settled"),
    [
        ("RUNNING", 1, False),
        ("RUNNING", 0, True),
        ("REBOOTING", 1, False),
        ("ERROR", 1, True),
        ("STOPPING", 1, True),
    ],
)
def test_the_end_of_all_jobs_is_waited_for(state: str, used: int, *, settled: bool) -> None:
    """The wait ends when no pool has a machine in use, or the resource is lost or leaving."""
    trigger = PersistentResourceTrigger(
        project_id="acme", persistent_resource_id="nightly", until="unused", **SHARED
    )
    assert trigger.settled(resource(state, ("cpu", 4, 0), ("gpu", 2, used))) is settled
    assert trigger.settled(None)


@pytest.mark.parametrize("until", ["ready", "free", "unused", "gone"])
def test_a_wait_with_a_deadline(until: Literal["ready", "free", "unused", "gone"]) -> None:
    """Past its deadline a wait ends with the resource as it is, before it with what was waited for."""
    busy = resource("REBOOTING", ("cpu", 4, 4))
    for deadline, over in (("2000-01-01T00:00:00+00:00", True), ("2999-01-01T00:00:00+00:00", False)):
        trigger = PersistentResourceTrigger(
            project_id="acme", persistent_resource_id="nightly", until=until, deadline=deadline, **SHARED
        )
        assert trigger.settled(busy) is over


def test_the_log_tells_what_is_in_use() -> None:
    """Where machines are waited for, a state is told with how many are in use."""
    kinds: dict[str, str] = {}
    for until in ("ready", "free", "unused", "gone"):
        trigger = PersistentResourceTrigger(
            project_id="acme",
            persistent_resource_id="nightly",
            until=until,
            **SHARED,
        )
        kinds[until] = trigger.progress(resource("RUNNING", *CPU_AND_GPU))
    told = ", machines in use: 3"
    assert kinds == {"ready": "", "free": told, "unused": told, "gone": ""}


@pytest.mark.parametrize("state", ["PROVISIONING", "RUNNING", "STOPPING", "ERROR"])
def test_another_resource_of_the_same_id(state: str) -> None:
    """What was created at another time took the place of what was to be gone, whatever its state."""
    created = "2026-03-01T02:00:00.000+00:00"
    trigger = PersistentResourceTrigger(
        project_id="acme", persistent_resource_id="nightly", until="gone", create_time=created, **SHARED
    )
    assert not trigger.settled({"state": state, "create_time": created})
    assert trigger.settled({"state": state, "create_time": "2026-03-01T02:00:01.000+00:00"})


def test_the_log_names_what_is_watched() -> None:
    """A trigger's log lines name the job or resource by its id."""
    trigger = PersistentResourceTrigger(
        project_id="acme", persistent_resource_id="nightly", until="gone", **SHARED
    )
    assert trigger.subject == "Persistent resource nightly"
    assert TrainingJobTrigger(job=JOB, cancel_on_kill=True, **SHARED).subject == "Job 2"
