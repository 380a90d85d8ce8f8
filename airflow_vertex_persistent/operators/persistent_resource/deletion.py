# SPDX-License-Identifier: Apache-2.0
"""Delete a persistent resource, and wait until it is really gone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from airflow_vertex_persistent.exceptions import CallProblem, call_problem
from airflow_vertex_persistent.links import PersistentResourcesLink
from airflow_vertex_persistent.names import ResourceName, persistent_resources_console_url
from airflow_vertex_persistent.operators.base import settled_snapshot, typed_errors
from airflow_vertex_persistent.operators.persistent_resource.base import PersistentResourceOperator
from airflow_vertex_persistent.specs.checks import Problems, check_persistent_resource_id
from airflow_vertex_persistent.states import ResourcePhase, resource_phase

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_vertex_persistent.hooks.persistent_resource import PersistentResourceHook


class DeletePersistentResourceOperator(PersistentResourceOperator):
    """
    Delete a persistent resource and wait until it is really gone.

    Already gone is success, so it can be a teardown task and be retried. A resource that is still being
    created is waited for first, since the service does not delete it before. The service cancels the jobs
    that run on the resource.

    .. seealso:: :doc:`/operators/persistent_resource`

    :param kwargs: Id, connection, region and waiting, see
        :class:`~airflow_vertex_persistent.operators.persistent_resource.PersistentResourceOperator` and
        :class:`~airflow_vertex_persistent.operators.base.VertexOperator`.
    """

    def execute(self, context: Context) -> None:
        """Delete the resource and wait until it is gone."""
        problems = Problems("deletion of the persistent resource")
        watch = self.watch_arguments(problems)
        check_persistent_resource_id(self.persistent_resource_id, problems)
        with typed_errors("deletion of the persistent resource"):
            problems.raise_if_any()
            hook = self.hook()
            name = self.resource_name(hook)
            until = self._delete(hook, name)
        PersistentResourcesLink().persist(context, persistent_resources_console_url(name.project))
        if until is not None:
            self.await_resource(until, name, watch, context)

    def execute_complete(self, context: Context, event: dict[str, Any]) -> None:
        """Go on until there is nothing left."""
        if settled_snapshot(event) is None:
            self.log.info("Persistent resource %s is gone", self.persistent_resource_id)
        else:
            self.execute(context)

    def _delete(self, hook: PersistentResourceHook, name: ResourceName) -> Literal["ready", "gone"] | None:
        """Delete the resource if it can be, and return what to wait for, ``None`` if there is nothing left."""
        step = self._next_step(hook, name)
        if step != "delete":
            return step
        self.log.info("Deleting %s", name)
        try:
            hook.delete(name)
        except Exception as error:
            # It has changed since the look, or a reply was lost and the call repeated.
            if call_problem(error) not in {CallProblem.MISSING, CallProblem.NOT_NOW}:
                raise
            step = self._next_step(hook, name)
            if step == "delete":
                raise
            return step
        return "gone"

    def _next_step(
        self, hook: PersistentResourceHook, name: ResourceName
    ) -> Literal["ready", "gone", "delete"] | None:
        from airflow_vertex_persistent.hooks.persistent_resource import resource_snapshot

        live = hook.get(name)
        if live is None:
            self.log.info("%s is gone", name)
            return None
        match resource_phase(resource_snapshot(live)["state"]):
            case ResourcePhase.MOVING as phase:
                self.log.info("%s %s: it is deleted once that is over", name, phase.value)
                return "ready"
            case ResourcePhase.LEAVING:
                return "gone"
            case _:
                return "delete"
