# SPDX-License-Identifier: Apache-2.0
"""Machines outside persistent resources, with time added: Flex Start jobs wait, Spot jobs lose what gets scarce."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, NamedTuple

from .ledger import Item, Ledger
from .names import Location
from .turns import Turns

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from .ledger import Needs, Supply
    from .names import Key
    from .stock import Rule, Stock
    from .timetable import Change


class Shelf(NamedTuple):
    """
    One machine type in one region, as it is now.

    :param stock: machines that there are; may be infinite.
    :param queue: Flex Start jobs that wait, the next one first, with the machines that each needs.
    """

    item: Item
    stock: float
    in_use: int
    next_change: Change | None
    queue: list[tuple[Key, int]]


class Capacity:
    """
    Gives machines to jobs and takes them back.

    Flex Start jobs queue by region and machine type. Others do not: they take what is free when they look, which may
    be machines that are too few for the job that is next in the queue.

    :param stock: how many machines there are.
    :param clock: says what time it is.
    """

    def __init__(self, stock: Stock, clock: Callable[[], datetime]) -> None:
        self._stock = stock
        self._clock = clock
        self._ledger = Ledger()
        self._turns = Turns()
        self._preemptible: dict[Key, asyncio.Event] = {}
        self._timer: asyncio.TimerHandle | None = None

    def queue(self, job: Key, needs: Needs) -> asyncio.Event:
        """
        Queue a Flex Start job.

        :return: set when it has its machines, which are its own until :meth:`release`.
        """
        turn = self._turns.add(job)
        self._ledger.queue(job, needs)
        self._settle()
        return turn

    def take(self, job: Key, needs: Needs, preempted: asyncio.Event | None = None) -> bool:
        """
        Give a job machines that are free now.

        :param preempted: is set when the job has to go.
        :return: whether there were enough.
        """
        self._settle()
        if not self._ledger.take(job, needs, self._supply(self._clock())):
            return False
        if preempted is not None:
            self._preemptible[job] = preempted
        return True

    def release(self, job: Key) -> None:
        """Put a job's machines back, or take it out of the queue."""
        self._turns.drop(job)
        self._preemptible.pop(job, None)
        self._ledger.release(job)
        self._settle()

    def preempt(self, job_id: str) -> bool:
        """Take a Spot job's machines away; ``False`` when it has none, or is no Spot job."""
        preempted = next((event for job, event in self._preemptible.items() if job.id == job_id), None)
        if preempted is None or preempted.is_set():
            return False
        preempted.set()
        return True

    def set_stock(self, where: str, text: str) -> None:
        """
        Say how many machines there are from now on.

        :raises ValueError: for what cannot be read.
        """
        self._stock.set(where, text, self._clock())
        self._settle()

    def wildcards(self) -> list[Rule]:
        """What was said of the stock of several regions or machine types at once."""
        return self._stock.wildcards()

    def shelves(self) -> list[Shelf]:
        """Everything that is in use, waited for or named in the stock, by region and machine type."""
        now = self._clock()
        supply = self._supply(now)
        named = {Item(Location(None, region), machine) for region, machine in self._stock.named()}
        return [
            Shelf(
                item,
                supply(item),
                self._ledger.used(item),
                self._stock.next_change(str(item.where.region), item.what, now),
                [(job, needs[item]) for job, needs in self._ledger.waiting().items() if item in needs],
            )
            for item in sorted(
                {*named, *self._ledger.items()}, key=lambda item: (item.where.region, item.what)
            )
        ]

    def _supply(self, now: datetime) -> Supply:
        return lambda item: self._stock.at(str(item.where.region), item.what, now)

    def _settle(self) -> None:
        """Bring everything in line with what there is now, and come back when that changes."""
        now = self._clock()
        supply = self._supply(now)
        self._turns.call(self._ledger.grant(supply))
        if self._preemptible:
            leaving = {job for job, preempted in self._preemptible.items() if preempted.is_set()}
            for job in self._ledger.excess(supply, self._preemptible.keys() - leaving, leaving):
                self._preemptible[job].set()
        if self._timer is not None:
            self._timer.cancel()
        changes = (
            self._stock.next_change(str(item.where.region), item.what, now) for item in self._ledger.items()
        )
        if moments := [change.moment for change in changes if change]:
            delay = (min(moments) - now).total_seconds()
            self._timer = asyncio.get_running_loop().call_later(delay, self._settle)

    def close(self) -> None:
        """Stop the timer."""
        if self._timer is not None:
            self._timer.cancel()
