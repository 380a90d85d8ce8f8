# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest
from google.api_core.exceptions import AlreadyExists, ServiceUnavailable
from google.cloud.aiplatform_v1.types import PersistentResource

from airflow_vertex_persistent.hooks.persistent_resource import (
    PersistentResourceAsyncHook,
    PersistentResourceHook,
    resource_body,
    resource_snapshot,
)
from airflow_vertex_persistent.names import persistent_resource_name
from airflow_vertex_persistent.specs.checks import Problems
from airflow_vertex_persistent.specs.persistent_resource import differences, persistent_resource

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_vertex_persistent.names import ResourceName
    from tests.conftest import Relay
    from tests.contract.conftest import Cloud

PROJECT, REGION = "demo-project", "europe-west4"
POOL = {"machine_spec": {"machine_type": "n1-standard-4"}, "replica_count": 2}

pytestmark = pytest.mark.usefixtures("relay")


def request_of(resource_id: str, *pools: dict[str, Any], **fields: Any) -> dict[str, Any]:
    """Return the request that the specs make of some pools."""
    problems = Problems("persistent resource")
    wanted = {"persistent_resource_id": resource_id, "resource_pools": list(pools or [POOL]), **fields}
    request = persistent_resource(wanted, problems)
    problems.raise_if_any()
    return request


def name_of(resource_id: str) -> ResourceName:
    """Return the full name of a resource."""
    return persistent_resource_name(PROJECT, REGION, resource_id)


def from_the_loop(name: ResourceName) -> PersistentResource | None:
    """Return what the async hook answers."""

    async def run() -> PersistentResource | None:
        async with PersistentResourceAsyncHook() as hook:
            return await hook.get(name)

    return asyncio.run(run())


def running(cloud: Cloud, name: ResourceName) -> PersistentResource:
    """Wait until a resource runs."""
    return cloud.resource_in_state(str(name), PersistentResource.State.RUNNING)


def test_the_life_of_a_resource(cloud: Cloud) -> None:
    """A resource is not there, is created, is read the same by both hooks, and is gone after its deletion."""
    hook, name = PersistentResourceHook(), name_of("life")
    assert hook.get(name) is None
    assert from_the_loop(name) is None
    hook.create(PROJECT, REGION, "life", request_of("life"))
    live = running(cloud, name)
    assert hook.get(name) == live
    assert from_the_loop(name) == live
    hook.delete(name)
    cloud.wait_for(lambda: hook.get(name) is None, "the resource is gone")


def test_what_was_created_is_what_was_wanted(cloud: Cloud) -> None:
    """The service's answer about a resource does not differ from the request, whatever it has added."""
    pools = [
        POOL,
        {
            "machine_spec": {
                "machine_type": "n1-highmem-8",
                "accelerator_type": "NVIDIA_TESLA_T4",
                "accelerator_count": 2,
            },
            "disk_spec": {"boot_disk_type": "pd-standard", "boot_disk_size_gb": 200},
            "autoscaling_spec": {"min_replica_count": 1, "max_replica_count": 3},
        },
    ]
    wanted = request_of("same", *pools, labels={"team": "ranking"}, enable_custom_service_account=True)
    hook = PersistentResourceHook()
    hook.create(PROJECT, REGION, "same", wanted)
    body = resource_body(running(cloud, name_of("same")))
    assert differences(wanted, body) == []
    assert body["resource_pools"][0]["id"]
    other = request_of("same", {**POOL, "replica_count": 3}, pools[1], enable_custom_service_account=True)
    assert [line.split(" is ")[0] for line in differences(other, body)] == ["resource_pools[0].replica_count"]


