# SPDX-License-Identifier: Apache-2.0
"""Jobs on persistent resources: matching, counting, waiting, growing."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest
from google.api_core import exceptions
from google.cloud.aiplatform_v1.types import JobState

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.contract.conftest import Cloud

SLEEP = "import time; time.sleep(600)"
MACHINE = {"machine_type": "n1-standard-4"}
BUSY = 'Resources are insufficient in persistent resource "busy": other jobs use its machines.'


def fixed(count: int, **fields: Any) -> dict[str, Any]:
    """A pool of some machines."""
    return {"machine_spec": MACHINE, "replica_count": count, **fields}


def elastic(low: int, high: int) -> dict[str, Any]:
    """An autoscaled pool."""
    return {
        "machine_spec": MACHINE,
        "autoscaling_spec": {"min_replica_count": low, "max_replica_count": high},
    }


def counts(cloud: Cloud, resource_id: str) -> list[tuple[int, int]]:
    """Machines of each pool: how many there are and how many are used."""
    name = f"{cloud.PARENT}/persistentResources/{resource_id}"
    pools = cloud.resources.get_persistent_resource(name=name).resource_pools
    return [(pool.replica_count, pool.used_replica_count) for pool in pools]


def test_used_replicas_are_counted(cloud: Cloud) -> None:
    """All worker pools of one shape count together, and machines are free again when the job has ended."""
    cloud.resource("counted", fixed(4))
    job = cloud.create(
        cloud.job(cloud.pool(SLEEP), cloud.pool(SLEEP, replica_count=2), persistent_resource_id="counted")
    )
    cloud.running(job)
    assert counts(cloud, "counted") == [(4, 3)]
    cloud.stop(job)
    assert counts(cloud, "counted") == [(4, 0)]


def test_a_job_on_a_busy_resource_waits(cloud: Cloud) -> None:
    """It is PENDING until the machines are free, in order of arrival."""
    cloud.resource("busy", fixed(1))
    first, second, third = (
        cloud.create(cloud.job(cloud.pool(SLEEP), persistent_resource_id="busy")) for _ in range(3)
    )
    cloud.running(first)
    assert cloud.get(second).state == cloud.get(third).state == JobState.JOB_STATE_PENDING
    cloud.stop(first)
    cloud.running(second)
    assert cloud.get(third).state == JobState.JOB_STATE_PENDING
    assert cloud.stop(third).state == JobState.JOB_STATE_CANCELLED
    cloud.stop(second)
    assert counts(cloud, "busy") == [(1, 0)]


def test_disk_and_machine_must_match(cloud: Cloud) -> None:
    """The default disk equals pd-ssd with 100 GB; anything else matches no pool."""
    cloud.resource("matching", fixed(1, disk_spec={"boot_disk_type": "pd-ssd", "boot_disk_size_gb": 100}))
    assert cloud.run(cloud.pool(""), persistent_resource_id="matching").state == JobState.JOB_STATE_SUCCEEDED
    for other in (
        {"machine_spec": {"machine_type": "n1-standard-8"}},
        {"disk_spec": {"boot_disk_type": "pd-standard"}},
        {"disk_spec": {"boot_disk_size_gb": 200}},
        {
            "machine_spec": {
                **MACHINE,
                "accelerator_type": "NVIDIA_TESLA_T4",
                "accelerator_count": 1,
            }
        },
    ):
        with pytest.raises(
            exceptions.InvalidArgument, match=r"worker_pool_specs\[0\].*match no resource pool"
        ):
            cloud.create(cloud.job(cloud.pool("", **other), persistent_resource_id="matching"))


def test_a_job_too_big_is_refused(cloud: Cloud) -> None:
    """The sum over a job's worker pools may not be more than the pool can have."""
    cloud.resource("small", fixed(2))
    with pytest.raises(exceptions.InvalidArgument, match=r"3 replicas are more than .* can have \(2\)"):
        cloud.create(
            cloud.job(cloud.pool(""), cloud.pool("", replica_count=2), persistent_resource_id="small")
        )


