# SPDX-License-Identifier: Apache-2.0
"""Persistent resources on Vertex AI: create, look, delete."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from google.api_core.exceptions import NotFound
from google.cloud.aiplatform_v1 import (
    PersistentResourceServiceAsyncClient,
    PersistentResourceServiceClient,
)
from google.cloud.aiplatform_v1.types import PersistentResource
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
    from collections.abc import Mapping

    from airflow_vertex_persistent.states import ResourceSnapshot


def resource_snapshot(resource: PersistentResource) -> ResourceSnapshot:
    """Return the small part of a persistent resource that the rest of this package looks at."""
    return {
        "persistent_resource": resource.name,
        "state": enum_name(PersistentResource.State, resource.state),
        "create_time": timestamp(resource.create_time),
        "start_time": timestamp(resource.start_time),
        "error_code": resource.error.code,
        "error_message": resource.error.message,
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

    The long-running operations behind create and delete are not followed: their answers are generic, and the
    resource itself tells the real cause and when it is really gone.
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

    def get(self, name: ResourceName) -> PersistentResource | None:
        """Return a persistent resource as it is now, ``None`` if there is none."""
        client = self.client(PersistentResourceServiceClient, name.region)
        try:
            with self.calling("GetPersistentResource", str(name)):
                return client.get_persistent_resource(name=str(name), retry=RETRY, timeout=CALL_TIMEOUT)
        except NotFound:
            return None

    def delete(self, name: ResourceName) -> None:
        """Start to delete a persistent resource; the service cancels the jobs that run on it."""
        with self.calling("DeletePersistentResource", str(name)):
            self.client(PersistentResourceServiceClient, name.region).delete_persistent_resource(
                name=str(name), retry=RETRY, timeout=CALL_TIMEOUT
            )


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
