# SPDX-License-Identifier: Apache-2.0
"""Jobs that do not queue: on demand and Spot find machines or do not, and Spot jobs lose them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import psutil
import pytest
from google.cloud.aiplatform_v1.types import CustomJob, JobState
from processes import is_alive

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.contract.conftest import Cloud

STOCKOUT = (
    "Resources are insufficient in region: {region}. Try a different region or use a different accelerator."
)
SETTINGS: dict[str, Any] = {
    "executor": "simulate",
    "simulated_seconds": 3600,
    "provisioning_seconds": 0.03,
    "stockout_retries": 1,
    "spot_restarts": 2,
}
FAMILY = (
    "import os, subprocess, sys, time\n"
    "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'], start_new_session=True)\n"
    "print(os.getpid(), child.pid, flush=True); time.sleep(600)"
)


@pytest.fixture(scope="module")
def simulator(module_cloud_with: Callable[..., Cloud]) -> Cloud:
    """An emulator whose jobs run until they are cancelled, and which gives up soon."""
    return module_cloud_with(**SETTINGS)


@pytest.fixture(scope="module")
def patient(module_cloud_with: Callable[..., Cloud]) -> Cloud:
    """An emulator that never gives up."""
    return module_cloud_with(**SETTINGS | {"stockout_retries": 10**6, "spot_restarts": 10**6})


def set_stock(cloud: Cloud, region: str, stock: str | int) -> None:
    """Say how many machines a region has."""
    cloud.emulator.control.set_stock(f"{region}/*", stock)


def in_use(cloud: Cloud, region: str) -> int:
    """How many machines of a region are in use."""
    return sum(one["in_use"] for one in cloud.emulator.control.capacity() if one["region"] == region)


@pytest.mark.parametrize("strategy", ["STANDARD", "ON_DEMAND", "STRATEGY_UNSPECIFIED", "SPOT", "LOW_COST"])
def test_without_machines_a_job_fails(simulator: Cloud, region: str, strategy: str) -> None:
    """After some tries, with the stockout text, without having run; one node of two is not enough."""
    set_stock(simulator, region, 1)
    job = simulator.scarce(strategy, 1, 1, region=region)
    assert job.state == JobState.JOB_STATE_PENDING
    ended = simulator.ended(job)
    assert ended.state == JobState.JOB_STATE_FAILED
    assert (ended.error.code, ended.error.message) == (8, STOCKOUT.format(region=region))
    assert not CustomJob.pb(ended).HasField("start_time")
    assert in_use(simulator, region) == 0
    tries = 3 if strategy in {"SPOT", "LOW_COST"} else 2
    assert simulator.waited(ended) >= tries * 0.03


@pytest.mark.parametrize("strategy", ["STANDARD", "SPOT"])
def test_a_later_try_finds_machines(patient: Cloud, region: str, strategy: str) -> None:
    """The job waits as PENDING, runs when it finds them, and gives them back in the end."""
    set_stock(patient, region, 0)
    job = patient.scarce(strategy, 1, 3, region=region)
    set_stock(patient, region, 4)
    patient.running(job)
    assert in_use(patient, region) == 4
    patient.stop(job)
    assert in_use(patient, region) == 0


def test_a_job_on_demand_takes_what_is_too_little_for_the_queue(patient: Cloud, region: str) -> None:
    """It looks only once in a while, and never takes what the next Flex Start job could have."""
    set_stock(patient, region, 1)
    waiting = patient.scarce("FLEX_START", 1, 1, region=region)
    job = patient.running(patient.scarce("STANDARD", region=region))
    set_stock(patient, region, 3)
    patient.running(waiting)
    late = patient.scarce("STANDARD", region=region)
    assert in_use(patient, region) == 3
    patient.stop(job)
    patient.running(late)


def test_a_preempted_job_starts_anew(cloud_with: Callable[..., Cloud], region: str) -> None:
    """By order, its processes end, it is PENDING again, and it runs a second time; its start_time is the first."""
    cloud = cloud_with(spot_restarts=10**6)
    body = cloud.job(cloud.pool(FAMILY), scheduling={"strategy": "SPOT"})
    job = cloud.create(body, parent=f"projects/demo-project/locations/{region}")
    cloud.wait_for(lambda: cloud.log(job))
    first = cloud.running(job)
    family = [psutil.Process(int(pid)) for pid in cloud.log(job)[0].split()]
    cloud.emulator.control.preempt(job.name)
    set_stock(cloud, region, 0)
    cloud.in_state(job, JobState.JOB_STATE_PENDING)
    assert not [process for process in family if is_alive(process)]
    set_stock(cloud, region, 1)
    again = cloud.running(job)
    cloud.wait_for(lambda: len(cloud.log(job)) > 1)
    assert again.start_time == first.start_time
    assert "The job was preempted; it is run again when there are machines." in cloud.log(job, "service")
    assert cloud.stop(job).state == JobState.JOB_STATE_CANCELLED


def test_the_newest_spot_jobs_go_when_machines_get_scarce(patient: Cloud, region: str) -> None:
    """As many as must; jobs of other strategies stay, whenever they came."""
    jobs = [
        patient.running(patient.scarce(strategy, 1, 1, region=region))
        for strategy in ("SPOT", "SPOT", "STANDARD", "SPOT", "FLEX_START")
    ]
    set_stock(patient, region, 9)
    patient.in_state(jobs[3], JobState.JOB_STATE_PENDING)
    assert in_use(patient, region) == 8
    assert patient.get(jobs[1]).state == JobState.JOB_STATE_RUNNING
    set_stock(patient, region, "9, then 1 after 0.2 s")
    for job in jobs[:2]:
        patient.in_state(job, JobState.JOB_STATE_PENDING)
    assert [patient.get(job).state.name for job in (jobs[2], jobs[4])] == ["JOB_STATE_RUNNING"] * 2
    set_stock(patient, region, 10)
    for job in jobs:
        patient.running(job)


def test_too_many_preemptions_fail_a_job(simulator: Cloud, region: str) -> None:
    """With the stockout text, after as many new starts as the setting says."""
    job = simulator.scarce("SPOT", region=region)
    for _ in range(3):
        simulator.running(job)
        simulator.wait_for(lambda: preempted(simulator, job))
    ended = simulator.ended(job)
    assert ended.state == JobState.JOB_STATE_FAILED
    assert (ended.error.code, ended.error.message) == (8, STOCKOUT.format(region=region))
    assert CustomJob.pb(ended).HasField("start_time")
    assert in_use(simulator, region) == 0


def preempted(cloud: Cloud, job: CustomJob) -> bool:
    """Preempt a job, by its id, unless it has no machines."""
    try:
        cloud.emulator.control.preempt(job.name.rpartition("/")[2])
    except ValueError:
        return False
    return True


@pytest.mark.parametrize("strategy", ["STANDARD", "FLEX_START"])
def test_only_spot_jobs_can_be_preempted(simulator: Cloud, region: str, strategy: str) -> None:
    """Others are told at once."""
    job = simulator.running(simulator.scarce(strategy, region=region))
    with pytest.raises(ValueError, match=r"is no SPOT job that has machines"):
        simulator.emulator.control.preempt(job.name)
    assert simulator.get(job).state == JobState.JOB_STATE_RUNNING


def test_a_preempted_job_can_be_cancelled(patient: Cloud, region: str) -> None:
    """It is a job like any other."""
    set_stock(patient, region, 1)
    job = patient.running(patient.scarce("SPOT", region=region))
    set_stock(patient, region, 0)
    patient.in_state(job, JobState.JOB_STATE_PENDING)
    assert patient.stop(job).state == JobState.JOB_STATE_CANCELLED
