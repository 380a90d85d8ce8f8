# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import re
from typing import Any

import pytest
from google.cloud.aiplatform_v1.types import AcceleratorType

from airflow_vertex_persistent.exceptions import InvalidRequestError
from airflow_vertex_persistent.specs.checks import Problems
from airflow_vertex_persistent.specs.custom_job import custom_job
from airflow_vertex_persistent.specs.scheduling import check_own_machines, check_warm_machines

IMAGE = "europe-west4-docker.pkg.dev/acme/training/llm:1"
H100: dict[str, Any] = {
    "machine_type": "a3-highgpu-8g",
    "accelerator_type": "NVIDIA_H100_80GB",
    "accelerator_count": 8,
}
FLEX_START_MACHINES = {
    "g2-standard-4": ("NVIDIA_L4", 1),
    "g2-standard-96": ("NVIDIA_L4", 8),
    "a2-highgpu-1g": ("NVIDIA_TESLA_A100", 1),
    "a2-megagpu-16g": ("NVIDIA_TESLA_A100", 16),
    "a2-ultragpu-8g": ("NVIDIA_A100_80GB", 8),
    "a3-highgpu-8g": ("NVIDIA_H100_80GB", 8),
    "a3-megagpu-8g": ("NVIDIA_H100_MEGA_80GB", 8),
    "a3-ultragpu-8g": ("NVIDIA_H200_141GB", 8),
    "a4-highgpu-8g": ("NVIDIA_B200", 8),
}
FLEX_START_ACCELERATORS = {accelerator for accelerator, _ in FLEX_START_MACHINES.values()}


def job_spec(problems: Problems, **wanted: Any) -> dict[str, Any]:
    """Return the spec of a job that queues for machines, unless told otherwise."""
    values = {"display_name": "n", "container_uri": IMAGE, "strategy": "flex_start", **H100, **wanted}
    if "worker_pool_specs" in values or "config" in values:
        for field in ("container_uri", *H100):
            values.pop(field)
    spec: dict[str, Any] = custom_job(values, problems).job["job_spec"]
    return spec


def problems_of(*, allow: bool = False, **wanted: Any) -> tuple[str, ...]:
    """Return what is wrong with a job that queues for machines."""
    problems = Problems("custom job")
    check_own_machines(job_spec(problems, **wanted), problems, allow_unlisted_accelerators=allow)
    try:
        problems.raise_if_any()
    except InvalidRequestError as error:
        return error.problems
    return ()


def pool(machine_type: str, accelerator: str, count: int, replicas: int = 1) -> dict[str, Any]:
    """Return a worker pool."""
    return {
        "machine_spec": {
            "machine_type": machine_type,
            "accelerator_type": accelerator,
            "accelerator_count": count,
        },
        "replica_count": replicas,
        "container_spec": {"image_uri": IMAGE},
    }


@pytest.mark.parametrize(
    ("given", "scheduling"),
    [
        ({}, {"strategy": "FLEX_START"}),
        ({"max_wait_duration": None}, {"strategy": "FLEX_START"}),
        ({"max_wait_duration": 0}, {"strategy": "FLEX_START", "max_wait_duration": "0s"}),
        ({"max_wait_duration": "1800s"}, {"strategy": "FLEX_START", "max_wait_duration": "1800s"}),
        ({"strategy": "spot"}, {"strategy": "SPOT"}),
        ({"strategy": "STANDARD"}, {"strategy": "STANDARD"}),
        ({"max_run_duration": 60}, {"strategy": "FLEX_START", "timeout": "60s"}),
    ],
)
def test_how_it_is_sent(given: dict[str, Any], scheduling: dict[str, Any]) -> None:
    """For ever, unset and a time are three things, and each strategy has the API's name."""
    problems = Problems("custom job")
    assert job_spec(problems, **given)["scheduling"] == scheduling
    problems.raise_if_any()


@pytest.mark.parametrize(("machine_type", "gpu"), FLEX_START_MACHINES.items())
def test_the_machines_of_flex_start(machine_type: str, gpu: tuple[str, int]) -> None:
    """Every machine that Flex Start has passes, alone and in a gang."""
    assert problems_of(worker_pool_specs=[pool(machine_type, *gpu), pool(machine_type, *gpu, 3)]) == ()


