# SPDX-License-Identifier: Apache-2.0
"""What is said of a job before it is sent, from what the service says of its persistent resource, comes true."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from google.api_core.exceptions import InvalidArgument, ResourceExhausted

from airflow_vertex_persistent.exceptions import InvalidRequestError
from airflow_vertex_persistent.hooks.persistent_resource import PersistentResourceHook, resource_body
from airflow_vertex_persistent.hooks.training_job import TrainingJobHook
from airflow_vertex_persistent.names import CUSTOM_JOBS, persistent_resource_name
from airflow_vertex_persistent.specs.checks import Problems
from airflow_vertex_persistent.specs.custom_job import custom_job
from airflow_vertex_persistent.specs.pool_matching import fit_to_pools

if TYPE_CHECKING:
    from collections.abc import Callable

    from google.cloud.aiplatform_v1.types import CustomJob

    from airflow_vertex_persistent.specs.pool_matching import PoolNeeds
    from tests.contract.conftest import Cloud

PROJECT, REGION = "demo-project", "europe-west4"
FOREVER = {"EMULATOR_RUN_SECONDS": "86400"}
CPU = {"machine_type": "n1-standard-4"}
T4 = {"machine_type": "n1-standard-4", "accelerator_type": "NVIDIA_TESLA_T4", "accelerator_count": 1}
POOLS: tuple[dict[str, Any], ...] = (
    {"id": "cpus", "machine_spec": CPU, "replica_count": 2},
    {
        "id": "gpus",
        "machine_spec": T4,
        "disk_spec": {"boot_disk_type": "pd-standard", "boot_disk_size_gb": 200},
        "autoscaling_spec": {"min_replica_count": 1, "max_replica_count": 3},
    },
)


@pytest.fixture(scope="module")
def service(module_cloud_with: Callable[..., Cloud]) -> Cloud:
    """A service that refuses jobs for which it has no free machines, with two pools."""
    cloud = module_cloud_with(executor="simulate", busy_policy="reject")
    cloud.resource("nightly", *POOLS)
    return cloud


@pytest.fixture(autouse=True)
def connection(service: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    """Connect the hooks to it."""
    monkeypatch.setenv("AIRFLOW_CONN_GOOGLE_CLOUD_DEFAULT", f"google-cloud-platform://?project={PROJECT}")
    monkeypatch.setenv("VERTEX_AI_EMULATOR_HOST", service.emulator.address)


def live() -> dict[str, Any]:
    """Return the resource as it is now."""
    found = PersistentResourceHook().get(persistent_resource_name(PROJECT, REGION, "nightly"))
    assert found is not None
    return resource_body(found)


def fit(**wanted: Any) -> PoolNeeds:
    """Return what a job needs, which must fit."""
    problems = Problems("custom job")
    named = {"display_name": "n", "persistent_resource_id": "nightly", "container_uri": "image", **wanted}
    needs = fit_to_pools(custom_job(named, problems), live(), problems, project_id=PROJECT, region=REGION)
    problems.raise_if_any()
    return needs


def create(needs: PoolNeeds) -> CustomJob:
    """Send a job."""
    return TrainingJobHook().create_job(PROJECT, REGION, CUSTOM_JOBS, needs.job)


def used(pool_id: str) -> int:
    """Return how many machines of a pool are in use."""
    (pool,) = (pool for pool in live()["resource_pools"] if pool["id"] == pool_id)
    return int(pool.get("used_replica_count", 0))


@pytest.mark.parametrize(
    ("wanted", "pool_id"),
    [
        ({"resource_pool": "cpus"}, "cpus"),
        ({"resource_pool": "gpus", "replica_count": 3}, "gpus"),
        ({"machine_type": "n1-standard-4"}, "cpus"),
        ({"boot_disk_type": "pd-standard"}, "gpus"),
        ({"boot_disk_size_gb": 200, "replica_count": 2}, "gpus"),
        ({**T4, "boot_disk_type": "pd-standard", "boot_disk_size_gb": 200}, "gpus"),
    ],
)
def test_a_job_runs_on_the_pool_that_it_fits(service: Cloud, wanted: dict[str, Any], pool_id: str) -> None:
    """Whatever it leaves out, it is taken, and uses as many machines of that pool as it was said to."""
    needs = fit(env=FOREVER, **wanted)
    assert needs.short_of(live()) == []
    job = create(needs)
    service.running(job)
    assert needs.machines == {pool_id: used(pool_id)} == {pool_id: wanted.get("replica_count", 1)}
    service.stop(job)


@pytest.mark.parametrize(
    "wrong",
    [
        {"machine_spec": {"machine_type": "n1-standard-8"}},
        {"machine_spec": {**T4, "accelerator_count": 2}},
        {"disk_spec": {"boot_disk_type": "pd-standard", "boot_disk_size_gb": 100}},
        {"replica_count": 4},
    ],
)
def test_a_job_that_fits_nowhere_is_refused_by_both(wrong: dict[str, Any]) -> None:
    """It need not be sent to hear that it would be refused."""
    needs = fit(resource_pool="gpus", replica_count=2)
    primary, workers = needs.job["job_spec"]["worker_pool_specs"]
    pools = [primary, {**workers, **wrong}]
    needs.job["job_spec"]["worker_pool_specs"] = pools
    with pytest.raises(InvalidArgument):
        create(needs)
    with pytest.raises(InvalidRequestError, match="worker_pool_specs"):
        fit(worker_pool_specs=pools, container_uri=None)


def test_machines_that_others_use_are_missing_until_they_are_free(service: Cloud) -> None:
    """A job that is short of machines is refused, and taken once it is not."""
    first = create(fit(resource_pool="gpus", replica_count=2, env=FOREVER))
    service.running(first)
    second = fit(resource_pool="gpus", replica_count=2)
    assert second.short_of(live()) == ["resource pool 'gpus' has 1 of 3 machines free, the job needs 2"]
    with pytest.raises(ResourceExhausted):
        create(second)
    service.stop(first)
    assert second.short_of(live()) == []
    service.ended(create(second))
