# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from airflow.sdk.exceptions import AirflowFailException

from airflow_vertex_persistent.emulator import EmulatorControl
from airflow_vertex_persistent.exceptions import PersistentResourceError
from airflow_vertex_persistent.operators.persistent_resource import (
    GetPersistentResourceOperator,
    ListPersistentResourcesOperator,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow.sdk import DAG

    from tests.integration.conftest import Cloud
    from tests.integration.operators.conftest import Run

    Make = Callable[..., Any]

POOLS: list[dict[str, Any]] = [
    {
        "id": "cpu",
        "machine_spec": {"machine_type": "n1-standard-4"},
        "disk_spec": {"boot_disk_type": "pd-ssd", "boot_disk_size_gb": 100},
        "replica_count": 2,
    },
    {
        "id": "gpu",
        "machine_spec": {
            "machine_type": "n1-highmem-8",
            "accelerator_type": "NVIDIA_TESLA_T4",
            "accelerator_count": 1,
        },
        "disk_spec": {"boot_disk_type": "pd-standard", "boot_disk_size_gb": 200},
        "autoscaling_spec": {"min_replica_count": 1, "max_replica_count": 3},
    },
]


@pytest.fixture
def get(dag: DAG) -> Make:
    """Make the task ``get``."""
    values = {"task_id": "get", "region": "europe-west4", "persistent_resource_id": "nightly"}
    return lambda **changes: GetPersistentResourceOperator(dag=dag, **{**values, **changes})


@pytest.fixture
def list_all(dag: DAG) -> Make:
    """Make the task ``list``."""
    values = {"task_id": "list", "region": "europe-west4"}
    return lambda **changes: ListPersistentResourcesOperator(dag=dag, **{**values, **changes})


def test_get(empty_cloud: Cloud, get: Make, run_dag: Callable[[], Run]) -> None:
    """The result says what the resource is, how old, and how many machines of each pool are free."""
    empty_cloud.create_resource(resource_pools=POOLS, labels={"team": "ranking"})
    empty_cloud.occupy()
    get()
    result = run_dag().result("get")
    live = empty_cloud.resource()
    assert live is not None
    assert result.pop("persistent_resource") == live.name
    assert result.pop("create_time") < result.pop("start_time")
    assert 0 < result.pop("age_seconds") < 600
    assert result == {
        "persistent_resource_id": "nightly",
        "region": "europe-west4",
        "state": "RUNNING",
        "labels": {"team": "ranking"},
        "error": None,
        "pools": [
            {
                "id": "cpu",
                "machine_type": "n1-standard-4",
                "accelerator_type": None,
                "accelerator_count": 0,
                "disk_type": "pd-ssd",
                "disk_size_gb": 100,
                "replica_count": 2,
                "min_replica_count": None,
                "max_replica_count": None,
                "used_replica_count": 2,
                "free_replica_count": 0,
            },
            {
                "id": "gpu",
                "machine_type": "n1-highmem-8",
                "accelerator_type": "NVIDIA_TESLA_T4",
                "accelerator_count": 1,
                "disk_type": "pd-standard",
                "disk_size_gb": 200,
                "replica_count": 1,
                "min_replica_count": 1,
                "max_replica_count": 3,
                "used_replica_count": 0,
                "free_replica_count": 3,
            },
        ],
    }


def test_get_one_in_error(empty_cloud: Cloud, get: Make, run_dag: Callable[[], Run]) -> None:
    """The service's own reason is in the result."""
    with EmulatorControl(empty_cloud.address) as control:
        control.add_fault("CreatePersistentResource", "stockout")
    empty_cloud.create_resource()
    get()
    result = run_dag().result("get")
    assert result["state"] == "ERROR"
    assert result["error"].startswith("Resources are insufficient in region: europe-west4.")
    assert result["start_time"] is None


@pytest.mark.usefixtures("empty_cloud")
def test_get_what_is_not_there(get: Make, run_dag: Callable[[], Run]) -> None:
    """A resource that is missing is an error that says what to do."""
    get()
    error = run_dag().error("get")
    assert type(error) is PersistentResourceError
    assert "/persistentResources/nightly is not there\nNext step: " in str(error)


@pytest.mark.usefixtures("empty_cloud")
def test_get_what_may_be_missing(get: Make, run_dag: Callable[[], Run]) -> None:
    """Who asks whether there is one is told that there is none."""
    get(missing_ok="True")
    assert run_dag().result("get") is None


def test_get_wrong(get: Make, run_dag: Callable[[], Run]) -> None:
    """Every wrong field is named at once, before anything is asked."""
    get(persistent_resource_id="Nightly", region="mars", missing_ok="perhaps", retries=3)
    error = run_dag().error("get")
    assert type(error) is AirflowFailException
    assert str(error).startswith("The look at the persistent resource is not possible like this, 3 problems:")
    for field in ("persistent_resource_id", "region", "missing_ok"):
        assert f"  - {field} = " in str(error)


def test_list(empty_cloud: Cloud, list_all: Make, run_dag: Callable[[], Run]) -> None:
    """All resources of the region are listed, in the form of a single look."""
    for number in range(3):
        empty_cloud.start_resource(f"number-{number}", labels={"team": "ranking"})
    list_all()
    result = run_dag().result("list")
    assert {one["persistent_resource_id"] for one in result} == {"number-0", "number-1", "number-2"}
    assert {len(one["pools"]) for one in result} == {1}
    assert {one["region"] for one in result} == {"europe-west4"}


def test_list_by_labels(empty_cloud: Cloud, list_all: Make, run_dag: Callable[[], Run]) -> None:
    """Only resources that have all labels asked for are listed."""
    empty_cloud.start_resource("both", labels={"team": "ranking", "env": "prod"})
    empty_cloud.start_resource("one", labels={"team": "ranking"})
    empty_cloud.start_resource("other", labels={"team": "search", "env": "prod"})
    list_all(labels={"team": "{{ 'ranking' }}", "env": "prod"})
    assert [one["persistent_resource_id"] for one in run_dag().result("list")] == ["both"]


@pytest.mark.parametrize("labels", [{"Team": "ranking"}, ["team"], "team=ranking"])
def test_list_wrong(list_all: Make, run_dag: Callable[[], Run], labels: Any) -> None:
    """Every wrong field is named at once, before anything is asked."""
    list_all(region="mars", labels=labels, retries=3)
    error = run_dag().error("list")
    assert type(error) is AirflowFailException
    assert str(error).startswith("The list of persistent resources is not possible like this, 2 problems:")
    assert "  - labels" in str(error)
