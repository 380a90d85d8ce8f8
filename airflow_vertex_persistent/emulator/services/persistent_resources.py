# SPDX-License-Identifier: Apache-2.0
"""PersistentResourceService."""

from __future__ import annotations

import asyncio
import logging
import re
from typing import TYPE_CHECKING, Any

import grpc
from google.cloud.aiplatform_v1.types import (
    CreatePersistentResourceOperationMetadata,
    DeleteOperationMetadata,
    ListPersistentResourcesResponse,
    PersistentResource,
    RebootPersistentResourceOperationMetadata,
    UpdatePersistentResourceOperationMetadata,
)
from google.protobuf.empty_pb2 import Empty
from google.rpc import code_pb2
from google.rpc.status_pb2 import Status

from airflow_vertex_persistent.emulator import messages
from airflow_vertex_persistent.emulator.errors import ApiError, not_found, refused
from airflow_vertex_persistent.emulator.lifecycle import ResourceState, resource_created, resource_moved
from airflow_vertex_persistent.emulator.names import PERSISTENT_RESOURCES, Key, parse_name, parse_parent
from airflow_vertex_persistent.emulator.paging import page

from .checks import check_resource
from .resource_pools import check_update, completed, machine_pools, needed_quota, with_counts, with_wanted

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from google.cloud.aiplatform_v1.types import (
        CreatePersistentResourceRequest,
        DeletePersistentResourceRequest,
        GetPersistentResourceRequest,
        ListPersistentResourcesRequest,
        RebootPersistentResourceRequest,
        UpdatePersistentResourceRequest,
    )
    from google.longrunning.operations_pb2 import Operation

    from airflow_vertex_persistent.emulator.runs import JobRuns
    from airflow_vertex_persistent.emulator.world import World

    from . import Call
    from .operations import Operations

_log = logging.getLogger(__name__)
_GENERIC = Status(code=code_pb2.INTERNAL, message=messages.INTERNAL_ERROR)
_TOO_FEW = re.compile(r"insufficient|quota")


