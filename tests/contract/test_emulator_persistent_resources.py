# SPDX-License-Identifier: Apache-2.0
"""Persistent resources through the real clients: their life, their operations and what is refused."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from google.api_core import exceptions
from google.cloud.aiplatform_v1.services.persistent_resource_service import (
    PersistentResourceServiceAsyncClient,
)
from google.cloud.aiplatform_v1.services.persistent_resource_service.transports.grpc_asyncio import (
    PersistentResourceServiceGrpcAsyncIOTransport,
)
from google.cloud.aiplatform_v1.types import JobState, PersistentResource
from google.longrunning import operations_pb2
from google.protobuf.field_mask_pb2 import FieldMask

from airflow_vertex_persistent.emulator.settings import STOCKOUT

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.contract.conftest import Cloud

PARENT = "projects/demo-project/locations/europe-west4"
State = PersistentResource.State
SLEEP = "import time; time.sleep(600)"
CPU: dict[str, Any] = {"machine_spec": {"machine_type": "n1-standard-4"}, "replica_count": 1}


def create(cloud: Cloud, resource_id: str, *pools: dict[str, Any], **fields: Any) -> Any:
    """Ask for a persistent resource."""
    return cloud.resources.create_persistent_resource(
        parent=PARENT,
        persistent_resource=PersistentResource({"resource_pools": list(pools or (CPU,)), **fields}),
        persistent_resource_id=resource_id,
    )


def gone(cloud: Cloud, name: str) -> bool:
    """Whether a resource is not there any more."""
    try:
        cloud.resources.get_persistent_resource(name=name)
    except exceptions.NotFound:
        return True
    return False


def test_create_answers_an_operation_with_the_name_alone(cloud: Cloud) -> None:
    """The operation lies below the resource, reports progress, and its response holds the name only."""
    operation = create(cloud, "life", labels={"team": "iris"})
    number = operation.operation.name.split("/")[1]
    name = f"projects/{number}/locations/europe-west4/persistentResources/life"
    assert number.isdecimal()
    assert operation.operation.name.startswith(f"{name}/operations/")
    assert "Checking project configuration" in operation.metadata.progress_message
    assert cloud.resources.get_persistent_resource(name=name).state == State.PROVISIONING
    assert operation.result(timeout=20) == PersistentResource(name=name)
    assert operation.metadata.progress_message == "Your persistent resource is ready."
    resource = cloud.resources.get_persistent_resource(name=f"{PARENT}/persistentResources/life")
    assert resource.state == State.RUNNING
    assert resource.name == name
    assert resource.display_name == "life"
    assert dict(resource.labels) == {"team": "iris"}
    raw = PersistentResource.pb(resource)
    times = [raw.create_time, raw.start_time, raw.update_time]
    assert times == sorted(times, key=lambda time: time.ToNanoseconds())
    assert all(time.seconds for time in times)


def test_an_empty_error_is_present(cloud: Cloud) -> None:
    """A running resource has an error message without content, as recorded from the service."""
    resource = cloud.resource("empty-error")
    assert "error" in resource
    assert not resource.error.code


def test_an_id_is_taken_until_the_resource_is_gone(cloud: Cloud) -> None:
    """Deleting is done at once, the resource is STOPPING for a while, and only then may the id be used again."""
    name = cloud.resource("phoenix").name
    with pytest.raises(exceptions.AlreadyExists, match='same ID "phoenix"'):
        create(cloud, "phoenix")
    operation = cloud.resources.delete_persistent_resource(name=name)
    assert operation.done()
    assert "/persistentResources/" not in operation.operation.name
    assert cloud.resources.get_persistent_resource(name=name).state == State.STOPPING
    with pytest.raises(exceptions.AlreadyExists):
        create(cloud, "phoenix")
    with pytest.raises(exceptions.FailedPrecondition):
        cloud.resources.delete_persistent_resource(name=name)
    cloud.wait_for(lambda: gone(cloud, name))
    create(cloud, "phoenix").result(timeout=20)


def test_a_resource_being_created_cannot_be_deleted(cloud: Cloud) -> None:
    """While PROVISIONING a delete is refused with the service's words."""
    operation = create(cloud, "young")
    with pytest.raises(exceptions.FailedPrecondition, match="is being created thus can not be deleted now"):
        cloud.resources.delete_persistent_resource(name=f"{PARENT}/persistentResources/young")
    operation.result(timeout=20)


def test_unknown_resources_are_not_found(cloud: Cloud) -> None:
    """Get, delete, reboot and update of nothing say so."""
    name = f"{PARENT}/persistentResources/nobody"
    for call in (
        cloud.resources.get_persistent_resource,
        cloud.resources.delete_persistent_resource,
        cloud.resources.reboot_persistent_resource,
    ):
        with pytest.raises(exceptions.NotFound, match=r"The PersistentResource does not exist\."):
            call(name=name)


