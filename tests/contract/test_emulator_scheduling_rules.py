# SPDX-License-Identifier: Apache-2.0
"""What Flex Start and Spot ask of a job: a request that breaks a rule is refused, and the field is named."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from google.api_core import exceptions
from google.cloud.aiplatform_v1.types import AcceleratorType, Scheduling

from airflow_vertex_persistent.emulator.gpus import GPUS

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.contract.conftest import Cloud

FLEX_START = Scheduling.Strategy.FLEX_START
POSSIBLE = (
    "NVIDIA_L4, NVIDIA_TESLA_A100, NVIDIA_A100_80GB, NVIDIA_H100_80GB, NVIDIA_H100_MEGA_80GB, "
    "NVIDIA_H200_141GB, NVIDIA_B200"
)
L4 = {"machine_type": "g2-standard-12", "accelerator_type": "NVIDIA_L4", "accelerator_count": 1}
T4 = {"machine_type": "n1-standard-4", "accelerator_type": "NVIDIA_TESLA_T4", "accelerator_count": 1}
RESERVED = {
    **L4,
    "reservation_affinity": {
        "reservation_affinity_type": "SPECIFIC_RESERVATION",
        "key": "compute.googleapis.com/reservation-name",
        "values": ["projects/demo-project/zones/europe-west4-a/reservations/gpus"],
    },
}


@pytest.fixture(scope="module")
def simulator(module_cloud_with: Callable[..., Cloud]) -> Cloud:
    """An emulator whose jobs take no time."""
    return module_cloud_with(executor="simulate", simulated_seconds=0, provisioning_seconds=0)


def job(cloud: Cloud, *machines: dict[str, Any], strategy: Any = FLEX_START, **spec: Any) -> dict[str, Any]:
    """A job of one node of each machine."""
    scheduling = {"strategy": strategy, **spec.pop("scheduling", {})}
    return cloud.job(*(cloud.pool(machine_spec=one) for one in machines), scheduling=scheduling, **spec)


@pytest.mark.parametrize("strategy", list(Scheduling.Strategy))
def test_every_strategy_is_accepted(simulator: Cloud, strategy: Scheduling.Strategy) -> None:
    """The deprecated names too; the job runs, and says what it was asked for."""
    created = simulator.create(job(simulator, L4, L4, strategy=strategy))
    assert created.job_spec.scheduling.strategy == strategy
    assert simulator.ended(created).state.name == "JOB_STATE_SUCCEEDED"


@pytest.mark.parametrize(
    ("machines", "spec", "words"),
    [
        (
            [T4],
            {},
            f"machine_spec.accelerator_type; Message: FLEX_START needs one of {POSSIBLE}, not NVIDIA_TESLA_T4.",
        ),
        ([{"machine_type": "n2-standard-8"}], {}, r"accelerator_type; .*, not a machine without GPUs\."),
        ([L4, T4], {}, r"worker_pool_specs\[1\].machine_spec.accelerator_type; .*not NVIDIA_TESLA_T4"),
        (
            [{**L4, "accelerator_count": 2}],
            {},
            r'machine_spec; .*"g2-standard-12" has exactly 1 NVIDIA_L4, not 2',
        ),
        (
            [L4, {**L4, "machine_type": "g2-standard-16"}],
            {},
            r"worker_pool_specs\[1\].machine_spec; Message: A FLEX_START job needs the same machine_spec",
        ),
        (
            [L4],
            {"scheduling": {"timeout": "604801s"}},
            r"job_spec.scheduling.timeout; Message: 604801 s is more than the 7 days",
        ),
        (
            [L4],
            {"persistent_resource_id": "nightly"},
            r"job_spec.persistent_resource_id; Message: A FLEX_START job",
        ),
        (
            [L4],
            {"persistent_resource_id": "nightly", "strategy": "SPOT"},
            r"job_spec.persistent_resource_id; Message: A SPOT job cannot run on a persistent resource",
        ),
        (
            [RESERVED],
            {},
            r"worker_pool_specs\[0\].machine_spec.reservation_affinity; Message: A FLEX_START job cannot use a",
        ),
        (
            [L4],
            {"scheduling": {"max_wait_duration": "-1s"}},
            r"scheduling.max_wait_duration; .*not a valid duration",
        ),
    ],
)
def test_a_broken_rule_is_named(
    simulator: Cloud, machines: list[dict[str, Any]], spec: dict[str, Any], words: str
) -> None:
    """As INVALID_ARGUMENT, before anything is created."""
    with pytest.raises(exceptions.InvalidArgument, match=words):
        simulator.create(job(simulator, *machines, **spec))


def test_all_problems_are_told_at_once(simulator: Cloud) -> None:
    """Those of Flex Start beside the others."""
    body = job(simulator, T4, L4, scheduling={"timeout": "604801s"}, network="default")
    with pytest.raises(exceptions.InvalidArgument) as caught:
        simulator.create(body)
    for field in ("timeout", "worker_pool_specs[0]", "worker_pool_specs[1].machine_spec;", "network"):
        assert field in caught.value.message


def test_seven_days_and_empty_worker_pools_are_fine(simulator: Cloud) -> None:
    """And so are a reservation for a job on demand, and an affinity to none."""
    free = {**L4, "reservation_affinity": {"reservation_affinity_type": "NO_RESERVATION"}}
    body = job(simulator, free, free, scheduling={"timeout": "604800s"})
    body["job_spec"]["worker_pool_specs"].insert(1, {})
    simulator.ended(simulator.create(body))
    simulator.ended(simulator.create(job(simulator, RESERVED, strategy="STANDARD")))


@pytest.mark.parametrize("name", [name for name, gpu in GPUS.items() if gpu.flex_start])
def test_every_machine_of_a_gpu_can_be_had(simulator: Cloud, name: str) -> None:
    """With the number of GPUs that it has, and with no other."""
    for machine, count in GPUS[name].machines.items():
        spec = {"machine_type": machine, "accelerator_type": name, "accelerator_count": count}
        simulator.create(job(simulator, spec))
        with pytest.raises(exceptions.InvalidArgument, match="has exactly"):
            simulator.create(job(simulator, {**spec, "accelerator_count": count + 1}))


def test_the_table_speaks_of_accelerators_that_exist() -> None:
    """By the names of the API."""
    assert set(GPUS) <= set(AcceleratorType.__members__)
