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

from airflow_vertex_persistent.call_problems import is_transient
from airflow_vertex_persistent.triggers.watch import backoff_seconds, loop_time

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping, Sequence
    from collections.abc import Set as AbstractSet

    from airflow_vertex_persistent.hooks.client import VertexAsyncHook
    from airflow_vertex_persistent.names import Identity
    from airflow_vertex_persistent.triggers.base import VertexTrigger

    # ``None``: the thing is not there.
    Snapshots = dict[Identity, Mapping[str, Any] | None]

READS_PER_MINUTE = 100
"""What one loop spends on average; it stretches its interval for that."""
_SECONDS_PER_READ = 60 / READS_PER_MINUTE
# Questions of newcomers are gathered for this long and then asked together, ahead of the next round.
_GATHER_SECONDS = 1.0
# Newcomers wait for the next round once so much of the budget is spent in advance.
_LARGEST_DEBT = 60.0
# So many triggers may look by themselves in one round, where looking together did not help them.
_TURNS = 50


class Source(Protocol):
    """
    Where a loop reads, in one region or several, of which none waits for the answer of another.

    Returned are the errors of the service, by region; what had been read there before is in ``found`` all the same.
    What is refused when it is read by itself is left out: its trigger will look again, and know.
    """

    @property
    def hook(self) -> VertexAsyncHook:
        """Its client, for triggers that have a question of their own."""

    @property
    def regions(self) -> Sequence[str]:
        """All its regions."""

    @property
    def reads(self) -> int:
        """How many calls it has made."""

    async def read_moving(self, found: Snapshots) -> Mapping[str, Exception]:
        """Read what is on its way, as far as a few calls can tell: nothing, where they cannot."""

    async def read(self, asked: Mapping[Identity, Any], found: Snapshots) -> Mapping[str, Exception]:
        """Read the things asked for, by their triggers, as far as they have not been read yet."""


@dataclass
class Look:
    """
    What a loop saw in one round.

    :param hook: The loop's client.
    :param whole: Everything that is on its way was read, not just what newcomers asked for.
    :param ask: Has a trigger's thing read in the next round; with ``hurry`` ahead of it.
    :param found: What was read.
    :param errors: Why not everything could be read, by region.
    :param turns: Whose triggers should look by themselves: refused, or not found, together with others.
    """

    hook: VertexAsyncHook
    whole: bool
    ask: Callable[..., None]
    found: Snapshots = field(default_factory=dict)
    errors: dict[str, Exception] = field(default_factory=dict)
    turns: AbstractSet[Identity] = frozenset()

    def outage(self, region: str) -> Exception | None:
        """Return why not everything could be read in a region, if that passes by itself."""
        error = self.errors.get(region)
        return error if error is not None and is_transient(error) else None


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
        self._hurrying: dict[Identity, VertexTrigger] = {}
        self._hurry = asyncio.Event()
        self._failures = 0
        # When a read more would be within the budget, and when the next round is due.
        self._paid = self._due = loop_time()

    async def looks(self) -> AsyncIterator[Look]:
        """Yield what is seen, round after round."""
        whole = True
        while True:
            look = await self._look(whole=whole)
            yield look
            whole = await self._pause()

    def _ask(self, trigger: VertexTrigger, *, hurry: bool = False) -> None:
        (self._hurrying if hurry else self._asked)[trigger.name.identity] = trigger
        if hurry:
            self._hurry.set()

    def _take_asked(self, *, whole: bool) -> dict[Identity, VertexTrigger]:
        asked, self._hurrying = self._hurrying, {}
        self._hurry.clear()
        if whole:
            asked, self._asked = self._asked | asked, {}
        return asked

    async def _look(self, *, whole: bool) -> Look:
        asked = self._take_asked(whole=whole)
        began, before = loop_time(), self._source.reads
        look = Look(self._source.hook, whole, self._ask)
        await self._read(look, asked)
        # Where one region still answers, what is there is looked at as before.
        away = all(look.outage(region) is not None for region in self._source.regions)
        self._failures = self._failures + 1 if away else 0
        look.turns = self._give_turns(asked, look)
        # Paid for from now on: the first round waits for its client, for seconds while a triggerer starts, and that
        # is no time without calls which later rounds may make up for.
        cost = (self._source.reads - before + len(look.turns)) * _SECONDS_PER_READ
        self._paid = max(self._paid, loop_time()) + cost
        if whole or away:
            self._due = began + backoff_seconds(self._interval, self._failures)
        return look

    async def _read(self, look: Look, asked: Mapping[Identity, VertexTrigger]) -> None:
        if look.whole:
            look.errors |= await self._source.read_moving(look.found)
        # Where listing is refused, what is asked for is read in another way.
        there = {
            identity: trigger
            for identity, trigger in asked.items()
            if look.outage(trigger.name.region) is None
        }
        if there:
            look.errors |= await self._source.read(there, look.found)

    def _give_turns(self, asked: Mapping[Identity, VertexTrigger], look: Look) -> AbstractSet[Identity]:
        """Return whose turn it is to look alone; the others stay in front, for the next round."""
        lost = [
            identity
            for identity, trigger in asked.items()
            if identity not in look.found and look.outage(trigger.name.region) is None
        ]
        self._asked = {identity: asked[identity] for identity in lost[_TURNS:]} | self._asked
        return frozenset(lost[:_TURNS])

    async def _pause(self) -> bool:
        """Wait for the next round, or for newcomers; tell whether it is a whole one."""
        while (left := max(self._due, self._paid) - loop_time()) > 0:
            may_hurry = not self._failures and self._paid - loop_time() < _LARGEST_DEBT
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
