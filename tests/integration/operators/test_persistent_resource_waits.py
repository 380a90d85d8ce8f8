# SPDX-License-Identifier: Apache-2.0
"""What stands in the way of a resource is waited out: its deletion, its blocked name, a lack of machines."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_vertex_persistent.emulator import EmulatorControl
from airflow_vertex_persistent.exceptions import MaxWaitExceededError, QuotaExceededError

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.conftest import Relay
    from tests.integration.conftest import Cloud
    from tests.integration.operators.conftest import Run

    Make = Callable[..., Any]

STOCKOUT = "Resources are insufficient in region: europe-west4. Try a different region."


def delete(cloud: Cloud) -> None:
    """Begin to delete the resource."""
    live = cloud.resource()
    assert live is not None
    cloud.resources.delete_persistent_resource(name=live.name)


def calls(cloud: Cloud, method: str) -> int:
    """Return how often the emulator got a call."""
    with EmulatorControl(cloud.address) as control:
        return control.call_counts()[method]


def test_one_that_is_being_deleted(
    start_cloud: Callable[..., Cloud], create: Make, run_dag: Callable[[], Run], *, deferrable: bool
) -> None:
    """A resource on its way out is waited for and created anew, without a failed attempt."""
    cloud = start_cloud(resource_teardown_seconds=2.0)
    cloud.create_resource()

    def begin(_: Any) -> None:
        if not calls(cloud, "DeletePersistentResource"):
            delete(cloud)

    create(deferrable=deferrable, pre_execute=begin)
    run = run_dag()
    assert run.errors == {}
    assert run.result("create")["created"] is True


def test_a_deletion_that_takes_too_long(
    start_cloud: Callable[..., Cloud], create: Make, run_dag: Callable[[], Run], *, deferrable: bool
) -> None:
    """The end of a deletion is waited for as long as max_wait_duration says."""
    cloud = start_cloud(resource_teardown_seconds=600.0)
    cloud.create_resource()
    delete(cloud)
    create(deferrable=deferrable, max_wait_duration=0.5)
    error = run_dag().error("create")
    assert type(error) is MaxWaitExceededError
    assert "waited for the end of its deletion" in str(error)


def test_a_name_that_is_blocked(
    start_cloud: Callable[..., Cloud], create: Make, run_dag: Callable[[], Run], *, deferrable: bool
) -> None:
    """A name that is still taken after the resource is gone is tried again until it is free."""
    cloud = start_cloud(name_blocked_seconds=3.0, resource_teardown_seconds=0.0)
    cloud.create_resource()
    delete(cloud)
    cloud.wait_for(lambda: cloud.resource() is None, "the resource is gone")
    create(deferrable=deferrable)
    assert run_dag().result("create")["created"] is True
    assert calls(cloud, "CreatePersistentResource") > 1


def test_a_name_that_stays_blocked(
    start_cloud: Callable[..., Cloud], create: Make, run_dag: Callable[[], Run], *, deferrable: bool
) -> None:
    """The error says that the name did not become free."""
    cloud = start_cloud(name_blocked_seconds=600.0, resource_teardown_seconds=0.0)
    cloud.create_resource()
    delete(cloud)
    cloud.wait_for(lambda: cloud.resource() is None, "the resource is gone")
    create(deferrable=deferrable, max_wait_duration=0.5)
    error = run_dag().error("create")
    assert type(error) is MaxWaitExceededError
    assert "waited for its name, which the service keeps" in str(error)


def test_machines_that_come_later(
    empty_cloud: Cloud, relay: Relay, create: Make, run_dag: Callable[[], Run], *, deferrable: bool
) -> None:
    """A creation that finds no machines is deleted and tried again, in the same attempt of the task."""
    with EmulatorControl(empty_cloud.address) as control:
        control.add_fault("CreatePersistentResource", "stockout", times=2)
    create(deferrable=deferrable)
    run = run_dag()
    assert run.errors == {}
    result = run.result("create")
    assert (result["state"], result["created"], result["rotated"]) == ("RUNNING", True, False)
    assert relay.count("CreatePersistentResource") == 3
    assert relay.count("DeletePersistentResource") == 2


def test_machines_that_are_refused(
    relay: Relay, create: Make, run_dag: Callable[[], Run], *, deferrable: bool
) -> None:
    """Also where the service refuses the creation itself for a lack of machines, it is tried again."""
    relay.refuse("CreatePersistentResource", code="RESOURCE_EXHAUSTED", text=STOCKOUT, times=2)
    create(deferrable=deferrable)
    assert run_dag().result("create")["created"] is True
    assert relay.count("CreatePersistentResource") == 3


def test_machines_that_never_come(
    empty_cloud: Cloud, create: Make, run_dag: Callable[[], Run], *, deferrable: bool
) -> None:
    """The error has the service's own reason, every failed attempt is deleted, and a retry waits no longer."""
    with EmulatorControl(empty_cloud.address) as control:
        control.add_fault("CreatePersistentResource", "stockout", times=1000, text=STOCKOUT)
    create(deferrable=deferrable, max_wait_duration=0.5, retries=1)
    run = run_dag()
    assert run.states == {"create": "failed"}
    assert [type(error) for error in run.errors["create"]] == [MaxWaitExceededError] * 2
    assert f"waited for machines ({STOCKOUT})" in str(run.errors["create"][0])
    empty_cloud.wait_for(lambda: empty_cloud.resource() is None, "what failed is gone")


def test_a_quota_is_not_waited_for(
    empty_cloud: Cloud, relay: Relay, create: Make, run_dag: Callable[[], Run], *, deferrable: bool
) -> None:
    """More machines than the project may have do not come by waiting."""
    with EmulatorControl(empty_cloud.address) as control:
        control.add_fault("CreatePersistentResource", "quota")
    create(deferrable=deferrable)
    assert type(run_dag().error("create")) is QuotaExceededError
    assert relay.count("CreatePersistentResource") == 1


def test_a_second_attempt_knows_what_the_first_has_created(
    empty_cloud: Cloud, create: Make, run_dag: Callable[[], Run], *, deferrable: bool
) -> None:
    """What an attempt has created before it failed is its execution's own, and not replaced, however old it is."""
    with EmulatorControl(empty_cloud.address) as control:
        control.add_fault("GetPersistentResource", "permission_denied", skip=1)
    create(deferrable=deferrable, retries=1, max_age=0.001)
    run = run_dag()
    assert len(run.errors["create"]) == 1
    result = run.result("create")
    assert (result["created"], result["rotated"]) == (True, False)
    assert calls(empty_cloud, "CreatePersistentResource") == 1
    assert calls(empty_cloud, "DeletePersistentResource") == 0
