# SPDX-License-Identifier: Apache-2.0
"""What the operators of persistent resources share: one resource, and how it is waited for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from airflow_vertex_persistent.call_problems import TRANSIENT_PROBLEMS, CallProblem
from airflow_vertex_persistent.links import PersistentResourcesLink
from airflow_vertex_persistent.names import ResourceName, persistent_resource_name
from airflow_vertex_persistent.operators.base import VertexOperator, WaitingOperator, settled_snapshot
from airflow_vertex_persistent.triggers.persistent_resource import PersistentResourceTrigger

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow.sdk import Context

# After these errors of a deletion it is worth another look; who uses the resource by then is looked for again.
DELETE_AGAIN = TRANSIENT_PROBLEMS | {CallProblem.MISSING, CallProblem.NOT_NOW}


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
    Base of the operators of one persistent resource.

    :param persistent_resource_id: Id of the resource: 1 to 63 lower-case letters, digits and ``-``. (templated)
    """

    template_fields: Sequence[str] = ("persistent_resource_id", *VertexOperator.template_fields)
    operator_extra_links = (PersistentResourcesLink(),)

    def __init__(self, *, persistent_resource_id: str, **kwargs: Any) -> None:
        kwargs.setdefault("multiple_outputs", True)
        super().__init__(**kwargs)
        self.persistent_resource_id = persistent_resource_id

    @property
    def resource_name(self) -> ResourceName:
        """The full name of the resource."""
        project_id = self.project_id or self.resource_hook.default_project_id
        return persistent_resource_name(project_id, self.region, self.persistent_resource_id)

    @property
    def where(self) -> str:
        """Which resource is meant, for the end of an error's subject."""
        return f"{self.persistent_resource_id!r} in {self.region}"

    def trigger(self, name: ResourceName, watch: dict[str, Any], **what: Any) -> PersistentResourceTrigger:
        """
        Return a trigger for the resource.

        :param watch: What every trigger is told.
        :param what: What this one waits for.
        """
        return PersistentResourceTrigger(
            project_id=name.project, persistent_resource_id=name.id, **what, **watch
        )


class WaitingResourceOperator(PersistentResourceOperator, WaitingOperator):
    """
    Base of the operators that change a persistent resource, and wait for that.

    :param kwargs: Id, connection, region and waiting, see
        :class:`~airflow_vertex_persistent.operators.persistent_resource.PersistentResourceOperator` and
        :class:`~airflow_vertex_persistent.operators.base.WaitingOperator`.
    """

    template_fields: Sequence[str] = ("persistent_resource_id", *WaitingOperator.template_fields)

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._waiting_for = ""

    def wait(self, wait: Wait, name: ResourceName, watch: dict[str, Any], context: Context) -> None:
        """
        Wait, so that the caller can look again; a deferred task begins anew after it.

        :param watch: What every trigger is told.
        """
        if wait.reason != self._waiting_for:
            self.log.info("%s: waiting for %s", name.id, wait.reason)
            self._waiting_for = wait.reason
        if wait.until is None:
            self.pause(context, wait.seconds)
        else:
            trigger = self.trigger(name, watch, until=wait.until, deadline=wait.deadline)
            settled_snapshot(self.wait_for_event(trigger, context, then="execute_again"))

    def execute_again(self, context: Context, event: Any = None) -> Any:
        """Begin anew after a wait in the triggerer: what there is now decides, whatever the trigger saw."""
        if isinstance(event, Mapping):  # that of a pause is a time
            settled_snapshot(event)
        return self.execute(context)
