# SPDX-License-Identifier: Apache-2.0
"""Pools of persistent resources: what the service fills in, which machines, disks and counts it takes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from google.api_core import exceptions
from google.cloud.aiplatform_v1.types import PersistentResource

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.contract.conftest import Cloud

RAY = {"ray_spec": {"image_uri": "ray:1"}}
CPU: dict[str, Any] = {"machine_spec": {"machine_type": "n1-standard-4"}, "replica_count": 1}
GPU: dict[str, Any] = {
    "machine_spec": {
        "machine_type": "n1-highmem-2",
        "accelerator_type": "NVIDIA_TESLA_T4",
        "accelerator_count": 1,
    },
    "replica_count": 1,
}
HYPERDISK_MACHINE: dict[str, Any] = {
    "machine_spec": {
        "machine_type": "a3-ultragpu-8g",
        "accelerator_type": "NVIDIA_H200_141GB",
        "accelerator_count": 8,
    },
    "replica_count": 1,
}


def scaled(low: int, high: int, **fields: Any) -> dict[str, Any]:
    """An autoscaled pool."""
    limits = {"min_replica_count": low, "max_replica_count": high}
    return {"machine_spec": CPU["machine_spec"], "autoscaling_spec": limits, **fields}


def create(cloud: Cloud, resource_id: str, *pools: dict[str, Any], **fields: Any) -> PersistentResource:
    """Ask for a persistent resource, and get it as it is at once."""
    cloud.resources.create_persistent_resource(
        parent=cloud.PARENT,
        persistent_resource=PersistentResource({"resource_pools": list(pools), **fields}),
        persistent_resource_id=resource_id,
    )
    name = f"{cloud.PARENT}/persistentResources/{resource_id}"
    return cloud.resources.get_persistent_resource(name=name)


def test_the_service_fills_in_pool_ids(cloud: Cloud) -> None:
    """They come from machine and GPU, equal pools get a number, and one that was chosen is kept."""
    pools = create(cloud, "pools", CPU, GPU, CPU, {**CPU, "id": "mine"}).resource_pools
    assert [pool.id for pool in pools] == [
        "n1-standard-4",
        "n1-highmem-2-nvidia-tesla-t4-1",
        "n1-standard-4-2",
        "mine",
    ]


@pytest.mark.parametrize(
    ("pool", "disk"),
    [
        (CPU, ("pd-ssd", 100)),
        ({**CPU, "disk_spec": {"boot_disk_type": "pd-standard"}}, ("pd-standard", 100)),
        ({**CPU, "disk_spec": {"boot_disk_size_gb": 64_000}}, ("pd-ssd", 64_000)),
        (
            {**CPU, "disk_spec": {"boot_disk_type": "pd-standard", "boot_disk_size_gb": 200}},
            ("pd-standard", 200),
        ),
        (HYPERDISK_MACHINE, ("hyperdisk-balanced", 100)),
    ],
)
def test_the_service_fills_in_disks(cloud: Cloud, pool: dict[str, Any], disk: tuple[str, int]) -> None:
    """What is not said is pd-ssd, or a hyperdisk where the machine wants it, with 100 GB."""
    number = sum(1 for _ in cloud.resources.list_persistent_resources(parent=cloud.PARENT))
    spec = create(cloud, f"disk-{number}", pool).resource_pools[0].disk_spec
    assert (spec.boot_disk_type, spec.boot_disk_size_gb) == disk


@pytest.mark.parametrize(
    ("pool", "size"),
    [
        ({**CPU, "replica_count": 1000}, 1000),
        (scaled(1, 2), 1),
        (scaled(1, 3, replica_count=1), 1),
        (scaled(1, 3, replica_count=2), 2),
        (scaled(1, 3, replica_count=3), 3),
        (scaled(1, 1000), 1),
    ],
)
def test_a_pool_begins_with_its_size(cloud: Cloud, pool: dict[str, Any], size: int) -> None:
    """An autoscaled one with its smallest, or with the one that is asked for; nothing of it is used."""
    number = sum(1 for _ in cloud.resources.list_persistent_resources(parent=cloud.PARENT))
    created = create(cloud, f"size-{number}", pool).resource_pools[0]
    assert (created.replica_count, created.used_replica_count) == (size, 0)


def test_an_autoscaled_pool_of_a_ray_cluster_may_be_empty(cloud: Cloud) -> None:
    """Its smallest size is 0 there, and 1 elsewhere."""
    created = create(cloud, "empty-ray", scaled(0, 2), resource_runtime_spec=RAY)
    assert created.resource_pools[0].replica_count == 0


def test_an_autoscaled_pool_that_nobody_uses_shrinks(cloud_with: Callable[..., Cloud]) -> None:
    """It began bigger than its smallest, and gives back what is idle without any job."""
    cloud = cloud_with(executor="simulate", scale_down_seconds=0.2)
    name = create(cloud, "idle", scaled(1, 4, replica_count=3)).name

    def size() -> int:
        return cloud.resources.get_persistent_resource(name=name).resource_pools[0].replica_count

    assert size() == 3
    cloud.wait_for(lambda: size() == 1, "shrinking")


@pytest.mark.parametrize(
    ("pool", "field"),
    [
        ({"machine_spec": CPU["machine_spec"]}, "replica_count"),
        ({**CPU, "replica_count": -1}, "replica_count"),
        ({**CPU, "replica_count": 1001}, "replica_count"),
        ({"replica_count": 1}, "machine_type"),
        ({**CPU, "machine_spec": {"machine_type": "n9-huge-1"}}, 'Machine type "n9-huge-1" is not supported'),
        (
            {**GPU, "machine_spec": {**GPU["machine_spec"], "accelerator_count": 3}},
            "possible counts: 1, 2, 4",
        ),
        ({**CPU, "machine_spec": {"machine_type": "a2-highgpu-2g"}}, "exactly 2 NVIDIA_TESLA_A100"),
        ({**CPU, "disk_spec": {"boot_disk_size_gb": 99}}, "boot_disk_size_gb"),
        ({**CPU, "disk_spec": {"boot_disk_size_gb": 64_001}}, "boot_disk_size_gb"),
        ({**CPU, "disk_spec": {"boot_disk_type": "floppy"}}, "boot_disk_type"),
        (scaled(0, 2), "min_replica_count"),
        (scaled(2, 2), "max_replica_count"),
        (scaled(3, 2), "max_replica_count"),
        (scaled(1, 1001), "max_replica_count"),
        (scaled(2, 3, replica_count=1), "replica_count"),
        (scaled(1, 2, replica_count=3), "replica_count"),
        ({**CPU, "autoscaling_spec": {"max_replica_count": 2}}, "min_replica_count"),
        ({**CPU, "autoscaling_spec": {"min_replica_count": 1}}, "max_replica_count"),
        ({**CPU, "id": "Upper"}, "id"),
    ],
)
def test_wrong_pools_are_refused(cloud: Cloud, pool: dict[str, Any], field: str) -> None:
    """Every rule on machines, disks and counts is checked, and the answer names the field."""
    with pytest.raises(exceptions.InvalidArgument, match=rf"resource_pools\[1\].*{field}"):
        create(cloud, "wrong", CPU, pool)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"resource_pools": []}, "resource_pools"),
        ({"resource_pools": [{**CPU, "id": "same"}] * 2}, "same id"),
        ({"network": "projects/demo-project/global/networks/default"}, "PROJECT_NUMBER"),
        ({"labels": {"Upper": "x"}}, "labels"),
        ({"display_name": "x" * 129}, "display_name"),
    ],
)
def test_wrong_resources_are_refused(cloud: Cloud, fields: dict[str, Any], words: str) -> None:
    """As wrong pools are."""
    with pytest.raises(exceptions.InvalidArgument, match=words):
        create(cloud, "wrong", **{"resource_pools": [CPU]} | fields)
