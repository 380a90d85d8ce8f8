# SPDX-License-Identifier: Apache-2.0
"""What the operators of persistent resources share: one resource, and how it is waited for."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Literal

from airflow_vertex_persistent.links import PersistentResourcesLink
from airflow_vertex_persistent.names import ResourceName, persistent_resource_name
from airflow_vertex_persistent.operators.base import VertexOperator, settled_snapshot
from airflow_vertex_persistent.triggers.persistent_resource import PersistentResourceTrigger

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow.sdk import Context

    from airflow_vertex_persistent.hooks.persistent_resource import PersistentResourceHook
    from airflow_vertex_persistent.states import ResourceSnapshot


@dataclass(frozen=True)
class Wait:
    """
    What has to pass before a task looks at its resource again.

    :param reason: What is waited for, as the end of a sentence that begins with "waiting for".
    :param until: What to watch the resource for; ``None``: there is nothing to watch, time passes.
    :param seconds: How long, where there is nothing to watch.
    :param deadline: When to look again at the latest, RFC 3339; ``None``: whenever it has passed.
    """

    reason: str
    until: Literal["ready", "unused", "gone"] | None = None
    seconds: float = 0.0
    deadline: str | None = None


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
        self._waiting_for = ""

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

    def wait(self, wait: Wait, name: ResourceName, watch: dict[str, Any], context: Context) -> None:
        """
        Wait, so that the caller can look again; a deferred task begins anew after it.

        :param watch: What every trigger is told.
        """
        if wait.reason != self._waiting_for:
            self.log.info("%s: waiting for %s", name.id, wait.reason)
            self._waiting_for = wait.reason
        if wait.until is not None:
            trigger = self.trigger(name, watch, until=wait.until, deadline=wait.deadline)
            self.watch(trigger, context, then="look_again")
        elif self.deferrable:
            from airflow.providers.standard.triggers.temporal import TimeDeltaTrigger

            self.defer(
                trigger=TimeDeltaTrigger(timedelta(seconds=wait.seconds)),
                method_name="execute_after_pause",
                timeout=self._time_left(context),
            )
        else:
            time.sleep(wait.seconds)

    def watch(
        self, trigger: PersistentResourceTrigger, context: Context, *, then: str
    ) -> ResourceSnapshot | None:
        """
        Return what the resource is like when the trigger ends.

        :param then: Name of the method with which a deferred task goes on instead.
        """
        if self.deferrable:
            self.defer(trigger=trigger, method_name=then, timeout=self._time_left(context))
        snapshot: ResourceSnapshot | None = settled_snapshot(trigger.watch_here())
        return snapshot

    def trigger(self, name: ResourceName, watch: dict[str, Any], **what: Any) -> PersistentResourceTrigger:
        """Return a trigger for the resource."""
        return PersistentResourceTrigger(
            project_id=name.project, persistent_resource_id=name.id, **what, **watch
        )

    def look_again(self, context: Context, event: dict[str, Any]) -> Any:
        """Go on after a wait in the triggerer: what there is now decides, whatever the trigger saw."""
        settled_snapshot(event)
        return self.execute(context)

    def execute_after_pause(self, context: Context, event: Any = None) -> Any:
        """Go on after a pause in the triggerer."""
        return self.execute(context)