def test_reboot_cancels_jobs_and_comes_back(cloud: Cloud) -> None:
    """A reboot cancels what runs, refuses deletes meanwhile and ends in RUNNING."""
    name = cloud.resource("reboots").name
    job = cloud.create(cloud.job(cloud.pool(SLEEP), persistent_resource_id="reboots"))
    cloud.running(job)
    operation = cloud.resources.reboot_persistent_resource(name=name)
    assert "/persistentResources/reboots/operations/" in operation.operation.name
    assert cloud.resources.get_persistent_resource(name=name).state == State.REBOOTING
    with pytest.raises(exceptions.FailedPrecondition):
        cloud.resources.delete_persistent_resource(name=name)
    with pytest.raises(exceptions.FailedPrecondition):
        cloud.resources.reboot_persistent_resource(name=name)
    assert operation.result(timeout=20).name == name
    assert cloud.resources.get_persistent_resource(name=name).state == State.RUNNING
    assert cloud.get(job).state == JobState.JOB_STATE_CANCELLED


def test_deleting_a_resource_cancels_its_jobs(cloud: Cloud) -> None:
    """Jobs on a deleted resource end CANCELLED, not FAILED; jobs elsewhere go on."""
    name = cloud.resource("doomed").name
    job = cloud.create(cloud.job(cloud.pool(SLEEP), persistent_resource_id="doomed"))
    other = cloud.create(cloud.job(cloud.pool(SLEEP)))
    cloud.running(job)
    cloud.resources.delete_persistent_resource(name=name)
    assert cloud.ended(job).state == JobState.JOB_STATE_CANCELLED
    cloud.wait_for(lambda: gone(cloud, name))
    assert cloud.running(other)
    cloud.stop(other)


def test_plain_resources_cannot_be_updated(cloud: Cloud) -> None:
    """Other paths are unrecognized, and even replica counts are for Ray clusters only."""
    resource = cloud.resource("fixed")
    with pytest.raises(exceptions.InvalidArgument, match="Unrecognized path: display_name"):
        cloud.resources.update_persistent_resource(
            persistent_resource=resource, update_mask=FieldMask(paths=["display_name"])
        )
    with pytest.raises(exceptions.FailedPrecondition, match="only support the update function on Ray"):
        cloud.resources.update_persistent_resource(
            persistent_resource=resource, update_mask=FieldMask(paths=["resource_pools.replica_count"])
        )


def test_ray_clusters_can_be_resized_but_not_rebooted(cloud: Cloud) -> None:
    """A resource with a ray_spec takes new replica counts of at least 1, and no reboot."""
    resource = cloud.resource("ray", resource_runtime_spec={"ray_spec": {"image_uri": "ray:1"}})
    resource.resource_pools[0].replica_count = 3
    mask = FieldMask(paths=["resource_pools.replica_count"])
    updated = cloud.resources.update_persistent_resource(persistent_resource=resource, update_mask=mask)
    assert updated.result(timeout=20).resource_pools[0].replica_count == 3
    resource.resource_pools[0].replica_count = 0
    with pytest.raises(exceptions.InvalidArgument, match="less than 1"):
        cloud.resources.update_persistent_resource(persistent_resource=resource, update_mask=mask)
    with pytest.raises(exceptions.FailedPrecondition, match="Ray"):
        cloud.resources.reboot_persistent_resource(name=resource.name)


def test_lists_have_pages_and_no_filter(cloud: Cloud) -> None:
    """All resources of a place come by id, in pages."""
    parent = "projects/other-project/locations/us-east1"
    for name in ("c", "a", "b"):
        cloud.resources.create_persistent_resource(
            parent=parent,
            persistent_resource=PersistentResource({"resource_pools": [CPU]}),
            persistent_resource_id=name,
        )
    pages = list(cloud.resources.list_persistent_resources({"parent": parent, "page_size": 2}).pages)
    assert [[one.display_name for one in page.persistent_resources] for page in pages] == [["a", "b"], ["c"]]


@pytest.mark.parametrize("resource_id", ["", "Upper", "1st", "a_b", "ends-", "x" * 64])
def test_ids_must_match_the_pattern(cloud: Cloud, resource_id: str) -> None:
    """Ids that break the pattern are INVALID_ARGUMENT."""
    with pytest.raises(exceptions.InvalidArgument, match="persistent_resource_id"):
        create(cloud, resource_id)


def test_a_service_account_needs_its_switch(cloud: Cloud) -> None:
    """service_account without enable_custom_service_account is refused."""
    account = {"service_account_spec": {"service_account": "a@b.iam.gserviceaccount.com"}}
    with pytest.raises(exceptions.InvalidArgument, match="enable_custom_service_account"):
        create(cloud, "account", resource_runtime_spec=account)