@pytest.mark.parametrize(("replicas", "fits"), [(2, True), (3, False)])
def test_an_autoscaled_pool_counts_with_its_maximum(cloud: Cloud, replicas: int, *, fits: bool) -> None:
    """Not with the machines that it has now."""
    cloud.resource(f"most-{replicas}", elastic(1, 3))
    job = cloud.job(
        cloud.pool(""), cloud.pool("", replica_count=replicas), persistent_resource_id=f"most-{replicas}"
    )
    if fits:
        assert cloud.ended(cloud.create(job)).state == JobState.JOB_STATE_SUCCEEDED
    else:
        with pytest.raises(exceptions.InvalidArgument, match=r"4 replicas are more than .* can have \(3\)"):
            cloud.create(job)


def test_an_unknown_resource_is_not_found(cloud: Cloud) -> None:
    """So is one of another region."""
    cloud.resource("here")
    with pytest.raises(exceptions.NotFound):
        cloud.create(cloud.job(cloud.pool(""), persistent_resource_id="nobody"))
    with pytest.raises(exceptions.NotFound):
        cloud.create(
            cloud.job(cloud.pool(""), persistent_resource_id="here"),
            parent="projects/demo-project/locations/us-east1",
        )


def test_network_and_key_must_agree(cloud: Cloud) -> None:
    """A job with another network or encryption key than its resource is refused."""
    network = "projects/123456789012/global/networks/default"
    cloud.resource("networked", network=network)
    with pytest.raises(exceptions.InvalidArgument, match="network"):
        cloud.create(cloud.job(cloud.pool(""), persistent_resource_id="networked"))
    job = cloud.job(cloud.pool(""), persistent_resource_id="networked", network=network)
    with pytest.raises(exceptions.InvalidArgument, match="kms_key_name"):
        cloud.create({**job, "encryption_spec": {"kms_key_name": "key"}})
    cloud.ended(cloud.create(job))


def test_an_enforced_account_must_be_named(cloud: Cloud) -> None:
    """A resource that enforces a custom service account wants one on each job."""
    cloud.resource(
        "enforced", resource_runtime_spec={"service_account_spec": {"enable_custom_service_account": True}}
    )
    with pytest.raises(exceptions.InvalidArgument, match="service_account"):
        cloud.create(cloud.job(cloud.pool(""), persistent_resource_id="enforced"))
    account = "trainer@demo-project.iam.gserviceaccount.com"
    cloud.run(cloud.pool(""), persistent_resource_id="enforced", service_account=account)


def test_an_account_that_would_not_be_used_is_refused(cloud: Cloud) -> None:
    """A resource that enforces none runs everything as the service's own agent, whatever a job names."""
    cloud.resource("plain")
    account = "trainer@demo-project.iam.gserviceaccount.com"
    with pytest.raises(exceptions.InvalidArgument, match="service_account"):
        cloud.create(cloud.job(cloud.pool(""), persistent_resource_id="plain", service_account=account))


def test_autoscaled_pools_grow_and_shrink(cloud: Cloud) -> None:
    """A pool grows up to its maximum when jobs need machines, and shrinks to its minimum when idle."""
    cloud.resource("elastic", elastic(1, 3))
    assert counts(cloud, "elastic") == [(1, 0)]
    jobs = [cloud.create(cloud.job(cloud.pool(SLEEP), persistent_resource_id="elastic")) for _ in range(3)]
    for job in jobs:
        cloud.running(job)
    assert counts(cloud, "elastic") == [(3, 3)]
    for job in jobs:
        cloud.stop(job)
    cloud.wait_for(lambda: counts(cloud, "elastic") == [(1, 0)], "shrinking")


