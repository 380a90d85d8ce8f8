# SPDX-License-Identifier: Apache-2.0
"""What a create request may say on scheduling, and what Flex Start and Spot ask of the rest of a job."""

from __future__ import annotations

from typing import TYPE_CHECKING

from google.cloud.aiplatform_v1.types import CustomJobSpec, MachineSpec, ReservationAffinity, Scheduling

from airflow_vertex_persistent.emulator.demand import is_flex_start, is_spot
from airflow_vertex_persistent.emulator.gpus import GPUS
from airflow_vertex_persistent.emulator.machines import gpu_name

if TYPE_CHECKING:
    from airflow_vertex_persistent.emulator.errors import Problems

_MOST_SECONDS = 315_576_000_000  # what protobuf lets a Duration hold
_FLEX_START_SECONDS = 7 * 24 * 3600
_FLEX_START_GPUS = [name for name, gpu in GPUS.items() if gpu.flex_start]
_NO_RESERVATION = {ReservationAffinity.Type.TYPE_UNSPECIFIED, ReservationAffinity.Type.NO_RESERVATION}


def check_scheduling(spec: CustomJobSpec, field: str, problems: Problems) -> None:
    """
    Check how a job is to be scheduled.

    :param field: path of the spec in the request.
    """
    scheduling = CustomJobSpec.pb(spec).scheduling
    problems.check(
        scheduling.strategy in set(Scheduling.Strategy),
        f"{field}.scheduling.strategy",
        f"{scheduling.strategy} is not a known strategy.",
    )
    for name in ("timeout", "max_wait_duration"):
        duration = getattr(scheduling, name)
        problems.check(
            0 <= duration.seconds <= _MOST_SECONDS and 0 <= duration.nanos < 10**9,
            f"{field}.scheduling.{name}",
            f"{duration.seconds} s {duration.nanos} ns is not a valid duration.",
        )
    if is_spot(spec) or is_flex_start(spec):
        problems.check(
            not spec.persistent_resource_id,
            f"{field}.persistent_resource_id",
            f"A {spec.scheduling.strategy.name} job cannot run on a persistent resource.",
        )
    if is_flex_start(spec):
        _check_flex_start(spec, field, problems)


def _check_flex_start(spec: CustomJobSpec, field: str, problems: Problems) -> None:
    timeout = CustomJobSpec.pb(spec).scheduling.timeout
    problems.check(
        timeout.seconds + bool(timeout.nanos) <= _FLEX_START_SECONDS,
        f"{field}.scheduling.timeout",
        f"{timeout.seconds} s is more than the 7 days that a FLEX_START job may run.",
    )
    pools = {n: pool.machine_spec for n, pool in enumerate(spec.worker_pool_specs) if pool.replica_count}
    for index, machine in pools.items():
        path, gpu = f"{field}.worker_pool_specs[{index}].machine_spec", gpu_name(machine)
        problems.check(
            gpu in _FLEX_START_GPUS,
            f"{path}.accelerator_type",
            f"FLEX_START needs one of {', '.join(_FLEX_START_GPUS)}, not {gpu or 'a machine without GPUs'}.",
        )
        problems.check(
            MachineSpec.pb(machine).reservation_affinity.reservation_affinity_type in _NO_RESERVATION,
            f"{path}.reservation_affinity",
            "A FLEX_START job cannot use a reservation.",
        )
        problems.check(
            machine == next(iter(pools.values())),
            path,
            "A FLEX_START job needs the same machine_spec in all worker pools.",
        )
