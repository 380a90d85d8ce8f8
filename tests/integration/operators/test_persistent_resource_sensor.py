# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from airflow.sdk.exceptions import AirflowFailException, AirflowSensorTimeout

from airflow_vertex_persistent.exceptions import (
    CapacityError,
    PersistentResourceError,
    ServiceUnreachableError,
)
from airflow_vertex_persistent.sensors.persistent_resource import PersistentResourceSensor

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from airflow.sdk import DAG

    from tests.conftest import Relay
    from tests.integration.conftest import Cloud
    from tests.integration.operators.conftest import Run

    Make = Callable[..., Any]
    Meanwhile = Callable[[Callable[[], object]], AbstractContextManager[None]]

STOCKOUT = "Resources are insufficient in region: europe-west4."
AUTOSCALED: dict[str, Any] = {
    "id": "grows",
    "machine_spec": {"machine_type": "n1-standard-4"},
    "disk_spec": {"boot_disk_type": "pd-ssd", "boot_disk_size_gb": 100},
    "autoscaling_spec": {"min_replica_count": 1, "max_replica_count": 4},
}
LOOK = "GetPersistentResource"


@pytest.fixture(params=["poke", "reschedule", "deferrable"])
def sense(request: pytest.FixtureRequest, dag: DAG) -> Make:
    """Make the task ``sense`` with short pauses, in each mode."""
    mode = request.param
    values: dict[str, Any] = {
        "task_id": "sense",
        "region": "europe-west4",
        "persistent_resource_id": "nightly",
        "poll_interval": 0.05,
        "mode": "poke" if mode == "deferrable" else mode,
        "deferrable": mode == "deferrable",
    }
    return lambda **changes: PersistentResourceSensor(dag=dag, **{**values, **changes})


def test_one_that_runs(cloud: Cloud, sense: Make, run_dag: Callable[[], Run]) -> None:
    """A resource that runs is ready at once, and the result says what it is like."""
    sense()
    run = run_dag()
    result = run.result("sense")
    live = cloud.resource()
    assert live is not None
    assert result["persistent_resource"] == live.name
    assert result["state"] == "RUNNING"
    assert [pool["free_replica_count"] for pool in result["pools"]] == [2]
    assert "persistent-resources?project=demo-project" in run.xcoms["sense"]["_link_PersistentResourcesLink"]


def test_one_on_its_way(start_cloud: Callable[..., Cloud], sense: Make, run_dag: Callable[[], Run]) -> None:
    """A resource that is being created is waited for."""
    cloud = start_cloud(resource_provisioning_seconds=3.0)
    cloud.start_resource()
    sense()
    assert run_dag().result("sense")["state"] == "RUNNING"


def test_free_machines(
    relayed_cloud: Cloud, relay: Relay, sense: Make, run_dag: Callable[[], Run], meanwhile: Meanwhile
) -> None:
    """The task ends when a pool has so many free machines, not before."""
    relayed_cloud.occupy()

    def end_the_job() -> None:
        relayed_cloud.wait_for(lambda: relay.count(LOOK) > 2, "the task waits")
        relayed_cloud.cancel_running_job()

    sense(free_replicas="2", resource_pool="n1-standard-4")
    with meanwhile(end_the_job):
        run = run_dag()
    assert [pool["free_replica_count"] for pool in run.result("sense")["pools"]] == [2]


def test_machines_that_are_not_there_yet(empty_cloud: Cloud, sense: Make, run_dag: Callable[[], Run]) -> None:
    """Machines by which an autoscaled pool may grow are free ones, in any pool where none is named."""
    empty_cloud.create_resource(resource_pools=[AUTOSCALED])
    sense(free_replicas=4)
    assert run_dag().result("sense")["pools"][0]["replica_count"] == 1


@pytest.mark.parametrize(
    ("pool", "told"),
    [
        (None, "never has 3 free machines in one pool"),
        ("gpu", "has no pool 'gpu'"),
        ("n1-standard-4", "never has 3 free machines in pool 'n1-standard-4'"),
    ],
)
@pytest.mark.usefixtures("cloud")
def test_machines_that_never_come(
    sense: Make, run_dag: Callable[[], Run], pool: str | None, told: str
) -> None:
    """
    Waiting for more machines than a pool can have, or for a pool that is not there, is an error with no
    retries.
    """
    sense(free_replicas=3, resource_pool=pool, retries=3)
    error = run_dag().error("sense")
    assert type(error) is AirflowFailException
    for part in (told, "n1-standard-4 (2 machines)", "Next step:"):
        assert part in str(error)


@pytest.mark.usefixtures("empty_cloud")
def test_one_that_is_not_there(sense: Make, run_dag: Callable[[], Run]) -> None:
    """A resource that is missing ends the wait."""
    sense(free_replicas=1)
    error = run_dag().error("sense")
    assert type(error) is PersistentResourceError
    assert "'nightly' is not there\nNext step: " in str(error)