def test_autoscaled_pools_may_find_no_machines(cloud_with: Callable[..., Cloud]) -> None:
    """A job that needs more than there are waits for them, and is not refused."""
    cloud = cloud_with(executor="simulate", simulated_seconds=3600, scale_up_stockout=True)
    cloud.resource("stuck", elastic(1, 3))
    small = cloud.create(cloud.job(cloud.pool(), persistent_resource_id="stuck"))
    cloud.running(small)
    next_one = cloud.create(cloud.job(cloud.pool(), persistent_resource_id="stuck"))
    assert cloud.get(next_one).state == JobState.JOB_STATE_PENDING
    assert counts(cloud, "stuck") == [(1, 1)]
    cloud.stop(small)
    cloud.running(next_one)
    big = cloud.create(cloud.job(cloud.pool(), cloud.pool(replica_count=2), persistent_resource_id="stuck"))
    cloud.stop(next_one)
    assert cloud.get(big).state == JobState.JOB_STATE_PENDING
    assert cloud.stop(big).state == JobState.JOB_STATE_CANCELLED


def test_a_busy_resource_may_fail_jobs(cloud_with: Callable[..., Cloud]) -> None:
    """busy_policy="fail" ends the job as FAILED with RESOURCE_EXHAUSTED, without having run."""
    cloud = cloud_with(busy_policy="fail")
    cloud.resource("busy", fixed(1))
    first = cloud.create(cloud.job(cloud.pool(SLEEP), persistent_resource_id="busy"))
    cloud.running(first)
    second = cloud.run(cloud.pool(""), persistent_resource_id="busy")
    assert second.state == JobState.JOB_STATE_FAILED
    assert (second.error.code, second.error.message) == (8, BUSY)
    assert "start_time" not in second
    assert "end_time" in second
    assert counts(cloud, "busy") == [(1, 1)]
    cloud.stop(first)
    assert cloud.run(cloud.pool(""), persistent_resource_id="busy").state == JobState.JOB_STATE_SUCCEEDED


def test_a_busy_resource_may_reject_jobs(cloud_with: Callable[..., Cloud]) -> None:
    """busy_policy="reject" refuses the create call, in other words than a rate limit, until machines are free."""
    cloud = cloud_with(busy_policy="reject")
    cloud.resource("busy", fixed(1))
    first = cloud.create(cloud.job(cloud.pool(SLEEP), persistent_resource_id="busy"))
    cloud.running(first)
    with pytest.raises(exceptions.ResourceExhausted) as caught:
        cloud.create(cloud.job(cloud.pool(""), persistent_resource_id="busy"))
    assert caught.value.message == BUSY
    assert len(list(cloud.jobs.list_custom_jobs(parent=cloud.PARENT))) == 1
    cloud.stop(first)
    cloud.run(cloud.pool(""), persistent_resource_id="busy")


@pytest.mark.parametrize(
    ("policy", "refused", "states"),
    [
        ("queue", 0, ["JOB_STATE_PENDING"] * 7 + ["JOB_STATE_RUNNING"]),
        ("fail", 0, ["JOB_STATE_FAILED"] * 7 + ["JOB_STATE_RUNNING"]),
        ("reject", 7, ["JOB_STATE_RUNNING"]),
    ],
)
def test_a_race_for_the_last_machine_has_one_winner(
    cloud_with: Callable[..., Cloud], policy: str, refused: int, states: list[str]
) -> None:
    """However close the calls come, one job runs, and all others are what the policy says."""
    cloud = cloud_with(executor="simulate", simulated_seconds=3600, busy_policy=policy)
    cloud.resource("busy", fixed(1))

    def race(_: int) -> bool:
        try:
            cloud.create(cloud.job(cloud.pool(), persistent_resource_id="busy"))
        except exceptions.ResourceExhausted:
            return False
        return True

    with ThreadPoolExecutor(8) as racers:
        assert list(racers.map(race, range(8))).count(False) == refused
    cloud.wait_for(
        lambda: sorted(job.state.name for job in cloud.jobs.list_custom_jobs(parent=cloud.PARENT)) == states,
        "one winner",
    )
    assert counts(cloud, "busy") == [(1, 1)]
