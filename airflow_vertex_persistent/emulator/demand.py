# SPDX-License-Identifier: Apache-2.0
"""What a job asks for: how it is to get its machines, which ones, how long it waits, and which quota it draws on."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from google.cloud.aiplatform_v1.types import CustomJobSpec, Scheduling

from .gpus import GPUS
from .ledger import Item
from .machines import gpu_name
from .names import Location

if TYPE_CHECKING:
    from collections.abc import Iterable

    from google.cloud.aiplatform_v1.types import MachineSpec

_SPOT = {Scheduling.Strategy.SPOT, Scheduling.Strategy.LOW_COST}  # LOW_COST is deprecated and means the same
_DEFAULT_WAIT = 24 * 3600.0


def is_flex_start(spec: CustomJobSpec) -> bool:
    """Whether the job queues for its machines."""
    return _strategy(spec) == Scheduling.Strategy.FLEX_START


def is_spot(spec: CustomJobSpec) -> bool:
    """Whether the job can lose its machines to others."""
    return _strategy(spec) in _SPOT


def _strategy(spec: CustomJobSpec) -> int:
    # The raw number: proto-plus warns of one that it does not know.
    return int(CustomJobSpec.pb(spec).scheduling.strategy)


def wait_limit(spec: CustomJobSpec) -> float | None:
    """Seconds that a job may wait; ``None`` is for ever, which Flex Start jobs do only when they say 0."""
    if not is_flex_start(spec):
        return None
    scheduling = CustomJobSpec.pb(spec).scheduling
    if not scheduling.HasField("max_wait_duration"):
        return _DEFAULT_WAIT
    limit = scheduling.max_wait_duration
    return limit.seconds + limit.nanos / 1e9 or None


def machines_of(spec: CustomJobSpec, location: Location) -> Counter[Item]:
    """Count the machines of a job by type; projects share them."""
    machines = Counter[Item]()
    for pool in spec.worker_pool_specs:
        if pool.replica_count:
            item = Item(Location(None, location.region), pool.machine_spec.machine_type)
            machines[item] += pool.replica_count
    return machines


def quota_of(
    machines: Iterable[tuple[MachineSpec, int]], location: Location, *, preemptible: bool = False
) -> Counter[Item]:
    """
    Count the GPUs of some machines by quota metric; each project has its own.

    :param machines: with how many of each.
    :param preemptible: for Spot and Flex Start jobs.
    """
    quota = Counter[Item]()
    for machine, count in machines:
        if gpu := GPUS.get(gpu_name(machine)):
            quota[Item(location, gpu.metric(preemptible=preemptible))] += machine.accelerator_count * count
    return quota


def job_quota(spec: CustomJobSpec, location: Location) -> Counter[Item]:
    """Count the GPUs of a job outside persistent resources by quota metric."""
    machines = ((pool.machine_spec, pool.replica_count) for pool in spec.worker_pool_specs)
    return quota_of(machines, location, preemptible=is_spot(spec) or is_flex_start(spec))
