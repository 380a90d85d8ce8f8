# SPDX-License-Identifier: Apache-2.0
"""Waits for a persistent resource."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal, cast

from airflow_vertex_persistent.names import ResourceName, persistent_resource_name
from airflow_vertex_persistent.states import (
    ResourcePhase,
    ResourceSnapshot,
    free_machines,
    machines_in_use,
    most_machines,
    resource_phase,
)
from airflow_vertex_persistent.triggers.base import VertexTrigger
from airflow_vertex_persistent.triggers.sources import ResourceSource

if TYPE_CHECKING:
    from collections.abc import Hashable, Mapping

    from airflow_vertex_persistent.hooks.persistent_resource import PersistentResourceAsyncHook

    Until = Literal["ready", "free", "unused", "gone"]


class PersistentResourceTrigger(VertexTrigger):
    """
    Waits until a persistent resource can be used, has free machines, is not used any more, or is gone.

    Each wait also ends when what is waited for cannot come any more: the resource is not there, is in ERROR,
    or has no pool of that size. Only *gone* waits for no resource at all.

    :param project_id: Project of the resource.
    :param persistent_resource_id: Its id.
    :param until: What to wait for. ready: it is RUNNING. free: it is, and a pool has ``free_replicas`` machines for a
        job. unused: no job uses a machine of it. gone: it is not there.
    :param resource_pool: Id of the pool that *free* is about; ``None``: any.
    :param free_replicas: How many machines *free* waits for.
    :param create_time: When the resource was created that is to be gone, RFC 3339: one that was created at another
        time is another, and ends the wait. ``None``: whichever there is.
    :param deadline: When to end the wait with the resource as it is then, RFC 3339; ``None``: never.
    :param shared: See :class:`~airflow_vertex_persistent.triggers.base.VertexTrigger`.
    """

    fields = (
        *VertexTrigger.fields,
        "project_id",
        "persistent_resource_id",
        "until",
        "resource_pool",
        "free_replicas",
        "create_time",
        "deadline",
    )

    def __init__(
        self,
        *,
        project_id: str,
        persistent_resource_id: str,
        until: Until,
        resource_pool: str | None = None,
        free_replicas: int = 1,
        create_time: str | None = None,
        deadline: str | None = None,
        **shared: Any,
    ) -> None:
        super().__init__(**shared)
        self.project_id = project_id
        self.persistent_resource_id = persistent_resource_id
        self.until = until
        self.resource_pool = resource_pool
        self.free_replicas = free_replicas
        self.create_time = create_time
        self.deadline = deadline

    @property
    def name(self) -> ResourceName:
        """Full name of the resource."""
        return persistent_resource_name(self.project_id, self.region, self.persistent_resource_id)

    @property
    def subject(self) -> str:
        """Short name of the resource, for the log."""
        return f"Persistent resource {self.persistent_resource_id}"

    def hook(self) -> PersistentResourceAsyncHook:
        """Return the hook that asks for persistent resources."""
        from airflow_vertex_persistent.hooks.persistent_resource import PersistentResourceAsyncHook

        return PersistentResourceAsyncHook(self.gcp_conn_id, self.impersonation_chain)

    def source(self, hook: PersistentResourceAsyncHook) -> ResourceSource:
        """Return where resources are read, each once for all who wait for it."""
        return ResourceSource(hook, self.region)

    def source_key(self) -> tuple[Hashable, ...]:
        """Return the project and region, whose resources are read one by one, within one limit on calls."""
        return self.project_id, self.region

    async def look(self, hook: PersistentResourceAsyncHook) -> Mapping[str, Any] | None:
        """Return what the resource is like now."""
        from airflow_vertex_persistent.hooks.persistent_resource import resource_snapshot

        resource = await hook.get(self.name)
        return None if resource is None else resource_snapshot(resource)

    def settled(self, snapshot: Mapping[str, Any] | None) -> bool:
        """Tell whether the resource is what was waited for, or will never be."""
        if snapshot is None:
            return True
        if self.deadline is not None and datetime.now(UTC) >= datetime.fromisoformat(self.deadline):
            return True
        resource = cast("ResourceSnapshot", snapshot)
        phase = resource_phase(resource["state"])
        match self.until:
            case "ready":
                return phase in {ResourcePhase.READY, ResourcePhase.LOST}
            case "free":
                ready = phase is ResourcePhase.READY
                return phase is ResourcePhase.LOST or (ready and self._free_or_never(resource))
            case "unused":
                over = phase in {ResourcePhase.LEAVING, ResourcePhase.LOST}
                return over or not machines_in_use(resource)
            case "gone":
                return self.create_time is not None and resource["create_time"] != self.create_time

    def _free_or_never(self, resource: ResourceSnapshot) -> bool:
        free = free_machines(resource, self.resource_pool) >= self.free_replicas
        return free or most_machines(resource, self.resource_pool) < self.free_replicas

    def progress(self, snapshot: Mapping[str, Any]) -> str:
        """Return how many machines are in use, where that is what is waited for."""
        if self.until not in {"free", "unused"}:
            return ""
        return f", machines in use: {machines_in_use(cast('ResourceSnapshot', snapshot))}"
