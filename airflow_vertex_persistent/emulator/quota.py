# SPDX-License-Identifier: Apache-2.0
"""How many GPUs each project may use in each region, and the jobs that wait for some of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .ledger import Ledger
from .timetable import UNLIMITED
from .turns import Turns

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Mapping

    from .ledger import Item, Needs
    from .names import Key


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
