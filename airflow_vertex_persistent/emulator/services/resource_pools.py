# SPDX-License-Identifier: Apache-2.0
"""Pools in a PersistentResource message: what the service fills in, counts, and what an update may change."""

from __future__ import annotations

from typing import TYPE_CHECKING

from google.cloud.aiplatform_v1.types import PersistentResource

from airflow_vertex_persistent.emulator import messages
from airflow_vertex_persistent.emulator.cluster import Pool
from airflow_vertex_persistent.emulator.demand import quota_of
from airflow_vertex_persistent.emulator.errors import invalid, refused
from airflow_vertex_persistent.emulator.machines import effective_disk, shape_of

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Mapping

    from google.cloud.aiplatform_v1.types import ResourcePool
    from google.protobuf.field_mask_pb2 import FieldMask

    from airflow_vertex_persistent.emulator.ledger import Item
    from airflow_vertex_persistent.emulator.names import Location

_COUNT = "resource_pools.replica_count"


def completed(resource: PersistentResource) -> PersistentResource:
    """Fill in what the caller left to the service: pool ids, disks, start sizes of autoscaled pools."""
    taken = {pool.id for pool in resource.resource_pools if pool.id}
    for pool in resource.resource_pools:
        pool.disk_spec = effective_disk(pool.machine_spec, pool.disk_spec)
        if "autoscaling_spec" in pool and "replica_count" not in pool:
            pool.replica_count = pool.autoscaling_spec.min_replica_count
        if not pool.id:
            pool.id = _free_id(pool, taken)
            taken.add(pool.id)
    return resource


def _free_id(pool: ResourcePool, taken: set[str]) -> str:
    """Make an id of machine type, GPU type and count; equal pools get a number."""
    machine = pool.machine_spec
    parts = [machine.machine_type]
    if machine.accelerator_count:
        parts += [machine.accelerator_type.name.lower().replace("_", "-"), str(machine.accelerator_count)]
    base = "-".join(parts)
    number = 1
    while (name := base if number == 1 else f"{base}-{number}") in taken:
        number += 1
    return name


def machine_pools(resource: PersistentResource) -> list[Pool]:
    """The cluster's view of the pools."""
    pools = []
    for pool in resource.resource_pools:
        low = high = pool.replica_count
        if "autoscaling_spec" in pool:
            low, high = pool.autoscaling_spec.min_replica_count, pool.autoscaling_spec.max_replica_count
        shape = shape_of(pool.machine_spec, pool.disk_spec)
        pools.append(Pool(pool.id, shape, size=pool.replica_count, minimum=low, maximum=high))
    return pools


def needed_quota(resource: PersistentResource, location: Location) -> Counter[Item]:
    """Count the GPUs of all machines that the pools may grow to, by quota metric."""
    machines = (
        (pool.machine_spec, most.maximum)
        for pool, most in zip(resource.resource_pools, machine_pools(resource), strict=True)
    )
    return quota_of(machines, location)


def with_counts(resource: PersistentResource, pools: Mapping[str, Pool]) -> PersistentResource:
    """Copy a resource, with the machines that its pools have and use now."""
    shown = PersistentResource(resource)
    for pool in shown.resource_pools:
        if machines := pools.get(pool.id):
            pool.replica_count = machines.size
            pool.used_replica_count = machines.used
    return shown


def with_wanted(resource: PersistentResource, counts: Mapping[str, int]) -> PersistentResource:
    """
    Copy a resource, with the replica counts that it is to have.

    :param counts: by pool id.
    """
    wanted = PersistentResource(resource)
    for pool in wanted.resource_pools:
        pool.replica_count = counts.get(pool.id, pool.replica_count)
    return wanted


def check_update(
    resource: PersistentResource, wanted: PersistentResource, mask: FieldMask, *, plain_allowed: bool
) -> dict[str, int]:
    """
    Check an update request.

    :param resource: as it is.
    :param wanted: as it should be.
    :param plain_allowed: whether resources without Ray may be changed.
    :return: new replica count of each pool that changes, by pool id.
    :raises ApiError: for any other field, for other pools, and for resources that cannot be changed.
    """
    if not mask.paths:
        raise invalid("update_mask: Required field is not set.")
    if unknown := [path for path in mask.paths if path != _COUNT]:
        raise invalid(f"Unrecognized path: {', '.join(unknown)}")
    if "ray_spec" not in resource.resource_runtime_spec and not plain_allowed:
        raise refused(messages.UPDATE_RAY_ONLY)
    existing = {pool.id: pool for pool in resource.resource_pools}
    pools = wanted.resource_pools
    if len(pools) != len(existing) or any(pool.id and pool.id not in existing for pool in pools):
        raise invalid("resource_pools: pools cannot be added or removed.")
    counts = {}
    for old, new in zip(resource.resource_pools, pools, strict=True):
        pool_id = new.id or old.id
        if new.replica_count < 1:
            raise invalid(f"resource_pools[{pool_id!r}].replica_count: {new.replica_count} is less than 1.")
        if "autoscaling_spec" not in existing[pool_id]:
            counts[pool_id] = new.replica_count
    return counts
