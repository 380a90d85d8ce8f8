# SPDX-License-Identifier: Apache-2.0
"""The emulator's own service: faults, calls, things that break, machines that there are. Structs in and out."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from google.protobuf.json_format import MessageToDict
from google.protobuf.struct_pb2 import Struct

from airflow_vertex_persistent.emulator.demand import wait_limit
from airflow_vertex_persistent.emulator.errors import ApiError, invalid
from airflow_vertex_persistent.emulator.machines import doubts
from airflow_vertex_persistent.emulator.settings import CLUSTER_ERROR
from airflow_vertex_persistent.emulator.timetable import UNLIMITED

if TYPE_CHECKING:
    from airflow_vertex_persistent.emulator.calls import CallRecord
    from airflow_vertex_persistent.emulator.capacity import Shelf
    from airflow_vertex_persistent.emulator.faults import FaultPlan
    from airflow_vertex_persistent.emulator.names import Key
    from airflow_vertex_persistent.emulator.quota import Account
    from airflow_vertex_persistent.emulator.world import World

    from . import Call
    from .persistent_resources import PersistentResources


class Control:
    """
    What a test asks of the emulator itself.

    :param faults: the faults that are ordered.
    :param calls: the calls that came in.
    :param resources: the persistent resources.
    :param world: jobs and machines.
    """

    def __init__(
        self, faults: FaultPlan, calls: CallRecord, resources: PersistentResources, world: World
    ) -> None:
        self._faults = faults
        self._calls = calls
        self._resources = resources
        self._world = world

    async def add_fault(self, request: Struct, _: Call) -> Struct:
        """Order one fault, with the fields of ``FaultPlan.add``."""
        fields: dict[str, Any] = MessageToDict(request)
        # A Struct knows floats alone.
        try:
            for name in {"times", "skip"} & set(fields):
                fields[name] = _whole(name, fields[name])
            self._faults.add(**fields)
        except (ValueError, TypeError) as error:
            raise invalid(str(error)) from error
        return Struct()

    async def list_faults(self, _request: Struct, _: Call) -> Struct:
        """List all ordered faults, with how many calls each has hit."""
        return _struct({"faults": [asdict(fault) for fault in self._faults.faults]})

    async def clear_faults(self, _request: Struct, _: Call) -> Struct:
        """Forget all faults."""
        self._faults.clear()
        return Struct()

    async def count_calls(self, _request: Struct, _: Call) -> Struct:
        """Count calls by method."""
        return _struct({"counts": self._calls.counts()})

    async def list_deadlines(self, request: Struct, _: Call) -> Struct:
        """List the seconds that calls of one method had left."""
        try:
            seconds = self._calls.deadlines(str(MessageToDict(request).get("method", "")))
        except ValueError as error:
            raise invalid(str(error)) from error
        return _struct({"seconds": seconds})

    async def reset_calls(self, _request: Struct, _: Call) -> Struct:
        """Forget the calls of before."""
        self._calls.reset()
        return Struct()

    async def fail_resource(self, request: Struct, _: Call) -> Struct:
        """Let a persistent resource fall into ERROR."""
        fields: dict[str, Any] = MessageToDict(request)
        try:
            self._resources.fail(str(fields.get("name", "")), str(fields.get("text", CLUSTER_ERROR)))
        except ApiError as error:
            raise invalid(error.text) from error
        return Struct()

    async def set_stock(self, request: Struct, _: Call) -> Struct:
        """Say how many machines there are from now on, and hear what looks like a slip."""
        fields: dict[str, Any] = MessageToDict(request)
        where = str(fields.get("where", ""))
        try:
            self._world.capacity.set_stock(where, str(fields.get("stock", "")))
        except ValueError as error:
            raise invalid(str(error)) from error
        return _struct({"doubts": doubts(where)})

    async def list_capacity(self, _request: Struct, _: Call) -> Struct:
        """List machines outside persistent resources, what was said of them, quota, and who waits for what."""
        capacity, now = self._world.capacity, self._world.clock()
        rules = [
            {"where": rule.where, "stock": rule.text, "since": (now - rule.since).total_seconds()}
            for rule in capacity.wildcards()
        ]
        return _struct(
            {
                "capacity": [self._shown(shelf) for shelf in capacity.shelves()],
                "wildcards": rules,
                "quota": [self._account(account) for account in self._world.quota.accounts()],
            }
        )

    def _account(self, account: Account) -> dict[str, Any]:
        """One metric of a quota."""
        where, metric = account.item
        return {
            "project": where.project,
            "region": where.region,
            "metric": metric,
            "limit": account.limit,
            "in_use": account.in_use,
            "queue": [self._place(job, gpus=gpus) for job, gpus in account.queue],
        }

    def _shown(self, shelf: Shelf) -> dict[str, Any]:
        change = shelf.next_change
        return {
            "region": shelf.item.where.region,
            "machine_type": shelf.item.what,
            "stock": _count(shelf.stock),
            "in_use": shelf.in_use,
            "next_change": change.moment.isoformat() if change else None,
            "next_stock": _count(change.amount) if change else None,
            "queue": [self._place(job, nodes=nodes) for job, nodes in shelf.queue],
        }

    def _place(self, key: Key, **count: int) -> dict[str, Any]:
        """
        One job in a queue.

        :param count: what it waits for, e.g. ``nodes=2``.
        """
        job = self._world.store.jobs.get(key)
        assert job is not None  # noqa: S101 - only jobs that have ended leave the store
        return {
            "job": job.name,
            **count,
            "waited": (self._world.clock() - job.create_time).total_seconds(),
            "wait_limit": wait_limit(job.job_spec),
        }

    async def preempt(self, request: Struct, _: Call) -> Struct:
        """Take the machines of a Spot job away."""
        job = str(MessageToDict(request).get("job", ""))
        job_id = job.rpartition("/")[2]
        if self._world.capacity.preempt(job_id):
            return Struct()
        if any(key.id == job_id for key, _ in self._world.store.jobs.newest_first()):
            raise invalid(f"job {job!r} is no SPOT job that has machines")
        raise invalid(f"there is no job {job!r}")


def _count(stock: float) -> int | None:
    """How a number of machines is sent: a Struct has no infinity."""
    return None if stock == UNLIMITED else int(stock)


def _whole(name: str, value: float) -> int:
    if int(value) != value:
        raise ValueError(f"{name}={value!r} is no whole number")
    return int(value)


def _struct(content: dict[str, Any]) -> Struct:
    struct = Struct()
    struct.update(content)
    return struct
