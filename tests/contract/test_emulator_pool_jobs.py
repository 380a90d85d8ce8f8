# SPDX-License-Identifier: Apache-2.0
"""Jobs on persistent resources: matching, counting, waiting, growing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from google.api_core import exceptions
from google.cloud.aiplatform_v1.types import JobState

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.contract.conftest import Cloud

SLEEP = "import time; time.sleep(600)"
MACHINE = {"machine_type": "n1-standard-4"}


def fixed(count: int, **fields: Any) -> dict[str, Any]:
    """A pool of some machines."""
    return {"machine_spec": MACHINE, "replica_count": count, **fields}


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


def test_autoscaled_pools_grow_and_shrink(cloud: Cloud) -> None:
    """A pool grows up to its maximum when jobs need machines, and shrinks to its minimum when idle."""
    pool = {"machine_spec": MACHINE, "autoscaling_spec": {"min_replica_count": 1, "max_replica_count": 3}}
    cloud.resource("elastic", pool)
    assert counts(cloud, "elastic") == [(1, 0)]
    jobs = [cloud.create(cloud.job(cloud.pool(SLEEP), persistent_resource_id="elastic")) for _ in range(3)]
    for job in jobs:
        cloud.running(job)
    assert counts(cloud, "elastic") == [(3, 3)]
    for job in jobs:
        cloud.stop(job)
    cloud.wait_for(lambda: counts(cloud, "elastic") == [(1, 0)], "shrinking")


def test_a_busy_resource_may_fail_jobs(cloud_with: Callable[..., Cloud]) -> None:
    """busy_policy="fail" ends the job as FAILED with RESOURCE_EXHAUSTED."""
    cloud = cloud_with(busy_policy="fail")
    cloud.resource("busy", fixed(1))
    first = cloud.create(cloud.job(cloud.pool(SLEEP), persistent_resource_id="busy"))
    cloud.running(first)
    second = cloud.run(cloud.pool(""), persistent_resource_id="busy")
    assert second.state == JobState.JOB_STATE_FAILED
    assert second.error.code == 8
    assert "start_time" not in second


def test_a_busy_resource_may_reject_jobs(cloud_with: Callable[..., Cloud]) -> None:
    """busy_policy="reject" refuses the create call, and takes jobs again when machines are free."""
    cloud = cloud_with(busy_policy="reject")
    cloud.resource("busy", fixed(1))
    first = cloud.create(cloud.job(cloud.pool(SLEEP), persistent_resource_id="busy"))
    cloud.running(first)
    with pytest.raises(exceptions.ResourceExhausted, match='"busy"'):
        cloud.create(cloud.job(cloud.pool(""), persistent_resource_id="busy"))
    cloud.stop(first)
    cloud.run(cloud.pool(""), persistent_resource_id="busy")
