# SPDX-License-Identifier: Apache-2.0
"""How many GPUs each project may use in each region, and the jobs that wait for some of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from .ledger import Item, Ledger
from .names import Location
from .timetable import UNLIMITED
from .turns import Turns

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Mapping

    from .ledger import Needs
    from .names import Key


class Account(NamedTuple):
    """
    One metric in one region that has a limit, as it is now.

    :param item: the metric, in a region of a project; neither needs to be one, as the limit may be for all of them.
    :param queue: jobs that wait, the next one first, with what each needs.
    """

    item: Item
    limit: int
    in_use: int
    queue: list[tuple[Key, int]]


class Quota:
    """
    The limits and who uses how much; what nobody speaks of has no limit.

    :param limits: by ``REGION/METRIC``; the region may be ``*``, and each region has the limit for itself even so.
    """

    def __init__(self, limits: Mapping[str, int]) -> None:
        self._limits = limits
        self._ledger = Ledger()
        self._turns = Turns()

    def _limit(self, item: Item) -> float:
        default = self._limits.get(f"*/{item.what}", UNLIMITED)
        return self._limits.get(f"{item.where.region}/{item.what}", default)

    def accounts(self) -> list[Account]:
        """Everything that has a limit: where somebody uses it or waits for it, else as the limit was given."""
        used = {item for item in self._ledger.items() if self._limit(item) != UNLIMITED}
        given = {tuple(name.split("/")) for name in self._limits}
        idle = given - {(item.where.region, item.what) for item in used} - {("*", item.what) for item in used}
        items = used | {Item(Location(None, region), metric) for region, metric in idle}
        return [
            Account(
                item,
                int(self._limit(item)),
                self._ledger.used(item),
                [(job, needs[item]) for job, needs in self._ledger.waiting().items() if item in needs],
            )
            for item in sorted(
                items, key=lambda item: (item.what, item.where.region, item.where.project or "")
            )
        ]

    def limited(self, needs: Needs) -> list[tuple[str, int, int]]:
        """Metric, limit and use of what is needed and has a limit."""
        limits = {item: self._limit(item) for item in needs}
        return [
            (item.what, int(limit), self._ledger.used(item))
            for item, limit in limits.items()
            if limit != UNLIMITED
        ]

    def exceeded(self, needs: Needs) -> list[str]:
        """Metrics that can never have what is needed."""
        return sorted(item.what for item, count in needs.items() if count > self._limit(item))

    def queue(self, job: Key, needs: Needs) -> asyncio.Event:
        """
        Let a job have what it needs, or wait for it.

        :return: set when it has it, which it keeps until :meth:`release`.
        """
        turn = self._turns.add(job)
        if needs:
            self._ledger.queue(job, needs)
            self._settle()
        else:
            turn.set()
        return turn

    def take(self, resource: Key, needs: Needs) -> list[str]:
        """
        Let a persistent resource have what it needs, if it has not.

        :return: metrics of which too little is left now; empty when it has everything.
        """
        if resource in self._ledger.holders() or self._ledger.take(resource, needs, self._limit):
            return []
        used = self._ledger.used
        return sorted(item.what for item, count in needs.items() if used(item) + count > self._limit(item))

    def hold(self, resource: Key, needs: Needs) -> None:
        """Count what a persistent resource has already."""
        self._ledger.hold(resource, needs)

    def release(self, key: Key) -> None:
        """Give back what a job or a persistent resource has, or its place in the queue."""
        self._turns.drop(key)
        self._ledger.release(key)
        self._settle()

    def _settle(self) -> None:
        self._turns.call(self._ledger.grant(self._limit))
