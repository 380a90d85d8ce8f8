# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from airflow.sdk import DAG, TaskGroup, task
from airflow.sdk.exceptions import AirflowFailException

from airflow_vertex_persistent.exceptions import PersistentResourceError
from airflow_vertex_persistent.operators.persistent_resource import (
    CreatePersistentResourceOperator,
    DeletePersistentResourceOperator,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from tests.conftest import Relay
    from tests.integration.conftest import Cloud
    from tests.integration.operators.sharing.conftest import Night

    Meanwhile = Callable[[Callable[[], object]], AbstractContextManager[None]]


@pytest.fixture
def week(dag: DAG) -> DAG:
    """Another DAG, whose tasks have names of their own, in a task group."""
    with DAG(f"{dag.dag_id}.week", schedule=None) as made, TaskGroup("warm"):

        @task(task_id="up")
        def warm_up() -> None:
            return

        @task(task_id="down")
        def cool_down() -> None:
            return

        warm_up() >> cool_down()
    made.fileloc = dag.fileloc
    return made


def test_other_dags(cloud: Cloud, week: DAG, night: Night) -> None:
    """A run of a DAG that shares the resource keeps it, one of a DAG that is not named does not."""
    night.make(shared_with=[{"dag_id": "{{ dag.dag_id }}.week", "setup": "warm.up", "teardown": "warm.down"}])
    other = night.add_run(dag=week, states={"warm.up": "success"})
    assert night.result()["used_by"] == [f"run {other} of DAG {week.dag_id}"]
    night.change(other, {"warm.down": "running"})
    assert night.result()["deleted"]
    assert cloud.resource() is None


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("no_such_dag", "which runs of DAG no_such_dag"),
        ({"setup": "up", "teardown": "warm.down"}, "has a task up:"),
    ],
)
def test_what_airflow_does_not_know(
    cloud: Cloud,
    week: DAG,
    night: Night,
    entry: Any,
    message: str,
) -> None:
    """A DAG or task that is not there fails the teardown: nobody knows who uses the resource."""
    if isinstance(entry, dict):
        entry = {**entry, "dag_id": week.dag_id}
        night.add_run(dag=week, states={"warm.up": "success"})
    night.make(shared_with=[entry])
    error = night.run().error("delete")
    assert type(error) is PersistentResourceError
    assert message in str(error)
    assert cloud.resource() is not None


def test_in_a_task_group(cloud: Cloud, night: Night) -> None:
    """The setup is found where it is, under the full name that Airflow knows it by; so is the one that is named."""
    with night.dag, TaskGroup("warm"):
        night.make()
        night.make_teardown(task_id="again", setup_task_id="warm.create")
    night.dag.get_task("warm.delete") >> night.dag.get_task("warm.again")
    other = night.add_run({"warm.create": "success", "warm.delete": "queued", "warm.again": "queued"})
    run = night.run()
    for teardown in ("warm.delete", "warm.again"):
        assert run.result(teardown)["used_by"] == [f"run {other} of DAG {night.dag.dag_id}"]
    night.change(other, {"warm.delete": "running", "warm.again": "running"})
    assert night.run().result("warm.delete")["deleted"]
    assert cloud.resource() is None


@pytest.fixture
def mapped_night(cloud: Cloud, night: Night, *, deferrable: bool) -> Night:
    """A night with two resources, each with a setup and a teardown."""
    mapped: dict[str, Any] = {"persistent_resource_id": ["nightly", "weekly"]}
    common: dict[str, Any] = {"region": cloud.REGION, "poll_interval": 0.05, "deferrable": deferrable}
    pool = {"machine_spec": {"machine_type": "n1-standard-4"}, "replica_count": 2}
    with night.dag:
        create = CreatePersistentResourceOperator.partial(task_id="create", resource_pools=[pool], **common)
        setup = create.expand(**mapped).as_setup()
        delete = DeletePersistentResourceOperator.partial(task_id="delete", **common)
        setup >> delete.expand(**mapped).as_teardown(setups=setup)
    return night


def test_mapped_tasks(cloud: Cloud, mapped_night: Night) -> None:
    """A setup and a teardown for each of several resources: what another run still uses stays, the rest goes."""
    run = mapped_night.run()
    assert [run.result(f"delete[{index}]")["deleted"] for index in (0, 1)] == [True, True]
    mapped_night.revive("delete", 1)
    run = mapped_night.run()
    assert [run.result(f"delete[{index}]")["deleted"] for index in (0, 1)] == [True, False]
    assert cloud.resource("nightly") is None
    assert cloud.resource("weekly") is not None


def test_bad_input_is_told_at_once(relayed_cloud: Cloud, relay: Relay, night: Night) -> None:
    """Every wrong parameter is named in one message, without retries, and nothing is asked or deleted."""
    night.make(
        when_in_use="ask",
        shared_with=["week", 5, {"dag_id": "month"}],
        setup_task_id="creat",
        max_wait_duration=-1,
        retries=3,
    )
    error = night.run().error("delete")
    assert type(error) is AirflowFailException
    lines = str(error).splitlines()
    assert lines[0] == "The deletion of the persistent resource is not possible like this, 6 problems:"
    assert {line.removeprefix("  - ").split(" = ")[0].split(": ")[0] for line in lines[1:]} == {
        "when_in_use",
        "max_wait_duration",
        "setup_task_id",
        "shared_with[1]",
        "shared_with[2].setup",
        "shared_with[2].teardown",
    }
    assert relay.count("ListCustomJobs") == relay.count("DeletePersistentResource") == 0
    assert relayed_cloud.resource() is not None