@pytest.mark.parametrize(
    ("wanted", "problem"),
    [
        (
            {"machine_type": "n1-standard-8", "accelerator_type": "NVIDIA_TESLA_T4", "accelerator_count": 1},
            "worker_pool_specs[0].machine_spec.accelerator_type = 'NVIDIA_TESLA_T4': Flex Start has no",
        ),
        (
            {"machine_type": "n1-standard-8", "accelerator_type": None, "accelerator_count": None},
            "worker_pool_specs[0].machine_spec.accelerator_type = None: Flex Start is for machines with one of",
        ),
        ({"accelerator_count": 4}, "accelerator_count = 4: a3-highgpu-8g has 8"),
        ({"max_run_duration": 7 * 24 * 3600 + 1}, "max_run_duration = '604801s': at most 7 days are allowed"),
        ({"strategy": "flexstart"}, "strategy = 'flexstart': write 'flex_start', 'spot' or 'standard'"),
        ({"max_wait_duration": -1}, "max_wait_duration = -1: must be 0 or more"),
        (
            {
                "worker_pool_specs": [
                    pool("a3-highgpu-8g", "NVIDIA_H100_80GB", 8),
                    pool("g2-standard-4", "NVIDIA_L4", 1),
                ]
            },
            "worker_pool_specs[1].machine_spec: must be the same as worker_pool_specs[0].machine_spec",
        ),
        (
            {
                "worker_pool_specs": [
                    {
                        **pool("a3-highgpu-8g", "NVIDIA_H100_80GB", 8),
                        "machine_spec": {
                            **H100,
                            "reservation_affinity": {"reservation_affinity_type": "ANY_RESERVATION"},
                        },
                    }
                ]
            },
            "worker_pool_specs[0].machine_spec.reservation_affinity: leave it out",
        ),
    ],
)
def test_what_flex_start_cannot_do(wanted: dict[str, Any], problem: str) -> None:
    """Each documented rule is told with the field, its value and the fix, and nothing besides."""
    (told,) = problems_of(**wanted)
    assert told.startswith(problem)


@pytest.mark.parametrize("strategy", ["FLEX_START", "SPOT", "STANDARD", "ON_DEMAND"])
def test_machines_of_its_own_are_not_warm(strategy: str) -> None:
    """However a job gets machines of its own, there is another operator for a persistent resource."""
    config = {
        "persistentResourceId": "warm",
        "workerPoolSpecs": [pool("a3-highgpu-8g", "NVIDIA_H100_80GB", 8)],
        "scheduling": {"strategy": strategy},
    }
    (told,) = problems_of(strategy=None, config=config)
    assert told.startswith(
        "persistent_resource_id = 'warm': leave it out, or use PersistentResourceCustomJob"
    )


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({}, []),
        ({"scheduling": {"strategy": "ON_DEMAND"}}, []),
        (
            {"scheduling": {"strategy": "FLEX_START"}},
            ["scheduling.strategy = 'FLEX_START': leave it out, or use FlexStartTrainingOperator"],
        ),
        (
            {"worker_pool_specs": [{"machine_spec": {"reservation_affinity": {"key": "k"}}}]},
            ["worker_pool_specs[0].machine_spec.reservation_affinity: leave it out"],
        ),
    ],
)
def test_what_warm_machines_are_not_asked_for_with(changes: dict[str, Any], told: list[str]) -> None:
    """A persistent resource has its machines, so nothing says where others should come from."""
    problems = Problems("custom job")
    check_warm_machines({"worker_pool_specs": [{}], **changes}, problems)
    assert bool(problems) is bool(told)
    for line in told:
        with pytest.raises(InvalidRequestError, match=re.escape(line)):
            problems.raise_if_any()


def test_an_affinity_to_no_reservation() -> None:
    """Where the API wants it said that no reservation is used, that is no reservation."""
    machine = {**H100, "reservation_affinity": {"reservation_affinity_type": "NO_RESERVATION"}}
    work = {"machine_spec": machine, "container_spec": {"image_uri": IMAGE}}
    assert problems_of(worker_pool_specs=[work]) == ()


def test_what_others_can_do() -> None:
    """What is a rule of Flex Start is none of the other strategies."""
    t4: dict[str, Any] = {
        "machine_type": "n1-standard-8",
        "accelerator_type": "NVIDIA_TESLA_T4",
        "accelerator_count": 1,
    }
    assert problems_of(strategy="spot", **t4) == ()
    assert problems_of(strategy="standard", max_run_duration=30 * 24 * 3600, **t4) == ()


@pytest.mark.parametrize("accelerator", sorted(set(AcceleratorType.__members__) - FLEX_START_ACCELERATORS))
def test_accelerators_that_flex_start_does_not_have(accelerator: str) -> None:
    """All others that the API has are an error, a TPU like a GPU, until somebody says that this has changed."""
    spec = {"worker_pool_specs": [pool("x1", accelerator, 1)], "scheduling": {"strategy": "FLEX_START"}}
    problems = Problems("custom job")
    assert check_own_machines(spec, problems) == []
    with pytest.raises(InvalidRequestError, match=f"Flex Start has no {accelerator}; it has NVIDIA_L4, "):
        problems.raise_if_any()
    problems = Problems("custom job")
    assert len(check_own_machines(spec, problems, allow_unlisted_accelerators=True)) == 1
    assert not problems


def test_accelerators_that_are_newer_than_this_package() -> None:
    """One that nobody knows is worth a warning; one that Flex Start did not have, too, for who says so."""
    new: dict[str, Any] = {
        "machine_type": "a5-highgpu-8g",
        "accelerator_type": "NVIDIA_GB200",
        "accelerator_count": 8,
    }
    (told,) = problems_of(**new)
    assert "If that has changed, set allow_unlisted_accelerators=True" in told
    assert problems_of(allow=True, **new) == ()
    problems = Problems("custom job")
    spec = {"worker_pool_specs": [pool("x1", "NVIDIA_X1", 8)], "scheduling": {"strategy": "FLEX_START"}}
    warnings = check_own_machines(spec, problems)
    problems.raise_if_any()
    assert warnings == ["Whether Flex Start has NVIDIA_X1 is not known here: the service will tell"]
