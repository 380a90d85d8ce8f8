# SPDX-License-Identifier: Apache-2.0
"""Reboot a persistent resource."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from airflow_vertex_persistent.call_problems import CallProblem, call_problem
from airflow_vertex_persistent.endings import resource_error
from airflow_vertex_persistent.exceptions import PersistentResourceError
from airflow_vertex_persistent.names import ResourceName
from airflow_vertex_persistent.operators.base import settled_snapshot, typed_errors
from airflow_vertex_persistent.operators.persistent_resource.base import Wait, WaitingResourceOperator
from airflow_vertex_persistent.operators.persistent_resource.jobs import until_unused, who_uses
from airflow_vertex_persistent.result import resource_result
from airflow_vertex_persistent.specs.checks import Problems, check_persistent_resource_id, choice
from airflow_vertex_persistent.states import REBOOTING, ResourcePhase, resource_phase
from airflow_vertex_persistent.triggers.watch import backoff_seconds

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow.sdk import Context

    from airflow_vertex_persistent.states import ResourceSnapshot

_SUBJECT = "reboot of the persistent resource"


class RebootPersistentResourceOperator(WaitingResourceOperator):
    """
    Restart all machines of a persistent resource and wait until it runs again.

    Works in RUNNING and in ERROR. What a reboot does to jobs is not documented: count on losing them.
    Machines that are scarce may be lost too, and an autoscaled pool comes back at its smallest. A reboot that
    somebody else, or an attempt before this one, has begun is waited for and counts.

    .. seealso:: :doc:`/operators/reboot_persistent_resource`

    :param when_in_use: What to do while jobs use the resource: ``"fail"``, ``"wait"`` for their end, as long as
        ``execution_timeout`` allows, or ``"reboot"`` all the same. Default: fail. (templated)
    :param kwargs: Id, connection, region and waiting, see
        :class:`~airflow_vertex_persistent.operators.persistent_resource.PersistentResourceOperator` and
        :class:`~airflow_vertex_persistent.operators.base.WaitingOperator`.
    :return: As :class:`~airflow_vertex_persistent.operators.persistent_resource.GetPersistentResourceOperator`.
    :raises PersistentResourceError: The resource is in use, not there, being deleted, or does not come up
        again; for a lack of machines or quota the error is a
        :class:`~airflow_vertex_persistent.exceptions.CapacityError` or a
        :class:`~airflow_vertex_persistent.exceptions.QuotaExceededError`.
    """

    template_fields: Sequence[str] = ("when_in_use", *WaitingResourceOperator.template_fields)

    def __init__(self, *, when_in_use: Literal["fail", "wait", "reboot"] = "fail", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.when_in_use = when_in_use

    def execute(self, context: Context) -> dict[str, Any]:
        """Reboot the resource once that may be, and return it when it runs again."""
        problems = Problems(_SUBJECT)
        watch = self.watch_arguments(problems)
        check_persistent_resource_id(self.persistent_resource_id, problems)
        when_in_use = choice("when_in_use", self.when_in_use, ("fail", "wait", "reboot"), problems)
        with typed_errors(f"{_SUBJECT} {self.where}"):
            problems.raise_if_any()
            name = self.resource_name
            self.persist_links(context, name)
        while True:
            with typed_errors(f"{_SUBJECT} {self.where}"):
                wait = self._reboot(name, when_in_use, watch["poll_interval"])
            if wait is None:
                break
            self.wait(wait, name, watch, context)
        event = self.wait_for_event(self.trigger(name, watch, until="ready"), context)
        return self.execute_complete(context, event)

    def execute_complete(self, context: Context, event: dict[str, Any]) -> dict[str, Any]:
        """Return the resource that has been rebooted, or raise why it does not run."""
        snapshot: ResourceSnapshot | None = settled_snapshot(event)
        if snapshot is None:
            raise PersistentResourceError(
                f"Persistent resource {self.persistent_resource_id!r} was deleted while it was being rebooted\n"
                "Next step: create it anew."
            )
        if resource_phase(snapshot["state"]) is ResourcePhase.LOST:
            name = ResourceName.parse(snapshot["persistent_resource"])
            raise resource_error(name, snapshot["state"], snapshot["error_message"])
        self.log.info("Persistent resource %s runs again", self.persistent_resource_id)
        return resource_result(snapshot)

    def _reboot(self, name: ResourceName, when_in_use: str, poll_interval: float) -> Wait | None:
        """Begin the reboot, or return what to wait for before that; ``None``: it is under way."""
        from airflow_vertex_persistent.hooks.persistent_resource import resource_snapshot

        live = self.resource_hook.get(name)
        if live is None:
            raise PersistentResourceError(
                f"{name} is not there\nNext step: create it; a new one needs no reboot."
            )
        snapshot = resource_snapshot(live)
        if snapshot["state"] == REBOOTING:
            self.log.info("%s is being rebooted already", name)
            return None
        phase = resource_phase(snapshot["state"])
        if phase is ResourcePhase.LEAVING:
            raise PersistentResourceError(
                f"{name} is being deleted\nNext step: create it anew once it is gone."
            )
        if phase is ResourcePhase.MOVING:
            return Wait("it to be ready", "ready")
        users = "" if when_in_use == "reboot" else who_uses(self.job_hook, name, snapshot)
        if users and when_in_use == "fail":
            raise PersistentResourceError(
                f"{name} should be rebooted, but is in use: {users}\n"
                "Next step: try again when they have ended, or say when_in_use='wait', or 'reboot' to lose them."
            )
        if users:
            return until_unused(f"the end of {users}", snapshot, poll_interval)
        self.log.info("Rebooting %s", name)
        try:
            self.resource_hook.reboot(name)
        except Exception as error:
            if call_problem(error) is CallProblem.NOT_NOW:
                pause = backoff_seconds(poll_interval, 0)
                return Wait(f"a state in which it can be rebooted ({error})", seconds=pause)
            # The reply may have been lost: what counts is what has become of the resource.
            now = self.resource_hook.get(name) if call_problem(error) is CallProblem.TRANSIENT else None
            if now is None or resource_snapshot(now)["state"] != REBOOTING:
                raise
        return None