class PersistentResources:
    """
    Create, get, list, update, reboot and delete persistent resources.

    :param world: store, machines and settings.
    :param runs: the jobs at work.
    :param operations: long-running operations.
    """

    def __init__(self, world: World, runs: JobRuns, operations: Operations) -> None:
        self._world = world
        self._settings = world.settings
        self._resources = world.store.resources
        self._cluster = world.pools.cluster
        self._runs = runs
        self._operations = operations
        self._blocked: set[Key] = set()  # gone, but the id is not free yet
        self._tasks: set[asyncio.Task[None]] = set()

    async def create(self, request: CreatePersistentResourceRequest, call: Call) -> Operation:
        """Create a resource; it is PROVISIONING for a while."""
        key = Key(parse_parent(request.parent), request.persistent_resource_id)
        check_resource(request.persistent_resource, key.id)
        if self._resources.get(key) is not None or key in self._blocked:
            raise ApiError(grpc.StatusCode.ALREADY_EXISTS, messages.RESOURCE_EXISTS.format(id=key.id))
        name = key.name(PERSISTENT_RESOURCES)
        resource = completed(resource_created(request.persistent_resource, name, self._world.clock()))
        self._resources.put(key, resource)
        self._cluster.add(key, machine_pools(resource))
        operation = self._begin(key, CreatePersistentResourceOperationMetadata, messages.CREATE_STARTED)
        self._later(self._provision(key, operation, call.stockout or self._quota_lack(key, resource)))
        return operation

    def resume(self) -> None:
        """Take up the resources of the emulator before us, and bring what was under way to its end."""
        for key, resource in reversed(self._resources.newest_first()):
            pools = machine_pools(resource)
            self._cluster.add(key, pools)
            if resource.state != ResourceState.ERROR:
                self._world.quota.hold(key, needed_quota(resource, key.location))
            if resource.state == ResourceState.PROVISIONING:
                metadata, progress = CreatePersistentResourceOperationMetadata, messages.CREATE_STARTED
                self._later(self._provision(key, self._going_on(key, metadata, progress)))
            elif resource.state == ResourceState.UPDATING:
                metadata, progress = UpdatePersistentResourceOperationMetadata, messages.UPDATE_STARTED
                counts = {pool.id: pool.size for pool in pools if pool.minimum == pool.maximum}
                self._later(self._resize(key, self._going_on(key, metadata, progress), counts))
            elif resource.state == ResourceState.REBOOTING:
                metadata, progress = RebootPersistentResourceOperationMetadata, messages.REBOOT_STARTED
                self._later(self._restart(key, self._going_on(key, metadata, progress)))
            elif resource.state == ResourceState.STOPPING:
                self._later(self._tear_down(key))
            else:
                self._world.pools.rest(key)

    def _quota_lack(self, key: Key, resource: PersistentResource) -> str:
        """Draw on the project's quota until the resource is deleted; tell what is missing, if anything is."""
        metrics = self._world.quota.take(key, needed_quota(resource, key.location))
        return messages.resource_quota(metrics) if metrics else ""

    def _going_on(self, key: Key, metadata: Any, progress: str) -> Operation:
        """Find the operation on a resource; a kill may have come just before it began."""
        under = f"{PERSISTENT_RESOURCES}/{key.id}"
        return self._operations.unfinished(key.location, under) or self._begin(key, metadata, progress)

    def _begin(self, key: Key, metadata: Any, progress: str) -> Operation:
        """Start an operation that is named under its resource."""
        return self._operations.start(
            key.location, metadata, under=f"{PERSISTENT_RESOURCES}/{key.id}", progress=progress
        )

    async def _provision(self, key: Key, operation: Operation, stockout: str = "") -> None:
        await asyncio.sleep(self._settings.resource_provisioning_seconds)
        metadata = CreatePersistentResourceOperationMetadata
        if cause := stockout or self._settings.resource_errors.get(key.id):
            self._break(key, cause)
            # The operation's own text is generic: the cause is in the resource's error.
            self._operations.finish(operation, _GENERIC, metadata, messages.INTERNAL_ERROR)
            return
        resource = self._move(key, ResourceState.RUNNING)
        self._world.pools.rest(key)
        answer = resource if self._settings.full_create_response else PersistentResource(name=resource.name)
        self._operations.finish(operation, PersistentResource.pb(answer), metadata, messages.CREATE_DONE)

    async def get(self, request: GetPersistentResourceRequest, _: Call) -> PersistentResource:
        """Get one resource with the machines that are in use now."""
        key, resource = self._find(request.name)
        return with_counts(resource, self._cluster.pools(key))

    async def list(
        self, request: ListPersistentResourcesRequest, call: Call
    ) -> ListPersistentResourcesResponse:
        """List resources by id. The API has no filter here."""
        location = call.parent(request.parent)
        hidden = {ResourceState.PROVISIONING} if self._settings.list_hides_provisioning else set()
        rows = [row for row in self._resources.newest_first(location) if row[1].state not in hidden]
        chosen, token = page(
            sorted(rows, key=lambda row: row[1].name),
            lambda row: str(row[1].name),
            size=request.page_size,
            token=request.page_token,
            question=str(location),
        )
        return ListPersistentResourcesResponse(
            persistent_resources=[
                with_counts(resource, self._cluster.pools(key)) for key, resource in chosen
            ],
            next_page_token=token,
        )

    async def update(self, request: UpdatePersistentResourceRequest, _: Call) -> Operation:
        """Change replica counts: for Ray clusters, or for all when a setting permits it."""
        wanted = request.persistent_resource
        key, resource = self._find(wanted.name)
        counts = check_update(
            resource, wanted, request.update_mask, plain_allowed=self._settings.allow_plain_update
        )
        if resource.state != ResourceState.RUNNING:
            raise refused(f'PersistentResource "{key.id}" is {resource.state.name}, not RUNNING.')
        # The new counts are kept at once, for the next start; until they come true, those of the cluster are shown.
        self._resources.put(key, with_wanted(self._move(key, ResourceState.UPDATING), counts))
        operation = self._begin(key, UpdatePersistentResourceOperationMetadata, messages.UPDATE_STARTED)
        self._later(self._resize(key, operation, counts))
        return operation

    async def _resize(self, key: Key, operation: Operation, counts: dict[str, int]) -> None:
        await asyncio.sleep(self._settings.resource_update_seconds)
        metadata = UpdatePersistentResourceOperationMetadata
        resource = self._resources.get(key)
        if resource is None or resource.state != ResourceState.UPDATING:
            gone = Status(
                code=code_pb2.ABORTED, message=f'PersistentResource "{key.id}" was deleted meanwhile.'
            )
            self._operations.finish(operation, gone, metadata, gone.message)
            return
        for pool_id, count in counts.items():
            self._cluster.resize(key, pool_id, count)
        self._world.pools.settle()
        resource = with_counts(self._move(key, ResourceState.RUNNING), self._cluster.pools(key))
        self._operations.finish(operation, PersistentResource.pb(resource), metadata, messages.UPDATE_DONE)

    async def reboot(self, request: RebootPersistentResourceRequest, call: Call) -> Operation:
        """Restart all machines: jobs on them are cancelled, autoscaled pools come back at their minimum."""
        key, resource = self._find(request.name)
        if "ray_spec" in resource.resource_runtime_spec:
            raise refused(f'PersistentResource "{key.id}" is a Ray cluster and cannot be rebooted.')
        if resource.state not in {ResourceState.RUNNING, ResourceState.ERROR}:
            raise refused(f'PersistentResource "{key.id}" is {resource.state.name}, not RUNNING or ERROR.')
        self._move(key, ResourceState.REBOOTING)
        operation = self._begin(key, RebootPersistentResourceOperationMetadata, messages.REBOOT_STARTED)
        self._later(self._restart(key, operation, call.stockout or self._quota_lack(key, resource)))
        return operation

    async def _restart(self, key: Key, operation: Operation, stockout: str = "") -> None:
        await self._runs.stop_on(key, messages.RESOURCE_GONE.format(id=key.id))
        await asyncio.sleep(self._settings.resource_reboot_seconds)
        self._cluster.shrink(key)
        metadata = RebootPersistentResourceOperationMetadata
        if stockout:
            error = self._break(key, stockout)
            progress = f"{code_pb2.Code.Name(error.code)}: {error.message}"
            self._operations.finish(operation, _GENERIC, metadata, progress)
            return
        resource = with_counts(self._move(key, ResourceState.RUNNING), self._cluster.pools(key))
        self._operations.finish(operation, PersistentResource.pb(resource), metadata, messages.CREATE_DONE)

    async def delete(self, request: DeletePersistentResourceRequest, _: Call) -> Operation:
        """Delete a resource. The operation is done at once, the teardown takes its time."""
        key, resource = self._find(request.name)
        if resource.state == ResourceState.PROVISIONING:
            raise refused(messages.RESOURCE_BEING_CREATED.format(id=key.id))
        if resource.state in {ResourceState.REBOOTING, ResourceState.STOPPING}:
            raise refused(
                f'PersistentResource "{key.id}" is {resource.state.name} and can not be deleted now.'
            )
        self._move(key, ResourceState.STOPPING)
        self._later(self._tear_down(key))
        operation = self._operations.start(key.location, DeleteOperationMetadata)
        return self._operations.finish(operation, Empty())

    async def _tear_down(self, key: Key) -> None:
        await self._runs.stop_on(key, messages.RESOURCE_GONE.format(id=key.id))
        await asyncio.sleep(self._settings.resource_teardown_seconds)
        self._blocked.add(key)
        self._resources.remove(key)
        self._cluster.remove(key)
        self._world.quota.release(key)
        await asyncio.sleep(self._settings.name_blocked_seconds)
        self._blocked.discard(key)

    def fail(self, name: str, text: str) -> None:
        """
        Let a RUNNING resource fall into ERROR with all jobs on it; no call of the service does this.

        :param text: its error, with ``{region}`` to be filled in.
        :raises ApiError: when it is not there, or not RUNNING.
        """
        key, resource = self._find(name)
        if resource.state != ResourceState.RUNNING:
            raise refused(f'PersistentResource "{key.id}" is {resource.state.name}, not RUNNING.')
        self._break(key, text)
        self._runs.lose_on(key)

    def _break(self, key: Key, cause: str) -> Status:
        """Put a resource into ERROR."""
        text = cause.replace("{region}", str(key.location.region))
        code = code_pb2.RESOURCE_EXHAUSTED if _TOO_FEW.search(text) else code_pb2.INTERNAL
        error = Status(code=code, message=text)
        self._move(key, ResourceState.ERROR, error)
        return error

    async def close(self) -> None:
        """Leave everything as it is and stop the work under way."""
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    def _find(self, name: str) -> tuple[Key, PersistentResource]:
        key = parse_name(name, PERSISTENT_RESOURCES)
        resource = self._resources.get(key)
        if resource is None:
            raise not_found(messages.RESOURCE_MISSING)
        return key, resource

    def _move(self, key: Key, state: int, error: Status | None = None) -> PersistentResource:
        resource = self._resources.get(key)
        if resource is None:
            raise RuntimeError(f"persistent resource {key.id} left the store")
        moved = resource_moved(resource, state, self._world.clock(), error)
        self._resources.put(key, moved)
        return moved

    def _later(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()):
            _log.error("work on a persistent resource failed in the emulator", exc_info=error)
