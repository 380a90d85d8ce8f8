# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from unittest.mock import Mock

import pytest
from google.api_core.exceptions import FailedPrecondition
from google.cloud.aiplatform_v1.types import PersistentResource

from airflow_vertex_persistent.exceptions import CapacityError, InvalidRequestError, MaxWaitExceededError
from airflow_vertex_persistent.names import CUSTOM_JOBS
from airflow_vertex_persistent.operators.training.execution import Execution
from airflow_vertex_persistent.operators.training.machines import NoMachinesError
from airflow_vertex_persistent.operators.training.warm_machines import (
    WarmMachines,
    capacity_error,
    wait_limit,
)
from airflow_vertex_persistent.specs.checks import Problems
from airflow_vertex_persistent.specs.custom_job import JobRequest

BUSY = capacity_error("nightly is busy")


def warm(when_busy: Any, limit: float | None) -> WarmMachines:
    """Return machines that nobody looks at."""
    return WarmMachines(when_busy=when_busy, limit=limit, hook=Mock(), kind=CUSTOM_JOBS, log=Mock())


def since(**passed: float) -> Execution:
    """Return an execution that has wanted a job for some time."""
    first_submit = (datetime.now(UTC) - timedelta(**passed)).isoformat()
    return replace(Execution.new(0, "demo-project", "europe-west4"), first_submit=first_submit)


@pytest.mark.parametrize(
    ("when_busy", "given", "limit"),
    [
        ("queue", None, None),
        ("fail", None, 300),
        ("on_demand", None, 300),
        ("queue", 0, None),
        ("fail", "0s", None),
        ("on_demand", timedelta(0), None),
        ("queue", "7200s", 7200),
        ("fail", 20, 20),
        ("on_demand", timedelta(minutes=1), 60),
    ],
)
def test_how_long_a_job_may_wait(when_busy: Any, given: Any, limit: float | None) -> None:
    """0 is for ever, and so is nothing for who queues; who does not waits as long as a job needs to start."""
    problems = Problems("custom job")
    assert wait_limit(when_busy, given, problems) == limit
    problems.raise_if_any()


@pytest.mark.parametrize(
    ("when_busy", "given", "fields"),
    [
        ("wait", None, ["when_busy"]),
        (None, 10, ["when_busy"]),
        ("queue", "soon", ["max_wait_duration"]),
        ("Queue", -1, ["when_busy", "max_wait_duration"]),
    ],
)
def test_wrong_words(when_busy: Any, given: Any, fields: list[str]) -> None:
    """Each parameter is told with its value."""
    problems = Problems("custom job")
    wait_limit(when_busy, given, problems)
    with pytest.raises(InvalidRequestError) as caught:
        problems.raise_if_any()
    assert [problem.partition(" = ")[0] for problem in caught.value.problems] == fields


@pytest.mark.parametrize(
    ("limit", "first_submit", "create_time", "deadline"),
    [
        (None, "00:00", "00:00", None),
        (3600.0, "00:00", "00:00", "01:00"),
        (3600.0, "00:00", "00:50", "01:00"),
        (3600.0, "00:00", "00:58", "01:03"),
        (3600.0, "00:00", "09:00", "09:05"),
        (60.0, "00:00", "00:00", "00:01"),
        (60.0, "00:00", "09:00", "09:01"),
    ],
)
def test_the_deadline_of_a_job(
    limit: float | None, first_submit: str, create_time: str, deadline: str | None
) -> None:
    """The limit counts from the first job on, but each job has the time to start."""
    execution = replace(since(), first_submit=f"2026-11-24T{first_submit}:00+00:00")
    job: Any = {"create_time": f"2026-11-24T{create_time}:00+00:00", "persistent_resource_id": "nightly"}
    found = warm("queue", limit).deadline(execution, job)
    assert found == (deadline and f"2026-11-24T{deadline}:00+00:00")


def test_who_fails_does_so() -> None:
    """The error says why, and is one that is worth a retry."""
    step = warm("fail", 300.0).next_step(since(), BUSY, interval=30.0, overdue=False)
    assert step.error is BUSY


def test_who_falls_back_does_so_once() -> None:
    """On demand comes at once, whatever the limit; where that has no machines either, the task fails."""
    machines = warm("on_demand", 300.0)
    step = machines.next_step(since(hours=1), BUSY, interval=30.0, overdue=True)
    assert (step.execution.fallback, step.pause, step.error) == ("on_demand", 0.0, None)
    assert machines.next_step(step.execution, BUSY, interval=30.0, overdue=False).error is BUSY


@pytest.mark.parametrize(
    ("waited", "least", "most"),
    [(0, 30, 33), (300, 30, 33), (1200, 120, 133), (3000, 300, 330), (86_400, 300, 330)],
)
def test_the_pauses_grow(waited: float, least: float, most: float) -> None:
    """Between two tries passes a tenth of what has passed, within limits, and never the same for two tasks."""
    for limit in (None, 1e6):
        execution = since(seconds=waited)
        step = warm("queue", limit).next_step(execution, BUSY, interval=30.0, overdue=False)
        assert (step.execution, step.error) == (execution, None)
        assert least <= step.pause <= most


def test_the_last_pause_ends_with_the_limit() -> None:
    """The last try comes when the time is over, not before and not after it."""
    step = warm("queue", 600.0).next_step(since(seconds=590), BUSY, interval=30.0, overdue=False)
    assert 8 < step.pause <= 10


