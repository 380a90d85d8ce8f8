# SPDX-License-Identifier: Apache-2.0
"""What each state of a persistent resource allows, and which of its fields are filled in it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
from google.api_core import exceptions
from google.cloud.aiplatform_v1.types import JobState, PersistentResource
from google.protobuf.field_mask_pb2 import FieldMask

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.contract.conftest import Cloud

    Bring = Callable[[Any], tuple[Cloud, str]]

State = PersistentResource.State
CPU = {"machine_spec": {"machine_type": "n1-standard-4"}, "replica_count": 1}
FOR_EVER = 3600.0


class Row(NamedTuple):
    """One state, and which calls it allows."""

    state: Any
    delete: bool
    reboot: bool
    update: bool
    job: bool


TABLE = [
    Row(State.PROVISIONING, delete=False, reboot=False, update=False, job=False),
    Row(State.RUNNING, delete=True, reboot=True, update=True, job=True),
    Row(State.UPDATING, delete=True, reboot=False, update=False, job=True),
    Row(State.REBOOTING, delete=False, reboot=False, update=False, job=False),
    Row(State.STOPPING, delete=False, reboot=False, update=False, job=False),
    Row(State.ERROR, delete=True, reboot=True, update=False, job=False),
]
every_state = pytest.mark.parametrize("row", TABLE, ids=lambda row: row.state.name)


@pytest.fixture(scope="module")
def slow_to_create(module_cloud_with: Callable[..., Cloud]) -> Cloud:
    """An emulator where new resources stay PROVISIONING."""
    return module_cloud_with(
        executor="simulate", allow_plain_update=True, resource_provisioning_seconds=FOR_EVER
    )


@pytest.fixture(scope="module")
def slow_to_change(module_cloud_with: Callable[..., Cloud]) -> Cloud:
    """An emulator where resources are created at once, and stay in whatever state they go to afterwards."""
    return module_cloud_with(
        executor="simulate",
        simulated_seconds=0,
        allow_plain_update=True,
        resource_provisioning_seconds=0,
        resource_update_seconds=FOR_EVER,
        resource_reboot_seconds=FOR_EVER,
        resource_teardown_seconds=FOR_EVER,
    )


def create(cloud: Cloud, resource_id: str) -> str:
    """Ask for a resource, and give back its name."""
    cloud.resources.create_persistent_resource(
        parent=cloud.PARENT,
        persistent_resource=PersistentResource({"resource_pools": [CPU]}),
        persistent_resource_id=resource_id,
    )
    return f"{cloud.PARENT}/persistentResources/{resource_id}"


def update(cloud: Cloud, name: str) -> None:
    """Ask for two machines."""
    wanted = PersistentResource({"name": name, "resource_pools": [{**CPU, "replica_count": 2}]})
    cloud.resources.update_persistent_resource(
        persistent_resource=wanted, update_mask=FieldMask(paths=["resource_pools.replica_count"])
    )


@pytest.fixture
def brought(slow_to_create: Cloud, slow_to_change: Cloud, request: pytest.FixtureRequest) -> Bring:
    """Bring a resource of the test's own into a state that lasts."""
    test = request.node.originalname.removeprefix("test_").replace("_", "-")

    def bring(state: Any) -> tuple[Cloud, str]:
        cloud = slow_to_create if state == State.PROVISIONING else slow_to_change
        name = create(cloud, f"{test}-{state.name.lower()}")
        if state != State.PROVISIONING:
            cloud.resource_in_state(name, State.RUNNING)
        if state == State.UPDATING:
            update(cloud, name)
        elif state == State.REBOOTING:
            cloud.resources.reboot_persistent_resource(name=name)
        elif state == State.STOPPING:
            cloud.resources.delete_persistent_resource(name=name)
        elif state == State.ERROR:
            cloud.emulator.control.fail_resource(name)
        assert state_of(cloud, name) == state
        return cloud, name

    return bring


