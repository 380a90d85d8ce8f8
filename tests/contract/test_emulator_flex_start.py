# SPDX-License-Identifier: Apache-2.0
"""Flex Start jobs queue for machines: all nodes together, first come, first served, and not longer than they say."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from google.cloud.aiplatform_v1.types import CustomJob, JobState

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.contract.conftest import Cloud

SIMULATED: dict[str, Any] = {"executor": "simulate", "simulated_seconds": 3600, "provisioning_seconds": 0.05}
EXPIRED = (
    "Resources are insufficient in region: {region}. "
    "The job was not scheduled within its max_wait_duration of 0.3 seconds."
)


@pytest.fixture(scope="module")
def simulator(module_cloud_with: Callable[..., Cloud]) -> Cloud:
    """An emulator whose jobs run until they are cancelled."""
    return module_cloud_with(**SIMULATED)


def shelf(cloud: Cloud, region: str) -> dict[str, Any]:
    """The machines of a region as the control tells them."""
    return next(one for one in cloud.emulator.control.capacity() if one["region"] == region)


def queue(cloud: Cloud, region: str) -> list[str]:
    """Names of the jobs that wait in a region."""
    return [place["job"] for place in shelf(cloud, region)["queue"]]


def set_stock(cloud: Cloud, region: str, stock: str | int) -> None:
    """Say how many machines a region has."""
    cloud.emulator.control.set_stock(f"{region}/*", stock)


def test_without_a_stock_a_job_runs_at_once(simulator: Cloud, region: str) -> None:
    """There are machines for everybody unless somebody says otherwise."""
    simulator.running(simulator.scarce("FLEX_START", 1, 99, region=region))
    assert shelf(simulator, region) == {
        "region": region,
        "machine_type": "a3-highgpu-8g",
        "stock": None,
        "in_use": 100,
        "next_change": None,
        "next_stock": None,
        "queue": [],
    }


def test_a_job_is_pending_until_its_machines_are_there(simulator: Cloud, region: str) -> None:
    """It has no start_time before it runs, and a timetable brings it the machines."""
    set_stock(simulator, region, "0, then 5 after 9 h")
    job = simulator.scarce("FLEX_START", region=region)
    assert job.state == JobState.JOB_STATE_PENDING
    assert queue(simulator, region) == [job.name]
    assert simulator.get(job) == job
    assert (shelf(simulator, region)["stock"], shelf(simulator, region)["next_stock"]) == (0, 5)
    set_stock(simulator, region, "0, then 1 after 0.4 s, then 0 after 9 h")
    running = simulator.running(job)
    assert CustomJob.pb(job).HasField("start_time") is False
    assert simulator.waited(running) >= 0.4
    assert queue(simulator, region) == []
    assert (shelf(simulator, region)["stock"], shelf(simulator, region)["next_stock"]) == (1, 0)


def test_all_nodes_come_together(simulator: Cloud, region: str) -> None:
    """Three machines are nothing to a job of four nodes in two worker pools."""
    set_stock(simulator, region, 3)
    job = simulator.scarce("FLEX_START", 1, 3, region=region)
    assert shelf(simulator, region)["in_use"] == 0
    assert [place["nodes"] for place in shelf(simulator, region)["queue"]] == [4]
    set_stock(simulator, region, 4)
    assert shelf(simulator, region)["in_use"] == 4
    simulator.running(job)


def test_jobs_are_served_in_order(simulator: Cloud, region: str) -> None:
    """A small job does not pass a big one; machines of a job that ends go to the next; projects share a region."""
    set_stock(simulator, region, 3)
    first, second = (simulator.scarce("FLEX_START", 1, 1, region=region) for _ in range(2))
    third = simulator.scarce("FLEX_START", region=region, project="other-project")
    simulator.running(first)
    assert queue(simulator, region) == [second.name, third.name]
    simulator.stop(first)
    simulator.running(second)
    simulator.running(third)
    assert shelf(simulator, region)["in_use"] == 3


def test_a_cancelled_job_leaves_the_queue_at_once(simulator: Cloud, region: str) -> None:
    """Whoever waited behind it has its place when the call returns."""
    set_stock(simulator, region, 1)
    head, behind = (
        simulator.scarce("FLEX_START", 1, 1, region=region),
        simulator.scarce("FLEX_START", region=region),
    )
    assert queue(simulator, region) == [head.name, behind.name]
    simulator.jobs.cancel_custom_job(name=head.name)
    assert queue(simulator, region) == []
    ended = simulator.ended(head)
    assert ended.state == JobState.JOB_STATE_CANCELLED
    assert not CustomJob.pb(ended).HasField("start_time")
    simulator.running(behind)


def test_a_running_job_keeps_its_machines(simulator: Cloud, region: str) -> None:
    """Also when the stock goes to nothing; nobody else gets any."""
    job = simulator.running(simulator.scarce("FLEX_START", region=region))
    set_stock(simulator, region, "never")
    waiting = simulator.scarce("FLEX_START", region=region)
    assert (shelf(simulator, region)["in_use"], shelf(simulator, region)["stock"]) == (1, 0)
    simulator.stop(job)
    assert shelf(simulator, region)["in_use"] == 0
    assert simulator.get(job).state == JobState.JOB_STATE_CANCELLED
    assert queue(simulator, region) == [waiting.name]
    assert simulator.get(waiting).state == JobState.JOB_STATE_PENDING


@pytest.mark.parametrize(
    ("sent", "seconds", "limit"),
    [
        ({}, 0, 24 * 3600),
        ({"max_wait_duration": timedelta(0)}, 0, None),
        ({"max_wait_duration": timedelta(seconds=1800)}, 1800, 1800),
        ({"max_wait_duration": "315576000000s"}, 315576000000, 315576000000),
    ],
)
def test_for_ever_a_day_and_some_time_are_told_apart(
    simulator: Cloud, region: str, sent: dict[str, Any], seconds: int, limit: float | None
) -> None:
    """Zero, nothing and a duration mean different things, and come back as they were sent."""
    set_stock(simulator, region, 0)
    job = simulator.scarce("FLEX_START", region=region, **sent)
    place = shelf(simulator, region)["queue"][0]
    assert place["wait_limit"] == limit
    assert place["waited"] >= 0
    parent = job.name.partition("/customJobs")[0]
    for seen in (job, simulator.get(job), *simulator.jobs.list_custom_jobs(parent=parent)):
        scheduling = CustomJob.pb(seen).job_spec.scheduling
        assert scheduling.HasField("max_wait_duration") is bool(sent)
        assert scheduling.max_wait_duration.seconds == seconds


def test_a_job_that_waits_too_long_fails(simulator: Cloud, region: str) -> None:
    """It never ran, its error says what it waited for, and the next in the queue moves up."""
    set_stock(simulator, region, 1)
    job = simulator.scarce("FLEX_START", 1, 1, region=region, max_wait_duration="0.3s")
    behind = simulator.scarce("FLEX_START", region=region)
    ended = simulator.ended(job)
    assert ended.state == JobState.JOB_STATE_FAILED
    assert (ended.error.code, ended.error.message) == (8, EXPIRED.format(region=region))
    assert simulator.waited(ended) >= 0.3
    assert not CustomJob.pb(ended).HasField("start_time")
    simulator.running(behind)


@pytest.mark.parametrize("state", ["cancelled", "expired"])
def test_the_end_of_too_long_a_wait_is_a_setting(
    cloud_with: Callable[..., Cloud], region: str, state: str
) -> None:
    """CANCELLED has the text too, EXPIRED has no error; meanwhile the job may be QUEUED, if a setting says so."""
    cloud = cloud_with(
        **SIMULATED, stock={"*/*": "0"}, flex_start_wait_state="queued", flex_start_expiry=state
    )
    job = cloud.scarce("FLEX_START", region=region, max_wait_duration="0.3s")
    assert job.state == JobState.JOB_STATE_QUEUED
    ended = cloud.ended(job)
    assert ended.state == JobState.__members__[f"JOB_STATE_{state.upper()}"]
    assert ended.error.message == (EXPIRED.format(region=region) if state == "cancelled" else "")
    cloud.jobs.cancel_custom_job(name=job.name)  # an end is an end
    lucky = cloud.scarce("FLEX_START", region=region)
    assert lucky.state == JobState.JOB_STATE_QUEUED
    set_stock(cloud, region, 1)
    assert cloud.get(lucky).state in {JobState.JOB_STATE_PENDING, JobState.JOB_STATE_QUEUED}
    cloud.running(lucky)
    cloud.jobs.delete_custom_job(name=job.name).result(timeout=10)


def test_the_training_code_really_runs(cloud: Cloud) -> None:
    """All replicas, and their log says what they waited for."""
    pool = cloud.pool(
        "print('trained')",
        machine_spec={
            "machine_type": "g2-standard-12",
            "accelerator_type": "NVIDIA_L4",
            "accelerator_count": 1,
        },
    )
    job = cloud.run(pool, pool, scheduling={"strategy": "FLEX_START"})
    assert job.state == JobState.JOB_STATE_SUCCEEDED
    assert cloud.log(job, "workerpool0-0") == ["trained"]
    assert "Vertex AI is provisioning job running framework..." in cloud.log(job, "service")


@pytest.mark.parametrize(
    ("where", "stock", "words"),
    [("europe-west4", "1", "of the form REGION"), ("*/*", "x", "'x' is no number of machines")],
)
def test_stock_that_makes_no_sense_is_refused(simulator: Cloud, where: str, stock: str, words: str) -> None:
    """The control says what is possible."""
    with pytest.raises(ValueError, match=words):
        simulator.emulator.control.set_stock(where, stock)
