# SPDX-License-Identifier: Apache-2.0
"""Wait until a persistent resource can be used."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseSensorOperator, PokeReturnValue
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

from airflow_vertex_persistent.exceptions import (
    PersistentResourceError,
    ServiceUnreachableError,
    VertexTrainingError,
    is_transient,
    resource_error,
)
from airflow_vertex_persistent.links import PersistentResourcesLink
from airflow_vertex_persistent.names import ResourceName, persistent_resources_console_url
from airflow_vertex_persistent.operators.base import WHEN_UNREACHABLE, settled_snapshot, typed_errors
from airflow_vertex_persistent.operators.persistent_resource.base import PersistentResourceOperator
from airflow_vertex_persistent.operators.persistent_resource.result import resource_result
from airflow_vertex_persistent.specs.checks import Problems, check_persistent_resource_id, whole_number
from airflow_vertex_persistent.states import ResourcePhase, most_machines, resource_phase

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow.sdk import Context

    from airflow_vertex_persistent.hooks.persistent_resource import PersistentResourceHook
    from airflow_vertex_persistent.states import ResourceSnapshot

_SUBJECT = "wait for the persistent resource"
_STORE_KEY = "vertex_outage"


class PersistentResourceSensor(PersistentResourceOperator, BaseSensorOperator):
    """
    Wait until a persistent resource runs and, if asked, has free machines.

    Free machines are no reservation: a job of somebody else may take them before yours.

    .. seealso:: :doc:`/operators/persistent_resource_sensor`

    :param resource_pool: Id of the pool in which machines must be free. Default: any pool. (templated)
    :param free_replicas: How many machines must be free in one pool, at least. Those count by which an
        autoscaled pool may still grow. Default: none, it is enough that the resource runs. (templated)
    :param kwargs: Id, connection and region, see
        :class:`~airflow_vertex_persistent.operators.persistent_resource.PersistentResourceOperator` and
        :class:`~airflow_vertex_persistent.operators.base.VertexOperator`, whose ``poll_interval`` takes the place of
        ``poke_interval`` in every mode; ``mode``, ``timeout``, ``soft_fail`` and the rest of Airflow's
        ``BaseSensorOperator``. ``deferrable=True`` goes before ``mode``.
    :return: As :class:`~airflow_vertex_persistent.operators.persistent_resource.GetPersistentResourceOperator`.
    :raises PersistentResourceError: The resource is not there or in ERROR; for a lack of machines or quota
        the error is a
        :class:`~airflow_vertex_persistent.exceptions.CapacityError` or a
        :class:`~airflow_vertex_persistent.exceptions.QuotaExceededError`.
    :raises AirflowFailException: A parameter is wrong, or no pool can ever have so many free machines.
    """

    template_fields: Sequence[str] = (
        "resource_pool",
        "free_replicas",
        *PersistentResourceOperator.template_fields,
    )

    def __init__(
        self, *, resource_pool: str | None = None, free_replicas: int | str | None = None, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.resource_pool = resource_pool
        self.free_replicas = free_replicas
        self._hook: PersistentResourceHook | None = None

    def execute(self, context: Context) -> Any:
        """Wait for the resource in the way that was chosen, and return what it is like then."""
        with typed_errors(_SUBJECT):
            watch, what = self._arguments()
            name = self._name()
            PersistentResourcesLink().persist(context, persistent_resources_console_url(name.project))
        if self.deferrable:
            trigger = self.trigger(name, watch, **what)
            return self._result(settled_snapshot(self.wait_for_event(trigger, context)))
        self.poke_interval = watch["poll_interval"]
        return super().execute(context)

    def poke(self, context: Context) -> PokeReturnValue:
        """Look once."""
        from airflow_vertex_persistent.hooks.persistent_resource import resource_snapshot

        with typed_errors(_SUBJECT):
            watch, what = self._arguments()
            name = self._name()
            try:
                live = self._the_hook().get(name, once=True)
            except Exception as error:
                if not is_transient(error):
                    raise
                self._wait_out(error, name, watch["max_outage"], context)
                return PokeReturnValue(is_done=False)
        self._end_outage(context)
        snapshot = None if live is None else resource_snapshot(live)
        if not self.trigger(name, watch, **what).settled(snapshot):
            self.log.info("%s is %s", name, "not there" if snapshot is None else snapshot["state"])
            return PokeReturnValue(is_done=False)
        return PokeReturnValue(is_done=True, xcom_value=self._result(snapshot))

    def execute_complete(self, context: Context, event: dict[str, Any]) -> Any:
        """Return what the resource is like after a wait in the triggerer, or raise why it cannot be used."""
        try:
            return self._result(settled_snapshot(event))
        except VertexTrainingError:
            if not self.silent_fail:
                raise
            self.log.exception("Not ready, waiting all the same: silent_fail is set")
        watch, _ = self._arguments()
        return self.pause(context, watch["poll_interval"])

    def resume_execution(self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context) -> Any:
        """Go on after a wait in the triggerer; ``never_fail`` skips the task as it does in the other modes."""
        try:
            return super().resume_execution(next_method, next_kwargs, context)
        except VertexTrainingError as error:
            if self.never_fail:
                raise AirflowSkipException("Skipping due to never_fail is set to True.") from error
            raise

    def _arguments(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return what every trigger is told, and what this one is to wait for."""
        problems = Problems(_SUBJECT)
        watch = self.watch_arguments(problems)
        check_persistent_resource_id(self.persistent_resource_id, problems)
        what: dict[str, Any] = {"until": "ready"}
        if self.free_replicas is not None:
            free = whole_number("free_replicas", self.free_replicas, problems, least=1)
            what = {"until": "free", "resource_pool": self.resource_pool, "free_replicas": free}
        elif self.resource_pool is not None:
            problems.add("resource_pool", self.resource_pool, "goes with free_replicas")
        problems.raise_if_any()
        return watch, what

    def _the_hook(self) -> PersistentResourceHook:
        self._hook = self._hook or self.hook()
        return self._hook

    def _name(self) -> ResourceName:
        return self.resource_name(self._the_hook())

    def _time_left(self, context: Context) -> timedelta:
        """Return what is left of ``timeout``, or of ``execution_timeout`` if that is less."""
        spent = datetime.now(UTC) - context["ti"].start_date
        left = max(timedelta(seconds=self.timeout) - spent, timedelta(seconds=1))
        of_execution = super()._time_left(context)
        return left if of_execution is None else min(left, of_execution)

    def _wait_out(self, error: Exception, name: ResourceName, max_outage: float, context: Context) -> None:
        """Note that the service gave no answer; the next poke may be that of another process."""
        now, since = datetime.now(UTC), self._outage_since(context)
        if since is None:
            self.log.warning("No answer from Vertex AI, still trying: %s", error)
            outage: Any = {"try_number": context["ti"].try_number, "since": now.isoformat()}
            context["task_state_store"].set(_STORE_KEY, outage)
        elif (now - since).total_seconds() >= max_outage:
            raise ServiceUnreachableError(
                f"Vertex AI gave no answer about {name} for max_outage. Last error: {error}\n{WHEN_UNREACHABLE}"
            ) from error

    def _end_outage(self, context: Context) -> None:
        if self._outage_since(context) is not None:
            context["task_state_store"].delete(_STORE_KEY)
            self.log.info("Vertex AI answers again")

    @staticmethod
    def _outage_since(context: Context) -> datetime | None:
        """Return when this attempt last stopped getting answers; what the one before saw does not count."""
        outage: Any = context["task_state_store"].get(_STORE_KEY)
        if outage is None or outage["try_number"] != context["ti"].try_number:
            return None
        return datetime.fromisoformat(outage["since"])

    def _result(self, snapshot: ResourceSnapshot | None) -> dict[str, Any]:
        """Return what the resource is like when it can be used, or raise why it never will."""
        if snapshot is None:
            raise PersistentResourceError(
                f"Persistent resource {self.persistent_resource_id!r} is not there\nNext step: create it first."
            )
        name = ResourceName.parse(snapshot["persistent_resource"])
        if resource_phase(snapshot["state"]) is ResourcePhase.LOST:
            raise resource_error(name, snapshot["state"], snapshot["error_message"])
        wanted = 0 if self.free_replicas is None else int(self.free_replicas)
        if most_machines(snapshot, self.resource_pool) < wanted:
            pools = ", ".join(
                f"{pool['id']} ({pool['max_replica_count'] or pool['replica_count']} machines)"
                for pool in snapshot["pools"]
            )
            what = f"never has {wanted} free machines in one pool"
            if self.resource_pool is not None:
                known = any(pool["id"] == self.resource_pool for pool in snapshot["pools"])
                which = f"pool {self.resource_pool!r}"
                what = f"never has {wanted} free machines in {which}" if known else f"has no {which}"
            raise AirflowFailException(
                f"{name} {what}. Its pools: {pools}\n"
                "Next step: wait for less, or write the id of another pool."
            )
        return resource_result(snapshot)