def state_of(cloud: Cloud, name: str) -> Any:
    """The state of a resource as it is now."""
    return cloud.resources.get_persistent_resource(name=name).state


@every_state
def test_delete(brought: Bring, row: Row) -> None:
    """RUNNING, UPDATING and ERROR allow it, and its operation is done at once; else nothing changes."""
    cloud, name = brought(row.state)
    if row.delete:
        assert cloud.resources.delete_persistent_resource(name=name).done()
        assert state_of(cloud, name) == State.STOPPING
    else:
        with pytest.raises(exceptions.FailedPrecondition, match="can not be deleted now"):
            cloud.resources.delete_persistent_resource(name=name)
        assert state_of(cloud, name) == row.state


@every_state
def test_reboot(brought: Bring, row: Row) -> None:
    """RUNNING and ERROR allow it; else nothing changes."""
    cloud, name = brought(row.state)
    if row.reboot:
        cloud.resources.reboot_persistent_resource(name=name)
        assert state_of(cloud, name) == State.REBOOTING
    else:
        with pytest.raises(exceptions.FailedPrecondition, match="not RUNNING or ERROR"):
            cloud.resources.reboot_persistent_resource(name=name)
        assert state_of(cloud, name) == row.state


@every_state
def test_update(brought: Bring, row: Row) -> None:
    """RUNNING allows it, where it is allowed at all; else nothing changes."""
    cloud, name = brought(row.state)
    if row.update:
        update(cloud, name)
        assert state_of(cloud, name) == State.UPDATING
    else:
        with pytest.raises(exceptions.FailedPrecondition, match=f"is {row.state.name}, not RUNNING"):
            update(cloud, name)
        assert state_of(cloud, name) == row.state


@every_state
def test_jobs(brought: Bring, row: Row) -> None:
    """A job can be created on a resource that is RUNNING or UPDATING."""
    cloud, name = brought(row.state)
    job = cloud.job(cloud.pool(""), persistent_resource_id=name.rpartition("/")[2])
    if row.job:
        assert cloud.ended(cloud.create(job)).state == JobState.JOB_STATE_SUCCEEDED
    else:
        with pytest.raises(exceptions.FailedPrecondition, match=f"is {row.state.name}, not RUNNING"):
            cloud.create(job)


@every_state
def test_the_name_is_taken(brought: Bring, row: Row) -> None:
    """In every state, until the resource is gone."""
    cloud, name = brought(row.state)
    resource_id = name.rpartition("/")[2]
    with pytest.raises(exceptions.AlreadyExists) as caught:
        create(cloud, resource_id)
    assert caught.value.message == (
        f'There is an existing PersistentResource with the same ID "{resource_id}" created or being created. '
        "Please use a different ID."
    )


@every_state
def test_fields(brought: Bring, row: Row) -> None:
    """The error is there and says nothing but in ERROR; start_time is that of the first RUNNING."""
    cloud, name = brought(row.state)
    resource = cloud.resources.get_persistent_resource(name=name)
    assert "error" in resource
    assert bool(resource.error.message) is bool(resource.error.code) is (row.state == State.ERROR)
    assert ("start_time" in resource) is (row.state != State.PROVISIONING)
    listed = cloud.resources.list_persistent_resources(parent=cloud.PARENT)
    assert resource.name in [one.name for one in listed]


def test_a_broken_resource_says_why_until_it_is_gone(brought: Bring) -> None:
    """Its error is kept while it is STOPPING."""
    cloud, name = brought(State.ERROR)
    error = cloud.resources.get_persistent_resource(name=name).error
    cloud.resources.delete_persistent_resource(name=name)
    assert cloud.resources.get_persistent_resource(name=name).error == error


def test_a_reboot_forgets_the_error(brought: Bring) -> None:
    """It begins with the reboot: a resource that is REBOOTING has none."""
    cloud, name = brought(State.ERROR)
    cloud.resources.reboot_persistent_resource(name=name)
    assert not cloud.resources.get_persistent_resource(name=name).error.message