def test_one_in_error(start_cloud: Callable[..., Cloud], sense: Make, run_dag: Callable[[], Run]) -> None:
    """A resource in ERROR ends the wait with the service's own reason."""
    start_cloud(resource_errors={"nightly": STOCKOUT}).create_resource()
    sense()
    error = run_dag().error("sense")
    assert type(error) is CapacityError
    assert STOCKOUT in str(error)


def test_one_that_is_deleted_meanwhile(
    start_cloud: Callable[..., Cloud], sense: Make, run_dag: Callable[[], Run]
) -> None:
    """A resource on its way out ends the wait when it is gone."""
    cloud = start_cloud(resource_teardown_seconds=2.0)
    cloud.create_resource()
    live = cloud.resource()
    assert live is not None
    cloud.resources.delete_persistent_resource(name=live.name)
    sense()
    assert type(run_dag().error("sense")) is PersistentResourceError


@pytest.mark.usefixtures("relayed_cloud")
def test_an_outage_is_waited_out(relay: Relay, sense: Make, run_dag: Callable[[], Run]) -> None:
    """An answer that does not come is no end."""
    relay.refuse(LOOK, times=2)
    sense()
    assert run_dag().result("sense")["state"] == "RUNNING"
    assert relay.count(LOOK) == 3


@pytest.mark.usefixtures("relayed_cloud")
def test_an_outage_that_lasts(relay: Relay, sense: Make, run_dag: Callable[[], Run]) -> None:
    """When there is no answer for max_outage the task ends with an error that says so."""
    relay.refuse(LOOK, times=1000)
    sense(max_outage=0.3)
    error = run_dag().error("sense")
    assert type(error) is ServiceUnreachableError
    assert "for max_outage. Last error: 503 away" in str(error)


@pytest.mark.usefixtures("relayed_cloud")
def test_a_refusal_ends_the_wait(relay: Relay, sense: Make, run_dag: Callable[[], Run]) -> None:
    """A permission that is missing does not come by waiting."""
    relay.refuse(LOOK, code="PERMISSION_DENIED", text="not you", times=2)
    sense()
    assert "not you" in str(run_dag().error("sense"))


@pytest.mark.usefixtures("empty_cloud")
def test_never_fail_skips(sense: Make, run_dag: Callable[[], Run]) -> None:
    """Who never wants it to fail has it skipped, in every mode."""
    sense(never_fail=True)
    assert run_dag().states == {"sense": "skipped"}


def test_silent_fail_goes_on(
    empty_cloud: Cloud, relay: Relay, sense: Make, run_dag: Callable[[], Run], meanwhile: Meanwhile
) -> None:
    """Who wants it to go on silently can wait for a resource that somebody is yet to create, in every mode."""

    def create() -> None:
        empty_cloud.wait_for(lambda: relay.count(LOOK), "the task waits")
        empty_cloud.start_resource()

    sense(silent_fail=True)
    with meanwhile(create):
        run = run_dag()
    assert run.result("sense")["state"] == "RUNNING"


@pytest.mark.parametrize("sense", ["poke", "reschedule"], indirect=True)
@pytest.mark.parametrize(("soft_fail", "state"), [(False, "failed"), (True, "skipped")])
def test_the_time_is_over(
    cloud: Cloud, sense: Make, run_dag: Callable[[], Run], state: str, *, soft_fail: bool
) -> None:
    """After ``timeout`` the task has failed, or is skipped."""
    # Deferred, it is the triggerer that does so: dag.test() does not.
    cloud.occupy()
    sense(free_replicas=1, timeout=0.2, soft_fail=soft_fail)
    run = run_dag()
    assert run.states == {"sense": state}
    if not soft_fail:
        assert type(run.error("sense")) is AirflowSensorTimeout


def test_bad_input(sense: Make, run_dag: Callable[[], Run]) -> None:
    """Every wrong field is named at once, without retries, before anything is asked."""
    sense(persistent_resource_id="Nightly", region="mars", free_replicas="many", poll_interval=0, retries=3)
    error = run_dag().error("sense")
    assert type(error) is AirflowFailException
    assert str(error).startswith(
        "The wait for the persistent resource is not possible like this, 4 problems:"
    )
    for field in ("persistent_resource_id", "region", "free_replicas", "poll_interval"):
        assert f"  - {field} = " in str(error)


def test_a_pool_without_a_number(sense: Make, run_dag: Callable[[], Run]) -> None:
    """A pool alone says nothing."""
    sense(resource_pool="gpu")
    assert "  - resource_pool = 'gpu': goes with free_replicas" in str(run_dag().error("sense"))
