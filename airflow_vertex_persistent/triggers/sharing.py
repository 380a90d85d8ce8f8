# SPDX-License-Identifier: Apache-2.0
"""
One loop that looks at Vertex AI for many triggers.

Vertex AI allows 600 reads a minute in a project and region. Triggers that may share a connection, project and
interval share one loop, which reads many things with one call and hands what it saw to all of them; each picks
out its own. The loop does not log, since it would do so in the log of whichever task came first, and it raises
only for our own bugs: an error of the service is handed on like an answer.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from airflow_vertex_persistent.exceptions import call_problem
from airflow_vertex_persistent.triggers.watch import outage_pause

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping

    from airflow_vertex_persistent.hooks.client import VertexAsyncHook
    from airflow_vertex_persistent.names import Identity
    from airflow_vertex_persistent.triggers.base import VertexTrigger

    Snapshots = dict[Identity, Mapping[str, Any]]

READS_PER_MINUTE = 100
"""What one loop spends on average; it stretches its interval for that."""
_SECONDS_PER_READ = 60 / READS_PER_MINUTE
# Questions of newcomers are gathered for this long and then asked together, ahead of the next round.
_GATHER_SECONDS = 1.0
# Newcomers wait for the next round once so much of the budget is spent in advance.
_LARGEST_DEBT = 60.0


def _now() -> float:
    return asyncio.get_running_loop().time()


class Source(Protocol):
    """Where a loop reads."""

    @property
    def hook(self) -> VertexAsyncHook:
        """Its client, for triggers that have a question of their own."""

    @property
    def reads(self) -> int:
        """How many calls it has made."""

    async def read_moving(self) -> Snapshots:
        """Return what is on its way, as far as a few calls can tell: nothing, where they cannot."""

    async def read(self, asked: Mapping[Identity, VertexTrigger]) -> Snapshots:
        """Return those of the things asked for that are there."""


@dataclass
class Look:
    """
    What a loop saw in one round.

    :param hook: The loop's client.
    :param whole: Everything that is on its way was read, not just what newcomers asked for.
    :param found: What was read.
    :param missing: What was asked for and is not there.
    :param error: Why nothing could be read.
    :param ask: Has a trigger's thing read in the next round; with ``hurry`` ahead of it.
    """

    hook: VertexAsyncHook
    whole: bool
    ask: Callable[..., None]
    found: Snapshots = field(default_factory=dict)
    missing: set[Identity] = field(default_factory=set)
    error: Exception | None = None


class SharedLooks:
    """
    The loop.

    :param source: Where it reads.
    :param interval: Seconds between two rounds, stretched when they would cost more than the budget.
    """

    def __init__(self, source: Source, interval: float) -> None:
        self._source = source
        self._interval = interval
        self._asked: dict[Identity, VertexTrigger] = {}
        self._hurry = asyncio.Event()
        self._failures = 0
        # When a read more would be within the budget, and when the next round is due.
        self._paid = self._due = _now()

    async def looks(self) -> AsyncIterator[Look]:
        """Yield what is seen, round after round."""
        whole = True
        while True:
            look = await self._look(whole=whole)
            yield look
            whole = await self._pause()

    def _ask(self, trigger: VertexTrigger, *, hurry: bool = False) -> None:
        self._asked[trigger.name.identity] = trigger
        if hurry:
            self._hurry.set()

    async def _look(self, *, whole: bool) -> Look:
        asked, self._asked = self._asked, {}
        self._hurry.clear()
        began, before = _now(), self._source.reads
        look = Look(self._source.hook, whole, self._ask)
        try:
            if whole:
                look.found = await self._source.read_moving()
            rest = {identity: trigger for identity, trigger in asked.items() if identity not in look.found}
            if rest:
                look.found |= await self._source.read(rest)
        except Exception as error:
            if call_problem(error) is None:
                raise
            look.error = error
            self._failures += 1
        else:
            look.missing = rest.keys() - look.found.keys()
            self._failures = 0
        cost = (self._source.reads - before) * _SECONDS_PER_READ
        self._paid = max(self._paid, began) + cost
        if whole or self._failures:
            self._due = began + outage_pause(self._interval, self._failures)
        return look

    async def _pause(self) -> bool:
        """Wait for the next round, or for newcomers; tell whether it is a whole one."""
        while (left := max(self._due, self._paid) - _now()) > 0:
            may_hurry = not self._failures and self._paid - _now() < _LARGEST_DEBT
            if not may_hurry:
                await asyncio.sleep(left)
                continue
            try:
                async with asyncio.timeout(left):
                    await self._hurry.wait()
                await asyncio.sleep(_GATHER_SECONDS)
            except TimeoutError:
                continue
            return False
        return True
