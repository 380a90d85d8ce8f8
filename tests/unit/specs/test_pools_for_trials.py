# SPDX-License-Identifier: Apache-2.0
"""Whether the trials that run at the same time fit the pools of a persistent resource together."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_vertex_persistent.exceptions import InvalidRequestError
from airflow_vertex_persistent.specs.checks import Problems
from airflow_vertex_persistent.specs.custom_job import JobRequest
from airflow_vertex_persistent.specs.pool_matching import PoolNeeds, fit_to_pools

CPU = {"machine_type": "n1-standard-4"}
SSD = {"boot_disk_type": "pd-ssd", "boot_disk_size_gb": 100}
NAME = "projects/123456789012/locations/europe-west4/persistentResources/nightly"


def needs(trials: int, replicas: list[int], pools: dict[str, int]) -> PoolNeeds:
    """
    Return the machines of some trials at the same time on pools of one hardware.

    :param replicas: Of each worker pool of one trial.
    :param pools: Machines of each pool of the resource.
    """
    worker_pools = [{"container_spec": {"image_uri": "i"}, "replica_count": count} for count in replicas]
    request = JobRequest(
        {"display_name": "n", "job_spec": {"worker_pool_specs": worker_pools}},
        (None,) * len(replicas),
        short_form=False,
        region="europe-west4",
        tuning={"parallel_trial_count": trials},
    )
    resource: dict[str, Any] = {
        "name": NAME,
        "resource_pools": [
            {"id": name, "machine_spec": CPU, "disk_spec": SSD, "replica_count": str(count)}
            for name, count in pools.items()
        ],
    }
    problems = Problems("tuning job")
    found = fit_to_pools(request, resource, problems, project_id="123456789012", region="europe-west4")
    problems.raise_if_any()
    return found


@pytest.mark.parametrize(
    ("trials", "replicas", "pools", "machines"),
    [
        (1, [1], {"a": 1}, {"a": 1}),
        (3, [1], {"a": 3}, {"a": 3}),
        (2, [1, 1], {"a": 4}, {"a": 4}),
        (2, [1, 3], {"a": 4, "b": 4}, {"a": 4, "b": 4}),
        (3, [2], {"a": 3, "b": 4}, {"a": 2, "b": 4}),
    ],
)
def test_trials_that_fit(
    trials: int, replicas: list[int], pools: dict[str, int], machines: dict[str, int]
) -> None:
    """They take the machines of one trial after the other, each worker pool from one pool."""
    found = needs(trials, replicas, pools)
    assert found.machines == machines
    assert [pool["replica_count"] for pool in found.job["job_spec"]["worker_pool_specs"]] == replicas


@pytest.mark.parametrize(
    ("trials", "replicas", "pools", "most", "told"),
    [
        (2, [1], {"a": 1}, 1, "each trial needs 1 machine of resource pool 'a', which can have 1"),
        (3, [1, 2], {"a": 8}, 2, "each trial needs 3 machines of resource pool 'a', which can have 8"),
        (
            2,
            [2],
            {"a": 3, "b": 1},
            1,
            "each trial needs 2 machines of resource pools 'a' and 'b', which can have 3 and 1",
        ),
    ],
)
def test_trials_that_do_not_fit(
    trials: int, replicas: list[int], pools: dict[str, int], most: int, told: str
) -> None:
    """It is told how many fit at the same time, and why."""
    with pytest.raises(InvalidRequestError) as caught:
        needs(trials, replicas, pools)
    (problem,) = caught.value.problems
    assert problem == (
        f"parallel_trial_count = {trials}: write at most {most}, or give the resource more machines: {told}"
    )
    needs(most, replicas, pools)