@pytest.mark.parametrize(("seconds", "overdue"), [(601, False), (590, True)])
def test_the_wait_has_an_end(seconds: float, *, overdue: bool) -> None:
    """Past the limit, or with a job that had waited until its deadline, there is no other try."""
    step = warm("queue", 600.0).next_step(since(seconds=seconds), BUSY, interval=30.0, overdue=overdue)
    assert isinstance(step.error, MaxWaitExceededError)
    assert "600 seconds" in str(step.error)


RESOURCE = "projects/demo-project/locations/europe-west4/persistentResources/nightly"
REQUEST = JobRequest(
    {
        "display_name": "night",
        "job_spec": {
            "persistent_resource_id": "nightly",
            "worker_pool_specs": [{"replica_count": 1, "container_spec": {"image_uri": "trainer"}}],
        },
    },
    resource_pools=(None,),
    short_form=True,
    region="europe-west4",
)
FULL, FREE = 2, 0
REFUSAL = FailedPrecondition("It is busy.")  # this text alone leaves it open whether that is so


def looked_at(when_busy: Any, *used: int) -> WarmMachines:
    """Return machines of which so many of two are in use, look by look."""
    looks = [
        PersistentResource(
            name=RESOURCE,
            state=PersistentResource.State.RUNNING,
            resource_pools=[
                {
                    "id": "pool",
                    "machine_spec": {"machine_type": "n1-standard-4"},
                    "replica_count": 2,
                    "used_replica_count": number,
                    "disk_spec": {"boot_disk_type": "pd-ssd", "boot_disk_size_gb": 100},
                }
            ],
        )
        for number in used
    ]
    hook = Mock(get=Mock(side_effect=looks))
    return WarmMachines(when_busy=when_busy, limit=None, hook=lambda: hook, kind=CUSTOM_JOBS, log=Mock())


def ended_job(persistent_resource_id: str | None) -> Any:
    """Return a job that has failed for lack of machines."""
    return {
        "job": "projects/1/locations/europe-west4/customJobs/2",
        "state": "JOB_STATE_FAILED",
        "persistent_resource_id": persistent_resource_id,
        "strategy": None,
        "create_time": "2026-11-24T00:00:00+00:00",
        "start_time": None,
        "end_time": "2026-11-24T00:01:00+00:00",
        "max_run_seconds": None,
        "max_wait_seconds": None,
        "error_code": 8,
        "error_message": "Resources are insufficient in region: europe-west4.",
    }


def test_a_job_gets_the_hardware_of_its_pool() -> None:
    """What the work leaves out is filled in, whether the machines are free or it queues for them."""
    for used in (FREE, FULL):
        job = looked_at("queue", used).fitting_job(REQUEST, since())
        (pool,) = job["job_spec"]["worker_pool_specs"]
        assert pool["machine_spec"] == {"machine_type": "n1-standard-4"}
        assert job["job_spec"]["persistent_resource_id"] == "nightly"


@pytest.mark.parametrize("when_busy", ["fail", "on_demand"])
def test_who_does_not_queue_creates_no_job_for_others_machines(when_busy: Any) -> None:
    """The error says which machines are missing, and what helps."""
    with pytest.raises(NoMachinesError, match=r"nightly is busy: .*\nNext step: try again when other jobs"):
        looked_at(when_busy, FULL).fitting_job(REQUEST, since())


def test_on_demand_a_job_runs_outside_of_its_resource() -> None:
    """It has the hardware of the pool and the label that says so, however busy the resource is."""
    execution = replace(since(), fallback="on_demand")
    job = looked_at("on_demand", FULL).fitting_job(REQUEST, execution)
    assert "persistent_resource_id" not in job["job_spec"]
    assert job["job_spec"]["worker_pool_specs"][0]["machine_spec"] == {"machine_type": "n1-standard-4"}
    assert job["labels"] == {"airflow_fallback": "on_demand"}
    looked_at("on_demand").check_refusal(REFUSAL, REQUEST, execution)  # no look, and no lack of warm machines


@pytest.mark.parametrize(("before", "after"), [(FULL, FULL), (FULL, FREE), (FREE, FULL)])
def test_a_busy_resource_refuses(before: int, after: int) -> None:
    """A refusal that does not say why is one for lack of machines, if they were taken before it or are after it."""
    machines = looked_at("queue", before, after)
    machines.fitting_job(REQUEST, since())
    with pytest.raises(NoMachinesError, match=r"Vertex AI refused the custom job: .*\nNext step: "):
        machines.check_refusal(REFUSAL, REQUEST, since())


def test_a_free_resource_refuses() -> None:
    """Then the refusal is about something else, and stays what it is."""
    machines = looked_at("queue", FREE, FREE)
    machines.fitting_job(REQUEST, since())
    machines.check_refusal(REFUSAL, REQUEST, since())


@pytest.mark.parametrize(("persistent_resource_id", "fallback"), [("nightly", None), (None, "on_demand")])
def test_where_a_job_ran(persistent_resource_id: str | None, fallback: str | None) -> None:
    """A job outside of the resource ran on demand, and what helps without machines is another thing there."""
    machines, job = looked_at("on_demand"), ended_job(persistent_resource_id)
    assert machines.fallback(job) == fallback
    error = machines.job_error(job, {})
    assert isinstance(error, CapacityError)
    assert ("give the resource more machines" in str(error)) == (fallback is None)
    assert str(error).count("Next step: ") == 1