def test_a_creation_can_end_in_error(cloud_with: Callable[..., Cloud]) -> None:
    """A setting makes creation fail: the cause is in the resource's error, and the resource can be deleted."""
    cloud = cloud_with(resource_errors={"sold-out": STOCKOUT})
    operation = create(cloud, "sold-out")
    with pytest.raises(exceptions.GoogleAPICallError):
        operation.result(timeout=20)
    name = f"{PARENT}/persistentResources/sold-out"
    resource = cloud.resources.get_persistent_resource(name=name)
    assert resource.state == State.ERROR
    assert resource.error.message.startswith("Resources are insufficient in region: europe-west4.")
    assert "start_time" not in resource
    with pytest.raises(exceptions.FailedPrecondition, match="is ERROR"):
        cloud.create(cloud.job(cloud.pool(""), persistent_resource_id="sold-out"))
    cloud.resources.delete_persistent_resource(name=name)
    cloud.wait_for(lambda: gone(cloud, name))


def test_other_ways_of_the_service_are_settings(cloud_with: Callable[..., Cloud]) -> None:
    """Full create responses, updates of plain resources, hidden PROVISIONING and blocked names."""
    cloud = cloud_with(
        full_create_response=True,
        allow_plain_update=True,
        list_hides_provisioning=True,
        name_blocked_seconds=600,
        resource_provisioning_seconds=1.0,
    )
    operation = create(cloud, "nightly")
    assert list(cloud.resources.list_persistent_resources(parent=PARENT)) == []
    resource = operation.result(timeout=20)
    assert resource.state == State.RUNNING
    resource.resource_pools[0].replica_count = 2
    update = cloud.resources.update_persistent_resource(
        persistent_resource=resource, update_mask=FieldMask(paths=["resource_pools.replica_count"])
    )
    assert cloud.resources.get_persistent_resource(name=resource.name).state == State.UPDATING
    assert update.result(timeout=20).resource_pools[0].replica_count == 2
    cloud.resources.delete_persistent_resource(name=resource.name)
    cloud.wait_for(lambda: gone(cloud, resource.name))
    with pytest.raises(exceptions.AlreadyExists):
        create(cloud, "nightly")


def test_operations_answer_to_both_names(cloud: Cloud) -> None:
    """Get, wait, list, cancel and delete of google.longrunning work through the client."""
    operation = create(cloud, "operated").operation
    head, _, tail = operation.name.partition("/persistentResources/operated")
    for name in (operation.name, head + tail):
        assert (
            cloud.resources.get_operation(operations_pb2.GetOperationRequest(name=name)).name
            == operation.name
        )
    # The published client forgets to decode this one reply, so the call is made by hand.
    wait = cloud.channel.unary_unary(
        "/google.longrunning.Operations/WaitOperation",
        request_serializer=operations_pb2.WaitOperationRequest.SerializeToString,
        response_deserializer=operations_pb2.Operation.FromString,
    )
    waited = wait(operations_pb2.WaitOperationRequest(name=operation.name), timeout=20)
    assert waited.done
    assert waited.response.type_url.endswith("google.cloud.aiplatform.v1.PersistentResource")
    parent = f"{PARENT}/persistentResources/operated"
    listed = cloud.resources.list_operations(operations_pb2.ListOperationsRequest(name=parent))
    assert [one.name for one in listed.operations] == [operation.name]
    cloud.resources.delete_operation(operations_pb2.DeleteOperationRequest(name=operation.name))
    with pytest.raises(exceptions.NotFound):
        cloud.resources.get_operation(operations_pb2.GetOperationRequest(name=operation.name))


def test_a_cancelled_operation_is_done_with_code_1(cloud: Cloud) -> None:
    """Cancelling ends the operation; what it started goes on."""
    operation = create(cloud, "unstoppable").operation
    cloud.resources.cancel_operation(operations_pb2.CancelOperationRequest(name=operation.name))
    cancelled = cloud.resources.get_operation(operations_pb2.GetOperationRequest(name=operation.name))
    assert cancelled.done
    assert cancelled.error.code == 1
    assert cloud.resource_in_state(f"{PARENT}/persistentResources/unstoppable", State.RUNNING)


def test_the_async_client_works_too(cloud: Cloud) -> None:
    """The asyncio client waits for its operations on a loop of its own."""

    async def story() -> str:
        async with grpc.aio.insecure_channel(cloud.emulator.address) as channel:
            client = PersistentResourceServiceAsyncClient(
                transport=PersistentResourceServiceGrpcAsyncIOTransport(channel=channel)
            )
            operation = await client.create_persistent_resource(
                parent=PARENT,
                persistent_resource=PersistentResource({"resource_pools": [CPU]}),
                persistent_resource_id="async",
            )
            resource = await operation.result(timeout=20)
            await (await client.delete_persistent_resource(name=resource.name)).result(timeout=20)
            return str(resource.name)

    assert asyncio.run(story()).endswith("/persistentResources/async")
