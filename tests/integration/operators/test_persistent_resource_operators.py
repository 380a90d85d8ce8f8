# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from airflow.sdk.exceptions import AirflowFailException
from google.cloud.aiplatform_v1.types import PersistentResource

from airflow_vertex_persistent.exceptions import (
    MaxWaitExceededError,
    PersistentResourceError,
    QuotaExceededError,
)
from airflow_vertex_persistent.operators.labels import installation

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from tests.conftest import Relay
    from tests.integration.conftest import Cloud
    from tests.integration.operators.conftest import Run

    Make = Callable[..., Any]
    Meanwhile = Callable[[Callable[[], object]], AbstractContextManager[None]]

RESULT_KEYS = {
    "persistent_resource",
    "persistent_resource_id",
    "region",
    "state",
    "create_time",
    "start_time",
    "age_seconds",
    "labels",
    "error",
    "pools",
    "created",
    "rotated",
}


def test_create(empty_cloud: Cloud, create: Make, run_dag: Callable[[], Run], *, deferrable: bool) -> None:
    """
    A resource that is created runs when the task ends, has labels that say whose it is, and the result says
    which.
    """
    create(deferrable=deferrable, labels={"team": "ranking"}, display_name="Nightly")
    run = run_dag()
    result = run.result("create")
    live = empty_cloud.resource()
    assert live is not None
    assert live.state == PersistentResource.State.RUNNING
    assert live.display_name == "Nightly"
    labels = dict(live.labels)
    assert len(labels.pop("airflow_execution")) == 24
    assert labels.pop("airflow_dag").startswith("test_create_")
    assert labels == {"team": "ranking", "airflow_installation": installation(), "airflow_task": "create"}
    assert set(result) == RESULT_KEYS
    assert {key: run.xcoms["create"].get(key) for key in RESULT_KEYS} == result
    assert result["persistent_resource"] == live.name
    assert result["persistent_resource_id"] == "nightly"
    assert result["region"] == empty_cloud.REGION
    assert result["state"] == "RUNNING"
    assert result["create_time"] < result["start_time"]
    assert (result["created"], result["rotated"]) == (True, False)


def test_create_adopts(relay: Relay, create: Make, run_dag: Callable[[], Run], *, deferrable: bool) -> None:
    """A resource with the same spec is adopted, as often as the task runs, without asking for another."""
    create(deferrable=deferrable)
    first, second = run_dag().result("create"), run_dag().result("create")
    assert second["age_seconds"] > first["age_seconds"]
    assert second == {**first, "age_seconds": second["age_seconds"], "created": False}
    assert relay.count("CreatePersistentResource") == 1


def test_create_adopts_one_on_its_way(
    start_cloud: Callable[..., Cloud], create: Make, run_dag: Callable[[], Run], *, deferrable: bool
) -> None:
    """A resource that somebody else is creating is waited for."""
    cloud = start_cloud(resource_provisioning_seconds=1.0)
    cloud.start_resource()
    create(deferrable=deferrable)
    assert run_dag().result("create")["state"] == "RUNNING"


def test_create_refuses_another_spec(
    empty_cloud: Cloud, create: Make, run_dag: Callable[[], Run], *, deferrable: bool
) -> None:
    """A resource that differs fails the task without retries, and each field that differs is named."""
    empty_cloud.create_resource()
    pools = [
        {
            "machine_spec": {"machine_type": "n1-standard-4"},
            "replica_count": 3,
            "disk_spec": {"boot_disk_type": "pd-standard", "boot_disk_size_gb": 100},
        }
    ]
    create(deferrable=deferrable, resource_pools=pools, retries=3)
    error = run_dag().error("create")
    assert isinstance(error, AirflowFailException)
    message = str(error)
    for part in (
        "is there already, with another spec",
        "not even its number of machines",
        "Next step:",
        "max_age",
    ):
        assert part in message
    told = [
        line.removeprefix("  - ").split(" is ")[0] for line in message.splitlines() if line.startswith("  - ")
    ]
    assert set(told) == {"resource_pools[0].disk_spec", "resource_pools[0].replica_count"}


@pytest.mark.parametrize(
    ("reason", "kind"),
    [
        (
            "Resources are insufficient in region: {region}. Try a different region or use a different accelerator.",
            MaxWaitExceededError,
        ),
        (
            "The following quotas are exceeded: CustomModelTrainingT4GPUsPerProjectPerRegion",
            QuotaExceededError,
        ),
        ("An internal error occurred on your cluster.", PersistentResourceError),
    ],
)
def test_a_resource_that_does_not_come_up(
    start_cloud: Callable[..., Cloud],
    create: Make,
    run_dag: Callable[[], Run],
    reason: str,
    kind: type[Exception],
    *,
    deferrable: bool,
) -> None:
    """The error has the type and the text of the resource's own reason, and what failed is deleted."""
    cloud = start_cloud(resource_errors={"nightly": reason})
    create(deferrable=deferrable, max_wait_duration=0.1)
    error = run_dag().error("create")
    assert type(error) is kind
    for part in (reason.format(region="europe-west4"), "/persistentResources/nightly", "Next step:"):
        assert part in str(error)
    cloud.wait_for(lambda: cloud.resource() is None, "what failed is gone")


