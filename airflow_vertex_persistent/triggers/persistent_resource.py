# SPDX-License-Identifier: Apache-2.0
"""Waits for a persistent resource."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from airflow_vertex_persistent.names import ResourceName, persistent_resource_name
from airflow_vertex_persistent.states import ResourcePhase, resource_phase
from airflow_vertex_persistent.triggers.base import VertexTrigger
from airflow_vertex_persistent.triggers.sources import ResourceSource

if TYPE_CHECKING:
    from collections.abc import Hashable, Mapping

    from airflow_vertex_persistent.hooks.persistent_resource import PersistentResourceAsyncHook


class PersistentResourceTrigger(VertexTrigger):
    """
    Waits until a persistent resource can be used, or until it is gone.

    Ready ends with the resource in RUNNING or ERROR, or not there at all. Gone ends when there is none.

    :param project_id: Project of the resource.
    :param persistent_resource_id: Its id.
    :param until: What to wait for.
    :param shared: See :class:`~airflow_vertex_persistent.triggers.base.VertexTrigger`.
    """

    fields = (*VertexTrigger.fields, "project_id", "persistent_resource_id", "until")

    def __init__(
        self, *, project_id: str, persistent_resource_id: str, until: Literal["ready", "gone"], **shared: Any
    ) -> None:
        super().__init__(**shared)
        self.project_id = project_id
        self.persistent_resource_id = persistent_resource_id
        self.until = until

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
        return ResourceSource(hook)

    def source_key(self) -> tuple[Hashable, ...]:
        """Return what bounds the number of calls of one loop: a project's region."""
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
        phase = resource_phase(snapshot["state"])
        return self.until == "ready" and phase in {ResourcePhase.READY, ResourcePhase.LOST}
