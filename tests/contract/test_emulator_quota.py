# SPDX-License-Identifier: Apache-2.0
"""GPUs that a project may use: more than the limit is refused, more than what is left waits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from google.api_core import exceptions
from google.cloud.aiplatform_v1.types import JobState, PersistentResource

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.contract.conftest import Cloud

METRIC = "custom_model_training_nvidia_h100_gpus"
PREEMPTIBLE = "custom_model_training_preemptible_nvidia_h100_gpus"
EXCEEDED = "The following quota metrics exceed quota limits: aiplatform.googleapis.com/"
H100 = {"machine_type": "a3-highgpu-8g", "accelerator_type": "NVIDIA_H100_80GB", "accelerator_count": 8}
QUEUED, PENDING = JobState.JOB_STATE_QUEUED, JobState.JOB_STATE_PENDING


@pytest.fixture(scope="module")
def simulator(module_cloud_with: Callable[..., Cloud]) -> Cloud:
    """An emulator that lets each project use two H100 machines in each region, and none more in one of them."""
    quota = {f"*/{METRIC}": 16, f"*/{PREEMPTIBLE}": 16, f"us-central1/{METRIC}": 0}
    return module_cloud_with(
        executor="simulate", simulated_seconds=3600, provisioning_seconds=0.05, quota=quota
    )


@pytest.mark.parametrize(
    ("strategy", "metric"), [("STANDARD", METRIC), ("SPOT", PREEMPTIBLE), ("FLEX_START", PREEMPTIBLE)]
)
def test_more_than_the_limit_is_refused(simulator: Cloud, region: str, strategy: str, metric: str) -> None:
    """At once, with the metric's name; nothing is created."""
    with pytest.raises(exceptions.ResourceExhausted) as caught:
        simulator.scarce(strategy, 1, 2, region=region)
    assert caught.value.message == EXCEEDED + metric
    assert not list(simulator.jobs.list_custom_jobs(parent=f"projects/demo-project/locations/{region}"))


def test_a_region_can_have_a_limit_of_its_own(simulator: Cloud) -> None:
    """It counts before the one for all regions, and only for its own metric."""
    with pytest.raises(exceptions.ResourceExhausted, match=METRIC):
        simulator.scarce("STANDARD", region="us-central1")
    simulator.stop(simulator.running(simulator.scarce("SPOT", region="us-central1")))


@pytest.mark.parametrize("strategy", ["STANDARD", "SPOT", "FLEX_START"])
def test_more_than_what_is_left_waits(simulator: Cloud, region: str, strategy: str) -> None:
    """As QUEUED until a job of the project ends; nobody is passed, and other projects have their own quota."""
    first = simulator.running(simulator.scarce(strategy, region=region))
    both, last = simulator.scarce(strategy, 1, 1, region=region), simulator.scarce(strategy, region=region)
    assert (both.state, last.state) == (QUEUED, QUEUED)
    simulator.running(simulator.scarce(strategy, region=region, project="other-project"))
    assert simulator.get(last).state == QUEUED
    simulator.stop(first)
    simulator.running(both)
    assert simulator.stop(last).state == JobState.JOB_STATE_CANCELLED
    simulator.jobs.cancel_custom_job(name=both.name)
    simulator.running(simulator.scarce(strategy, 1, 1, region=region))


def test_on_demand_and_preemptible_machines_are_counted_apart(simulator: Cloud, region: str) -> None:
    """Spot and Flex Start share one quota, jobs on demand have another, and jobs without GPUs need none."""
    simulator.running(simulator.scarce("STANDARD", 1, 1, region=region))
    simulator.running(simulator.scarce("SPOT", region=region))
    simulator.running(simulator.scarce("FLEX_START", region=region))
    assert simulator.scarce("FLEX_START", region=region).state == QUEUED
    parent = f"projects/demo-project/locations/{region}"
    simulator.running(simulator.create(simulator.job(simulator.pool()), parent))


def test_a_wait_for_quota_is_a_wait(simulator: Cloud, region: str) -> None:
    """A Flex Start job that gets quota too late ends as one that gets machines too late."""
    simulator.running(simulator.scarce("SPOT", 1, 1, region=region))
    job = simulator.scarce("FLEX_START", region=region, max_wait_duration="0.3s")
    assert job.state == QUEUED
    ended = simulator.ended(job)
    assert ended.state == JobState.JOB_STATE_FAILED
    assert "not scheduled within its max_wait_duration of 0.3 seconds" in ended.error.message


def test_with_quota_a_job_goes_on_to_wait_for_machines(simulator: Cloud, region: str) -> None:
    """It is PENDING then, and comes into their queue behind those that had quota earlier."""
    control = simulator.emulator.control
    control.set_stock(f"{region}/*", 2)
    running = simulator.running(simulator.scarce("FLEX_START", 1, 1, region=region))
    late = simulator.scarce("FLEX_START", region=region)
    other = simulator.scarce("FLEX_START", 1, 1, region=region, project="other-project")
    assert (late.state, other.state) == (QUEUED, PENDING)
    control.set_stock(f"{region}/*", 0)
    simulator.stop(running)
    simulator.in_state(late, PENDING)
    queue = next(one["queue"] for one in control.capacity() if one["region"] == region)
    assert [place["job"] for place in queue] == [other.name, late.name]


def resource(cloud: Cloud, name: str, count: int, **pool: Any) -> PersistentResource:
    """Create a persistent resource of some H100 machines."""
    return cloud.resource(name, {"machine_spec": H100, "replica_count": count, **pool})


def test_persistent_resources_draw_on_the_quota_of_jobs_on_demand(simulator: Cloud) -> None:
    """With all that they may grow to, until they are deleted; a job on one needs none of its own."""
    growing = {"autoscaling_spec": {"min_replica_count": 1, "max_replica_count": 2}}
    held = resource(simulator, "quota-holder", 1, **growing)
    assert held.state == PersistentResource.State.RUNNING
    on_it = simulator.job(simulator.pool(machine_spec=H100), persistent_resource_id="quota-holder")
    simulator.running(simulator.create(on_it))
    waiting = simulator.scarce("STANDARD")
    assert waiting.state == QUEUED
    short = resource(simulator, "quota-short", 1)
    assert short.state == PersistentResource.State.ERROR
    assert short.error.code == 8
    assert short.error.message == (
        "The following quotas are exceeded: CustomModelTrainingH100GPUsPerProjectPerRegion"
    )
    simulator.resources.delete_persistent_resource(name=held.name)
    simulator.stop(simulator.running(waiting))
    simulator.resources.reboot_persistent_resource(name=short.name).result(timeout=20)
    simulator.resources.delete_persistent_resource(name=short.name)