def test_a_resource_that_was_lost_before(
    start_cloud: Callable[..., Cloud], create: Make, run_dag: Callable[[], Run], *, deferrable: bool
) -> None:
    """A resource in ERROR that somebody else created is told with its reason, and left to its owner."""
    cloud = start_cloud(resource_errors={"nightly": "An internal error occurred on your cluster."})
    cloud.create_resource()
    create(deferrable=deferrable)
    error = run_dag().error("create")
    assert type(error) is PersistentResourceError
    assert "An internal error occurred on your cluster." in str(error)
    live = cloud.resource()
    assert live is not None
    assert live.state == PersistentResource.State.ERROR


def test_a_create_whose_reply_is_lost(
    relay: Relay, create: Make, run_dag: Callable[[], Run], *, deferrable: bool
) -> None:
    """A create that happened although its call failed is seen, and the resource is adopted."""
    relay.lose_reply("CreatePersistentResource")
    create(deferrable=deferrable)
    assert run_dag().result("create")["state"] == "RUNNING"
    assert relay.count("CreatePersistentResource") == 1


def test_a_create_that_never_arrived(
    relay: Relay, create: Make, run_dag: Callable[[], Run], *, deferrable: bool
) -> None:
    """A create that failed and did not happen is not repeated blindly: the task's retry does it."""
    relay.refuse("CreatePersistentResource")
    create(deferrable=deferrable, retries=1)
    run = run_dag()
    assert run.result("create")["state"] == "RUNNING"
    assert len(run.errors["create"]) == 1
    assert relay.count("CreatePersistentResource") == 2


def test_create_wrong(empty_cloud: Cloud, create: Make, run_dag: Callable[[], Run]) -> None:
    """A wrong spec fails at once, without retries, in one message that lists every problem."""
    pools = [{"machine_spec": {"machine_type": "n1-standard-4", "cores": 4}, "replica_count": 0}]
    create(
        persistent_resource_id="Nightly",
        resource_pools=pools,
        region="mars",
        max_age=0,
        when_in_use="ask",
        max_wait_duration="soon",
        retries=3,
        deferrable=False,
    )
    error = run_dag().error("create")
    assert isinstance(error, AirflowFailException)
    lines = str(error).splitlines()
    assert lines[0] == "The persistent resource is not possible like this, 7 problems:"
    assert {line.removeprefix("  - ").split(" = ")[0].split(": ")[0] for line in lines[1:]} == {
        "persistent_resource_id",
        "region",
        "resource_pools[0].replica_count",
        "resource_pools[0].machine_spec.cores",
        "max_age",
        "when_in_use",
        "max_wait_duration",
    }
    assert empty_cloud.resource() is None


def test_delete(cloud: Cloud, delete: Make, run_dag: Callable[[], Run], *, deferrable: bool) -> None:
    """The resource is really gone when the task ends, not only on its way."""
    delete(deferrable=deferrable)
    run = run_dag()
    assert run.states == {"delete": "success"}
    assert cloud.resource() is None


def test_delete_waits_for_the_end(
    start_cloud: Callable[..., Cloud], delete: Make, run_dag: Callable[[], Run], *, deferrable: bool
) -> None:
    """A deletion that takes long, or that somebody else began, is waited for."""
    cloud = start_cloud(resource_teardown_seconds=1.0)
    cloud.create_resource()
    cloud.resources.delete_persistent_resource(name=cloud.resource().name)  # type: ignore[union-attr]
    delete(deferrable=deferrable)
    assert run_dag().states == {"delete": "success"}
    assert cloud.resource() is None


def test_delete_what_is_gone(
    empty_cloud: Cloud, delete: Make, run_dag: Callable[[], Run], *, deferrable: bool
) -> None:
    """A resource that is not there is success: a teardown can run twice."""
    delete(deferrable=deferrable)
    assert run_dag().states == {"delete": "success"}
    assert empty_cloud.resource() is None


def test_delete_while_it_is_created(
    start_cloud: Callable[..., Cloud], delete: Make, run_dag: Callable[[], Run], *, deferrable: bool
) -> None:
    """A resource that cannot be deleted yet is waited for, then deleted."""
    cloud = start_cloud(resource_provisioning_seconds=1.0)
    cloud.start_resource()
    delete(deferrable=deferrable)
    assert run_dag().states == {"delete": "success"}
    assert cloud.resource() is None


def test_delete_what_is_in_error(
    start_cloud: Callable[..., Cloud], delete: Make, run_dag: Callable[[], Run], *, deferrable: bool
) -> None:
    """A resource that never came up is deleted as well."""
    cloud = start_cloud(resource_errors={"nightly": "no"})
    cloud.create_resource()
    delete(deferrable=deferrable)
    assert run_dag().states == {"delete": "success"}
    assert cloud.resource() is None


def test_a_delete_whose_reply_is_lost(
    empty_cloud: Cloud, relay: Relay, delete: Make, run_dag: Callable[[], Run], *, deferrable: bool
) -> None:
    """A deletion that happened although its call failed is a deletion."""
    empty_cloud.create_resource()
    relay.lose_reply("DeletePersistentResource")
    delete(deferrable=deferrable)
    assert run_dag().states == {"delete": "success"}
    assert empty_cloud.resource() is None


def test_delete_wrong(cloud: Cloud, delete: Make, run_dag: Callable[[], Run]) -> None:
    """A wrong deletion fails at once, without retries, in one message."""
    delete(persistent_resource_id="Nightly", poll_interval="often", retries=3, deferrable=False)
    error = run_dag().error("delete")
    assert isinstance(error, AirflowFailException)
    assert str(error).startswith(
        "The deletion of the persistent resource is not possible like this, 2 problems:"
    )
    assert cloud.resource() is not None
