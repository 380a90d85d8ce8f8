# SPDX-License-Identifier: Apache-2.0
"""What the calls of persistent resources answer: their operations, their texts, and what they will not do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from google.api_core import exceptions
from google.cloud.aiplatform_v1.types import (
    CreatePersistentResourceOperationMetadata,
    DeleteOperationMetadata,
    JobState,
    PersistentResource,
    RebootPersistentResourceOperationMetadata,
    UpdatePersistentResourceOperationMetadata,
)
from google.longrunning import operations_pb2
from google.protobuf.empty_pb2 import Empty
from google.protobuf.field_mask_pb2 import FieldMask

from airflow_vertex_persistent.emulator.settings import CLUSTER_ERROR, STOCKOUT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.contract.conftest import Cloud

State = PersistentResource.State
CPU: dict[str, Any] = {"machine_spec": {"machine_type": "n1-standard-4"}, "replica_count": 1}
RAY = {"ray_spec": {"image_uri": "ray:1"}}
COUNTS = FieldMask(paths=["resource_pools.replica_count"])
CAUSES = {
    "insufficient": STOCKOUT,
    "quota": "The following quotas are exceeded: CustomModelTrainingT4GPUsPerProjectPerRegion",
    "internal": CLUSTER_ERROR,
    "unexpected": "Unexpected response.",
}


@pytest.fixture(scope="module")
def failing(module_cloud_with: Callable[..., Cloud]) -> Cloud:
    """An emulator where some creations end in ERROR, each in its own way."""
    return module_cloud_with(resource_errors=CAUSES)


@pytest.fixture
def faulty(cloud: Cloud) -> Iterator[Cloud]:
    """The module's emulator, with no faults after the test."""
    yield cloud
    cloud.emulator.control.clear_faults()


def create(cloud: Cloud, resource_id: str, *pools: dict[str, Any], **fields: Any) -> Any:
    """Ask for a persistent resource."""
    return cloud.resources.create_persistent_resource(
        parent=cloud.PARENT,
        persistent_resource=PersistentResource({"resource_pools": list(pools or (CPU,)), **fields}),
        persistent_resource_id=resource_id,
    )


def name_of(cloud: Cloud, resource_id: str) -> str:
    """The name of a resource, with the project as the caller writes it."""
    return f"{cloud.PARENT}/persistentResources/{resource_id}"


def operate(cloud: Cloud, verb: str) -> Any:
    """Start an operation on a resource of its own."""
    if verb == "create":
        return create(cloud, "for-create")
    resource = cloud.resource(f"for-{verb}", **({"resource_runtime_spec": RAY} if verb == "update" else {}))
    if verb == "update":
        return cloud.resources.update_persistent_resource(persistent_resource=resource, update_mask=COUNTS)
    if verb == "reboot":
        return cloud.resources.reboot_persistent_resource(name=resource.name)
    return cloud.resources.delete_persistent_resource(name=resource.name)


@pytest.mark.parametrize(
    ("verb", "metadata", "first", "last"),
    [
        (
            "create",
            CreatePersistentResourceOperationMetadata,
            "Create PersistentResource request received. Checking project configuration and quota...",
            "Your persistent resource is ready.",
        ),
        (
            "reboot",
            RebootPersistentResourceOperationMetadata,
            "Waiting for persistent resource shut down.",
            "Your persistent resource is ready.",
        ),
        (
            "update",
            UpdatePersistentResourceOperationMetadata,
            "Updating the persistent resource.",
            "Your persistent resource is updated.",
        ),
    ],
)
def test_an_operation_on_a_resource(cloud: Cloud, verb: str, metadata: type, first: str, last: str) -> None:
    """
    It is named below its resource, answers to the short name too, says how far it is and ends with the
    resource.
    """
    operation = operate(cloud, verb)
    started: operations_pb2.Operation = operation.operation
    resource = cloud.resources.get_persistent_resource(name=name_of(cloud, f"for-{verb}"))
    place, _, _ = resource.name.partition("/persistentResources/")
    assert started.name.startswith(f"{resource.name}/operations/")
    assert started.metadata.type_url.endswith(f"google.cloud.aiplatform.v1.{metadata.__name__}")
    assert not started.done
    assert operation.metadata.progress_message == first
    assert operation.metadata.generic_metadata.create_time
    assert operation.result(timeout=20).name == resource.name
    for name in (started.name, f"{place}/operations/{started.name.rpartition('/')[2]}"):
        ended = cloud.resources.get_operation(operations_pb2.GetOperationRequest(name=name))
        assert ended.done
        assert ended.name == started.name
        assert ended.response.type_url.endswith("google.cloud.aiplatform.v1.PersistentResource")
    assert operation.metadata.progress_message == last
    assert isinstance(operation.metadata, metadata)