def test_the_snapshot_of_a_resource(cloud: Cloud) -> None:
    """A snapshot holds plain values, and an error that is there but empty is none."""
    PersistentResourceHook().create(PROJECT, REGION, "snapshot", request_of("snapshot"))
    snapshot = resource_snapshot(running(cloud, name_of("snapshot")))
    assert json.loads(json.dumps(snapshot)) == snapshot
    assert snapshot["persistent_resource"].endswith(f"/locations/{REGION}/persistentResources/snapshot")
    assert snapshot["state"] == "RUNNING"
    assert snapshot["create_time"] is not None
    assert snapshot["start_time"] is not None
    assert snapshot["create_time"] < snapshot["start_time"]
    assert (snapshot["error_code"], snapshot["error_message"]) == (0, "")


def test_the_snapshot_of_a_resource_in_error(
    cloud_with: Callable[..., Cloud], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The service's own reason is in the snapshot."""
    cloud = cloud_with(resource_errors={"broken": "Unexpected response."})
    monkeypatch.setenv("VERTEX_AI_EMULATOR_HOST", cloud.emulator.address)
    hook, name = PersistentResourceHook(), name_of("broken")
    hook.create(PROJECT, REGION, "broken", request_of("broken"))
    snapshot = resource_snapshot(cloud.resource_in_state(str(name), PersistentResource.State.ERROR))
    assert snapshot["state"] == "ERROR"
    assert snapshot["error_message"] == "Unexpected response."
    assert snapshot["start_time"] is None


def test_an_id_that_is_taken(cloud: Cloud) -> None:
    """A second create of the same id is an error of its own kind."""
    hook = PersistentResourceHook()
    hook.create(PROJECT, REGION, "taken", request_of("taken"))
    with pytest.raises(AlreadyExists):
        hook.create(PROJECT, REGION, "taken", request_of("taken"))
    running(cloud, name_of("taken"))


def test_the_pools_in_a_snapshot(cloud: Cloud) -> None:
    """A snapshot says what the pools are, what the service has added included, and how many machines are free."""
    pools = [
        POOL,
        {
            "machine_spec": {
                "machine_type": "n1-highmem-8",
                "accelerator_type": "NVIDIA_TESLA_T4",
                "accelerator_count": 2,
            },
            "disk_spec": {"boot_disk_type": "pd-standard", "boot_disk_size_gb": 200},
            "autoscaling_spec": {"min_replica_count": 1, "max_replica_count": 3},
        },
    ]
    request = request_of("pools", *pools, labels={"team": "ranking"})
    PersistentResourceHook().create(PROJECT, REGION, "pools", request)
    snapshot = resource_snapshot(running(cloud, name_of("pools")))
    assert json.loads(json.dumps(snapshot)) == snapshot
    assert snapshot["labels"] == {"team": "ranking"}
    assert snapshot["pools"] == [
        {
            "id": "n1-standard-4",
            "machine_type": "n1-standard-4",
            "accelerator_type": None,
            "accelerator_count": 0,
            "disk_type": "pd-ssd",
            "disk_size_gb": 100,
            "replica_count": 2,
            "min_replica_count": None,
            "max_replica_count": None,
            "used_replica_count": 0,
            "free_replica_count": 2,
        },
        {
            "id": "n1-highmem-8-nvidia-tesla-t4-2",
            "machine_type": "n1-highmem-8",
            "accelerator_type": "NVIDIA_TESLA_T4",
            "accelerator_count": 2,
            "disk_type": "pd-standard",
            "disk_size_gb": 200,
            "replica_count": 1,
            "min_replica_count": 1,
            "max_replica_count": 3,
            "used_replica_count": 0,
            "free_replica_count": 3,
        },
    ]


def test_an_accelerator_of_a_newer_service() -> None:
    """An accelerator that the installed client does not know is its number."""
    resource = PersistentResource(resource_pools=[{"machine_spec": {"machine_type": "z9"}}])
    PersistentResource.pb(resource).resource_pools[0].machine_spec.accelerator_type = 999
    (pool,) = resource_snapshot(resource)["pools"]
    assert pool["accelerator_type"] == "999"


def test_a_list_of_many(cloud_with: Callable[..., Cloud], monkeypatch: pytest.MonkeyPatch) -> None:
    """Resources are listed page after page."""
    cloud = cloud_with()
    monkeypatch.setenv("VERTEX_AI_EMULATOR_HOST", cloud.emulator.address)
    hook, wanted = PersistentResourceHook(), {f"many-{number}" for number in range(101)}
    for resource_id in wanted:
        hook.create(PROJECT, REGION, resource_id, request_of(resource_id))
    listed = [resource.name.rpartition("/")[2] for resource in hook.list(PROJECT, REGION)]
    assert len(listed) == 101
    assert set(listed) == wanted
    assert cloud.emulator.control.call_counts()["ListPersistentResources"] == 2


def test_a_reboot(cloud_with: Callable[..., Cloud], monkeypatch: pytest.MonkeyPatch) -> None:
    """A resource that was told to reboot does so."""
    cloud = cloud_with(resource_reboot_seconds=600.0)
    monkeypatch.setenv("VERTEX_AI_EMULATOR_HOST", cloud.emulator.address)
    hook, name = PersistentResourceHook(), name_of("reboot")
    hook.create(PROJECT, REGION, "reboot", request_of("reboot"))
    running(cloud, name)
    hook.reboot(name)
    live = hook.get(name)
    assert live is not None
    assert live.state == PersistentResource.State.REBOOTING


def test_every_call_has_a_deadline(cloud: Cloud, relay: Relay) -> None:
    """No call can hang for ever, in either hook."""
    hook, name = PersistentResourceHook(), name_of("deadline")
    hook.create(PROJECT, REGION, "deadline", request_of("deadline"))
    running(cloud, name)
    hook.get(name)
    from_the_loop(name)
    list(hook.list(PROJECT, REGION))
    hook.reboot(name)
    running(cloud, name)
    hook.delete(name)
    for method, limit, calls in (
        ("CreatePersistentResource", 60.0, 1),
        ("GetPersistentResource", 30.0, 2),
        ("ListPersistentResources", 30.0, 1),
        ("RebootPersistentResource", 30.0, 1),
        ("DeletePersistentResource", 30.0, 1),
    ):
        deadlines = relay.deadlines(method)
        assert len(deadlines) == calls
        assert [seconds for seconds in deadlines if seconds is None or not 0 < seconds < limit + 1] == []


def test_what_is_repeated_and_what_is_not(cloud: Cloud, relay: Relay) -> None:
    """Reading and deleting wait for a service that is away; a create, a reboot and a watch's look do not."""
    hook, name = PersistentResourceHook(), name_of("repeat")
    relay.refuse("CreatePersistentResource")
    with pytest.raises(ServiceUnavailable):
        hook.create(PROJECT, REGION, "repeat", request_of("repeat"))
    assert relay.count("CreatePersistentResource") == 1
    hook.create(PROJECT, REGION, "repeat", request_of("repeat"))
    running(cloud, name)
    relay.refuse("GetPersistentResource")
    assert hook.get(name) is not None
    assert relay.count("GetPersistentResource") == 2
    relay.refuse("GetPersistentResource")
    with pytest.raises(ServiceUnavailable):
        from_the_loop(name)
    assert relay.count("GetPersistentResource") == 3
    relay.refuse("GetPersistentResource")
    with pytest.raises(ServiceUnavailable):
        hook.get(name, once=True)
    assert relay.count("GetPersistentResource") == 4
    relay.refuse("ListPersistentResources")
    assert list(hook.list(PROJECT, REGION))
    assert relay.count("ListPersistentResources") == 2
    relay.refuse("RebootPersistentResource")
    with pytest.raises(ServiceUnavailable):
        hook.reboot(name)
    assert relay.count("RebootPersistentResource") == 1
    relay.refuse("DeletePersistentResource")
    hook.delete(name)
    assert relay.count("DeletePersistentResource") == 2
