# SPDX-License-Identifier: Apache-2.0
"""Persistent resources on Vertex AI: create, look, reboot, delete."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from google.api_core.exceptions import NotFound
from google.cloud.aiplatform_v1 import (
    PersistentResourceServiceAsyncClient,
    PersistentResourceServiceClient,
)
from google.cloud.aiplatform_v1.types import AcceleratorType, PersistentResource, ResourcePool
from google.protobuf.json_format import MessageToDict, ParseDict

from airflow_vertex_persistent.hooks.client import (
    CALL_TIMEOUT,
    CREATE_TIMEOUT,
    RETRY,
    VertexAsyncHook,
    VertexHook,
)
from airflow_vertex_persistent.hooks.values import enum_name, timestamp
from airflow_vertex_persistent.names import ResourceName, location_name

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from airflow_vertex_persistent.states import PoolSnapshot, ResourceSnapshot

PAGE_SIZE = 100  # the largest that the service takes is not documented


def resource_snapshot(resource: PersistentResource) -> ResourceSnapshot:
    """Return the small part of a persistent resource that the rest of this package looks at."""
    return {
        "persistent_resource": resource.name,
        "state": enum_name(PersistentResource.State, resource.state),
        "create_time": timestamp(resource.create_time),
        "start_time": timestamp(resource.start_time),
        "error_code": resource.error.code,
        "error_message": resource.error.message,
        "labels": dict(resource.labels),
        "pools": [_pool_snapshot(pool) for pool in resource.resource_pools],
    }


def _pool_snapshot(resource_pool: ResourcePool) -> PoolSnapshot:
    # The raw message: proto-plus warns of an accelerator that it does not know.
    pool = ResourcePool.pb(resource_pool)
    machine, disk, scaling = pool.machine_spec, pool.disk_spec, pool.autoscaling_spec
    autoscaled = pool.HasField("autoscaling_spec")
    most = scaling.max_replica_count if autoscaled else pool.replica_count
    return {
        "id": pool.id,
        "machine_type": machine.machine_type,
        "accelerator_type": enum_name(AcceleratorType, machine.accelerator_type)
        if machine.accelerator_type
        else None,
        "accelerator_count": machine.accelerator_count,
        "disk_type": disk.boot_disk_type or None,
        "disk_size_gb": disk.boot_disk_size_gb,
        "replica_count": pool.replica_count,
        "min_replica_count": scaling.min_replica_count if autoscaled else None,
        "max_replica_count": scaling.max_replica_count if autoscaled else None,
        "used_replica_count": pool.used_replica_count,
        "free_replica_count": max(most - pool.used_replica_count, 0),
    }


def resource_body(resource: PersistentResource) -> dict[str, Any]:
    """Return a persistent resource in the API's JSON form with snake-case keys."""
    body: dict[str, Any] = MessageToDict(
        PersistentResource.pb(resource), preserving_proto_field_name=True, use_integers_for_enums=False
    )
    return body


class PersistentResourceHook(VertexHook):
    """
    Persistent resources, one method per call.

    The long-running operations behind create, reboot and delete are not followed: their answers are generic, and
    the resource itself tells the real cause and when it is really gone.
    """

    def create(
        self, project_id: str, region: str, persistent_resource_id: str, resource: Mapping[str, Any]
    ) -> None:
        """
        Start to create a persistent resource. Never retried: look whether it is there instead.

        :param resource: A ``PersistentResource`` in the API's JSON form, as ``specs.persistent_resource``
            returns it.
        """
        parent = location_name(project_id, region)
        with self.calling("CreatePersistentResource", parent):
            self.client(PersistentResourceServiceClient, region).create_persistent_resource(
                parent=parent,
                persistent_resource=PersistentResource(ParseDict(dict(resource), PersistentResource.pb()())),
                persistent_resource_id=persistent_resource_id,
                retry=None,
                timeout=CREATE_TIMEOUT,
            )

    def get(self, name: ResourceName, *, once: bool = False) -> PersistentResource | None:
        """
        Return a persistent resource as it is now, ``None`` if there is none.

        :param once: Not retried, for who looks again by itself.
        """
        client, retry = self.client(PersistentResourceServiceClient, name.region), None if once else RETRY
        try:
            with self.calling("GetPersistentResource", str(name)):
                return client.get_persistent_resource(name=str(name), retry=retry, timeout=CALL_TIMEOUT)
        except NotFound:
            return None

    def list(self, project_id: str, region: str) -> Iterable[PersistentResource]:
        """Return the persistent resources of a region, page after page; the API has no filter for them."""
        parent = location_name(project_id, region)
        with self.calling("ListPersistentResources", parent):
            yield from self.client(PersistentResourceServiceClient, region).list_persistent_resources(
                {"parent": parent, "page_size": PAGE_SIZE}, retry=RETRY, timeout=CALL_TIMEOUT
            )

    def reboot(self, name: ResourceName) -> None:
        """
        Start to reboot a persistent resource. Never retried: a second reboot may meet the jobs that came
        after one.
        """
        with self.calling("RebootPersistentResource", str(name)):
            self.client(PersistentResourceServiceClient, name.region).reboot_persistent_resource(
                name=str(name), retry=None, timeout=CALL_TIMEOUT
            )

    def delete(self, name: ResourceName, *, once: bool = False) -> None:
        """
        Start to delete a persistent resource; the service cancels the jobs that run on it.

        :param once: Not retried, for a decision that may not hold any more after a minute of that.
        """
        client, retry = self.client(PersistentResourceServiceClient, name.region), None if once else RETRY
        with self.calling("DeletePersistentResource", str(name)):
            client.delete_persistent_resource(name=str(name), retry=retry, timeout=CALL_TIMEOUT)


class PersistentResourceAsyncHook(VertexAsyncHook):
    """Persistent resources from the event loop."""

    async def get(self, name: ResourceName) -> PersistentResource | None:
        """Return a persistent resource as it is now, ``None`` if there is none. Not retried."""
        client = await self.client(PersistentResourceServiceAsyncClient, name.region)
        try:
            async with self.calling("GetPersistentResource", str(name)):
                return await client.get_persistent_resource(name=str(name), retry=None, timeout=CALL_TIMEOUT)
        except NotFound:
            return None