def test_the_operation_of_a_delete(cloud: Cloud) -> None:
    """It has the short name, is done at once with nothing to say, and the resource is still there."""
    operation = operate(cloud, "delete")
    resource = cloud.resources.get_persistent_resource(name=name_of(cloud, "for-delete"))
    place, _, _ = resource.name.partition("/persistentResources/")
    started: operations_pb2.Operation = operation.operation
    assert started.done
    assert started.name.rpartition("/")[0] == f"{place}/operations"
    assert started.metadata.Is(DeleteOperationMetadata.pb().DESCRIPTOR)
    assert operation.result(timeout=20) == Empty()
    assert resource.state == State.STOPPING
    asked = cloud.resources.get_operation(operations_pb2.GetOperationRequest(name=started.name))
    assert asked == started


def test_projects_are_answered_by_number(cloud: Cloud) -> None:
    """Whether they were asked for by id or by number."""
    name = cloud.resource("numbered").name
    assert name.split("/")[1].isdecimal()
    asked = {
        cloud.resources.get_persistent_resource(name=one).name for one in (name, name_of(cloud, "numbered"))
    }
    assert asked == {name}


def test_what_is_not_there(cloud: Cloud) -> None:
    """The service's words."""
    with pytest.raises(exceptions.NotFound) as caught:
        cloud.resources.get_persistent_resource(name=name_of(cloud, "nobody"))
    assert caught.value.message == "The PersistentResource does not exist."


def test_what_is_being_created_cannot_be_deleted(cloud: Cloud) -> None:
    """The service's words."""
    operation = create(cloud, "young")
    with pytest.raises(exceptions.FailedPrecondition) as caught:
        cloud.resources.delete_persistent_resource(name=name_of(cloud, "young"))
    assert caught.value.message == (
        'PersistentResource "young" is being created thus can not be deleted now. '
        "Please try again later after it's active."
    )
    operation.result(timeout=20)


@pytest.mark.parametrize("field", ["filter", "order_by", "read_mask"])
def test_lists_take_pages_alone(cloud: Cloud, field: str) -> None:
    """Google's client knows no other field, and ours would not get through."""
    request = {"parent": cloud.PARENT, field: "labels.team=iris"}
    with pytest.raises(ValueError, match=f"Unknown field for ListPersistentResourcesRequest: {field}"):
        cloud.resources.list_persistent_resources(request)


@pytest.mark.parametrize("path", ["display_name", "labels", "resource_pools", "resource_pools.machine_spec"])
def test_updates_know_one_path(cloud: Cloud, path: str) -> None:
    """All others are refused with the service's words, of a Ray cluster too."""
    resource = cloud.resource(f"path-{path.replace('_', '-').replace('.', '-')}", resource_runtime_spec=RAY)
    with pytest.raises(exceptions.InvalidArgument) as caught:
        cloud.resources.update_persistent_resource(
            persistent_resource=resource, update_mask=FieldMask(paths=[path])
        )
    assert caught.value.message == f"Unrecognized path: {path}"


def test_updates_are_for_ray_clusters(cloud: Cloud) -> None:
    """A plain resource is refused with the service's words, and a mask is required."""
    resource = cloud.resource("plain")
    with pytest.raises(exceptions.FailedPrecondition) as caught:
        cloud.resources.update_persistent_resource(persistent_resource=resource, update_mask=COUNTS)
    assert caught.value.message == "Currently we only support the update function on Ray cluster"
    with pytest.raises(exceptions.InvalidArgument, match="update_mask"):
        cloud.resources.update_persistent_resource(persistent_resource=resource, update_mask=FieldMask())


def test_updates_change_counts_alone(cloud: Cloud) -> None:
    """The rest of the resource that is sent along is ignored; pools cannot come or go."""
    resource = cloud.resource("ray", resource_runtime_spec=RAY)
    wanted = PersistentResource(resource)
    wanted.display_name, wanted.resource_pools[0].replica_count = "another", 3
    updated = cloud.resources.update_persistent_resource(persistent_resource=wanted, update_mask=COUNTS)
    assert updated.result(timeout=20).display_name == "ray"
    assert updated.result().resource_pools[0].replica_count == 3
    for pools in ([], [CPU, CPU]):
        other = PersistentResource({"name": resource.name, "resource_pools": pools})
        with pytest.raises(exceptions.InvalidArgument, match="cannot be added or removed"):
            cloud.resources.update_persistent_resource(persistent_resource=other, update_mask=COUNTS)


