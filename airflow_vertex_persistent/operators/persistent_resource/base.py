# SPDX-License-Identifier: Apache-2.0
"""What the operators of persistent resources share: one resource, and how it is waited for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from airflow_vertex_persistent.links import PersistentResourcesLink
from airflow_vertex_persistent.names import ResourceName, persistent_resource_name
from airflow_vertex_persistent.operators.base import VertexOperator
from airflow_vertex_persistent.triggers.persistent_resource import PersistentResourceTrigger

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow.sdk import Context

    from airflow_vertex_persistent.hooks.persistent_resource import PersistentResourceHook


class PersistentResourceOperator(VertexOperator):
    """
    Base of the operators that own one persistent resource.

    :param persistent_resource_id: Id of the resource: 1 to 63 lower-case letters, digits and ``-``. (templated)
    """

    template_fields: Sequence[str] = ("persistent_resource_id", *VertexOperator.template_fields)
    operator_extra_links = (PersistentResourcesLink(),)

    def __init__(self, *, persistent_resource_id: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.persistent_resource_id = persistent_resource_id

    def hook(self) -> PersistentResourceHook:
        """Return the hook of this task's connection."""
        from airflow_vertex_persistent.hooks.persistent_resource import PersistentResourceHook

        return PersistentResourceHook(self.gcp_conn_id, self.impersonation_chain)

    def resource_name(self, hook: PersistentResourceHook) -> ResourceName:
        """Return the full name of the resource."""
        project_id = self.project_id or hook.default_project_id
        return persistent_resource_name(project_id, self.region, self.persistent_resource_id)

    def await_resource(
        self,
        until: Literal["ready", "gone"],
        name: ResourceName,
        watch: dict[str, Any],
        context: Context,
        **kwargs: Any,
    ) -> Any:
        """Wait for the resource and go on in ``execute_complete``, with ``kwargs``."""
        trigger = PersistentResourceTrigger(
            project_id=name.project, persistent_resource_id=name.id, until=until, **watch
        )
        return self.await_event(trigger, context, **kwargs)
