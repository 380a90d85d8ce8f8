# SPDX-License-Identifier: Apache-2.0
"""Wait until a persistent resource can be used."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.sdk.exceptions import AirflowFailException

from airflow_vertex_persistent.endings import resource_error
from airflow_vertex_persistent.exceptions import PersistentResourceError
from airflow_vertex_persistent.names import ResourceName
from airflow_vertex_persistent.operators.persistent_resource.base import PersistentResourceOperator
from airflow_vertex_persistent.result import resource_result
from airflow_vertex_persistent.sensors.base import VertexSensor
from airflow_vertex_persistent.specs.checks import Problems, check_persistent_resource_id, whole_number
from airflow_vertex_persistent.states import ResourcePhase, most_machines, resource_phase

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from airflow_vertex_persistent.states import ResourceSnapshot
    from airflow_vertex_persistent.triggers.persistent_resource import PersistentResourceTrigger


class PersistentResourceSensor(PersistentResourceOperator, VertexSensor):
    """
    Wait until a persistent resource runs and, if asked, has free machines.

    Free machines are no reservation: a job of somebody else may take them before yours.

    .. seealso:: :doc:`/operators/persistent_resource_sensor`

    :param resource_pool: Id of the pool in which machines must be free. Default: any pool. (templated)
    :param free_replicas: How many machines must be free in one pool, at least. Those count by which an
        autoscaled pool may still grow. Default: none, it is enough that the resource runs. (templated)
    :param kwargs: Id, connection and region, see
        :class:`~airflow_vertex_persistent.operators.persistent_resource.PersistentResourceOperator` and
        :class:`~airflow_vertex_persistent.sensors.base.VertexSensor`.
    :return: As :class:`~airflow_vertex_persistent.operators.persistent_resource.GetPersistentResourceOperator`.
    :raises PersistentResourceError: The resource is not there or in ERROR; for a lack of machines or quota
        the error is a
        :class:`~airflow_vertex_persistent.exceptions.CapacityError` or a
        :class:`~airflow_vertex_persistent.exceptions.QuotaExceededError`.
    :raises AirflowFailException: A parameter is wrong, or no pool can ever have so many free machines.
    """

    subject = "wait for the persistent resource"
    template_fields: Sequence[str] = (
        "resource_pool",
        "free_replicas",
        "persistent_resource_id",
        *VertexSensor.template_fields,
    )

    def __init__(
        self, *, resource_pool: str | None = None, free_replicas: int | str | None = None, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.resource_pool = resource_pool
        self.free_replicas = free_replicas

    def wait_trigger(self) -> PersistentResourceTrigger:
        """Return the trigger that waits, its parameters checked."""
        problems = Problems(self.subject)
        watch = self.watch_arguments(problems)
        check_persistent_resource_id(self.persistent_resource_id, problems)
        what: dict[str, Any] = {"until": "ready"}
        free = self._free_replicas(problems)
        if self.free_replicas is not None:
            what = {"until": "free", "resource_pool": self.resource_pool, "free_replicas": free}
        elif self.resource_pool is not None:
            problems.add("resource_pool", self.resource_pool, "goes with free_replicas")
        problems.raise_if_any()
        return self.trigger(self.resource_name, watch, **what)

    def _free_replicas(self, problems: Problems) -> int | None:
        if self.free_replicas is None:
            return None
        return whole_number("free_replicas", self.free_replicas, problems, least=1)

    def look(self, name: ResourceName) -> ResourceSnapshot | None:
        """Return what the resource is like now."""
        from airflow_vertex_persistent.hooks.persistent_resource import resource_snapshot

        live = self.resource_hook.get(name, once=True)
        return None if live is None else resource_snapshot(live)

    def sensed(self, snapshot: ResourceSnapshot | None, details: Mapping[str, Any]) -> dict[str, Any]:
        """Return what the resource is like when it can be used, or raise why it never will."""
        if snapshot is None:
            raise PersistentResourceError(
                f"Persistent resource {self.persistent_resource_id!r} is not there\nNext step: create it first."
            )
        name = ResourceName.parse(snapshot["persistent_resource"])
        if resource_phase(snapshot["state"]) is ResourcePhase.LOST:
            raise resource_error(name, snapshot["state"], snapshot["error_message"])
        wanted = self._free_replicas(Problems(self.subject)) or 0
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