def test_an_update_ends_with_its_resource(cloud: Cloud) -> None:
    """When the resource is deleted meanwhile, the operation fails."""
    resource = cloud.resource("fleeting", resource_runtime_spec=RAY)
    operation = cloud.resources.update_persistent_resource(persistent_resource=resource, update_mask=COUNTS)
    cloud.resources.delete_persistent_resource(name=resource.name)
    with pytest.raises(exceptions.Aborted, match="deleted meanwhile"):
        operation.result(timeout=20)


def test_a_reboot_brings_autoscaled_pools_to_their_minimum(module_cloud_with: Callable[..., Cloud]) -> None:
    """Fixed pools keep their machines, autoscaled ones come back at their smallest."""
    cloud = module_cloud_with(executor="simulate", scale_down_seconds=3600)
    limits = {"min_replica_count": 1, "max_replica_count": 4}
    resource = cloud.resource(
        "grown",
        {**CPU, "machine_spec": {"machine_type": "n1-standard-8"}, "replica_count": 2},
        {**CPU, "replica_count": 3, "autoscaling_spec": limits},
    )
    assert [pool.replica_count for pool in resource.resource_pools] == [2, 3]
    operation = cloud.resources.reboot_persistent_resource(name=resource.name)
    assert [pool.replica_count for pool in operation.result(timeout=20).resource_pools] == [2, 1]
    rebooted = cloud.resources.get_persistent_resource(name=resource.name)
    assert rebooted.state == State.RUNNING
    assert [pool.replica_count for pool in rebooted.resource_pools] == [2, 1]
    assert rebooted.start_time == resource.start_time


def test_a_reboot_may_lose_its_machines(faulty: Cloud) -> None:
    """The resource is in ERROR with the reason, which the operation's progress says too; a second reboot cures it."""
    resource = faulty.resource("unlucky")
    faulty.emulator.control.add_fault("RebootPersistentResource", "stockout")
    operation = faulty.resources.reboot_persistent_resource(name=resource.name)
    with pytest.raises(exceptions.GoogleAPICallError, match="Internal error"):
        operation.result(timeout=20)
    reason = "Resources are insufficient in region: europe-west4. "
    assert operation.metadata.progress_message.startswith(f"RESOURCE_EXHAUSTED: {reason}")
    broken = faulty.resources.get_persistent_resource(name=resource.name)
    assert broken.state == State.ERROR
    assert broken.error.message.startswith(reason)
    again = faulty.resources.reboot_persistent_resource(name=resource.name)
    assert again.result(timeout=20).state == State.RUNNING
    cured = faulty.resources.get_persistent_resource(name=resource.name)
    assert not cured.error.message
    assert cured.start_time == resource.start_time


@pytest.mark.parametrize("verb", ["delete", "reboot"])
def test_waiting_jobs_are_cancelled_like_running_ones(cloud: Cloud, verb: str) -> None:
    """A job in the queue of a resource that goes away ends CANCELLED, without having run."""
    resource = cloud.resource(f"queue-{verb}")
    sleep = cloud.job(cloud.pool("import time; time.sleep(600)"), persistent_resource_id=f"queue-{verb}")
    running = cloud.running(cloud.create(sleep))
    waiting = cloud.create(sleep)
    getattr(cloud.resources, f"{verb}_persistent_resource")(name=resource.name)
    ended = [cloud.ended(job) for job in (running, waiting)]
    assert [job.state for job in ended] == [JobState.JOB_STATE_CANCELLED] * 2
    assert ["start_time" in job for job in ended] == [True, False]


@pytest.mark.parametrize(
    ("resource_id", "code", "text"),
    [
        (
            "insufficient",
            8,
            "Resources are insufficient in region: europe-west4. Try a different region or use a different accelerator.",
        ),
        ("quota", 8, "The following quotas are exceeded: CustomModelTrainingT4GPUsPerProjectPerRegion"),
        (
            "internal",
            13,
            "An internal error occurred on your cluster. Please try recreating one in a few minutes.",
        ),
        ("unexpected", 13, "Unexpected response."),
    ],
)
def test_a_failed_creation_says_why_in_the_resource(
    failing: Cloud, resource_id: str, code: int, text: str
) -> None:
    """
    The operation only says that something went wrong; the resource never started, and can be deleted or
    rebooted.
    """
    operation = create(failing, resource_id)
    with pytest.raises(exceptions.InternalServerError) as caught:
        operation.result(timeout=20)
    assert text not in str(caught.value)
    broken = failing.resources.get_persistent_resource(name=name_of(failing, resource_id))
    assert broken.state == State.ERROR
    assert (broken.error.code, broken.error.message) == (code, text)
    assert "start_time" not in broken
    failing.resources.reboot_persistent_resource(name=broken.name).result(timeout=20)
    assert "start_time" in failing.resources.get_persistent_resource(name=broken.name)
    failing.resources.delete_persistent_resource(name=broken.name)
