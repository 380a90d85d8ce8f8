# SPDX-License-Identifier: Apache-2.0
"""
What waits for Vertex AI.

A deferred task waits in the triggerer, where triggers share their looks, a blocking one on its worker
(:meth:`VertexTrigger.watch_here`), where it looks by itself. Both judge what they see alike and end the same way.
"""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from typing import TYPE_CHECKING, Any

from airflow.triggers.base import BaseEventTrigger, TriggerEvent

from airflow_vertex_persistent.call_problems import call_problem
from airflow_vertex_persistent.triggers.blocking import run_in_thread
from airflow_vertex_persistent.triggers.sharing import SharedLooks
from airflow_vertex_persistent.triggers.watch import Watch, loop_time

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Hashable, Mapping, Sequence

    from airflow_vertex_persistent.hooks.client import VertexAsyncHook
    from airflow_vertex_persistent.names import ResourceName
    from airflow_vertex_persistent.triggers.sharing import Look, Source
    from airflow_vertex_persistent.triggers.watch import WatchEvent


class VertexTrigger(BaseEventTrigger):
    """
    Looks at one thing on Vertex AI until it settles, and yields one event.

    A leaf says what to ask, alone or together with others, when that has settled, and in ``fields`` which
    parameters it stores. Stored parameters are read back by later versions: they may only grow, always
    with a default.

    :param region: Where the thing is.
    :param gcp_conn_id: Connection to use.
    :param impersonation_chain: Service account to impersonate, or the chain that leads to it.
    :param poll_interval: Seconds between two looks.
    :param max_outage: Seconds for which transient errors in a row are waited out.
    """

    # An event trigger is kept out of triggerers that serve one queue only, unless it says otherwise.
    supports_triggerer_queue = True

    fields: tuple[str, ...] = ("region", "gcp_conn_id", "impersonation_chain", "poll_interval", "max_outage")

    def __init__(
        self,
        *,
        region: str,
        gcp_conn_id: str,
        impersonation_chain: str | Sequence[str] | None,
        poll_interval: float,
        max_outage: float,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.region = region
        self.gcp_conn_id = gcp_conn_id
        self.impersonation_chain = impersonation_chain
        self.poll_interval = poll_interval
        self.max_outage = max_outage
        # The shared loop's. It stays open until this trigger has ended, on_kill included.
        self.shared_hook: VertexAsyncHook | None = None

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the class path and everything that is needed to build this trigger again."""
        cls = type(self)
        return f"{cls.__module__}.{cls.__qualname__}", {field: getattr(self, field) for field in self.fields}

    @property
    @abstractmethod
    def name(self) -> ResourceName:
        """Full name of the thing."""

    @property
    @abstractmethod
    def subject(self) -> str:
        """Short name of the thing, for the log."""

    @abstractmethod
    def hook(self) -> VertexAsyncHook:
        """Return the hook that :meth:`look` asks."""

    @abstractmethod
    async def look(self, hook: Any) -> Mapping[str, Any] | None:
        """Return what the thing is like now, ``None`` if it is not there."""

    @abstractmethod
    def settled(self, snapshot: Mapping[str, Any] | None) -> bool:
        """Tell whether there is nothing more to wait for."""

    def overdue(self, snapshot: Mapping[str, Any] | None) -> bool:
        """Tell whether a thing that has not settled has waited for too long."""
        return False

    @abstractmethod
    def source(self, hook: Any) -> Source:
        """Return where this thing and its like are read together."""

    @abstractmethod
    def source_key(self) -> tuple[Hashable, ...]:
        """Return what must be the same, besides connection and interval, for two things to be read together."""

    def progress(self, snapshot: Mapping[str, Any]) -> str:
        """Return what the log says behind a state."""
        return ""

    async def details(self, hook: Any, snapshot: Mapping[str, Any] | None) -> dict[str, Any]:
        """Return what the task will want to tell of a thing whose watch has ended."""
        return {}

    def shared_stream_key(self) -> Hashable | None:
        """
        Return what triggers must have in common to share a loop.

        The loop sees the parameters of its first trigger only: everything that it needs is in the key.
        """
        chain = self.impersonation_chain
        chain = chain if chain is None or isinstance(chain, str) else tuple(chain)
        return (type(self), self.gcp_conn_id, chain, self.poll_interval, *self.source_key())

    @classmethod
    async def open_shared_stream(cls, kwargs: dict[str, Any]) -> AsyncIterator[Look]:
        """Yield what the loop of all triggers with the same key sees."""
        trigger = cls(**kwargs)
        async with trigger.hook() as hook:
            async for look in SharedLooks(trigger.source(hook), trigger.poll_interval).looks():
                yield look

    async def filter_shared_stream(self, shared_stream: AsyncIterator[Look]) -> AsyncIterator[TriggerEvent]:
        """Yield the one event, from what the shared loop sees."""
        watch = Watch(self)
        newcomer = True
        async for look in shared_stream:
            self.shared_hook = look.hook
            event = await self._judge(watch, look)
            if event is not None:
                yield TriggerEvent(event)
                return
            # What ended before this first look is not among what is on its way: it need not wait for the next round.
            look.ask(self, hurry=newcomer and look.whole and self.name.identity not in look.found)
            newcomer = newcomer and not look.whole

    async def _judge(self, watch: Watch, look: Look) -> WatchEvent | None:
        """Return the event if a shared look was the last."""
        identity = self.name.identity
        if identity in look.found:
            return await self._saw(watch, look.hook, look.found[identity])
        if identity in look.turns:
            return await self._look_alone(watch, look.hook)
        error = look.outage(self.name.region)
        return None if error is None else watch.missed(error, loop_time())

    async def _look_alone(self, watch: Watch, hook: VertexAsyncHook) -> WatchEvent | None:
        try:
            snapshot = await self.look(hook)
        except Exception as error:
            if call_problem(error) is None:
                raise
            return watch.missed(error, loop_time())
        return await self._saw(watch, hook, snapshot)

    async def _saw(
        self, watch: Watch, hook: VertexAsyncHook, snapshot: Mapping[str, Any] | None
    ) -> WatchEvent | None:
        event = watch.saw(snapshot, loop_time())
        if event is not None:
            event["details"] = await self.details(hook, snapshot)
        return event

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Yield the one event, from looks of its own."""
        yield TriggerEvent(await self.watch())

    async def watch(self) -> WatchEvent:
        """Look until the thing settles."""
        watch = Watch(self)
        async with self.hook() as hook:
            while True:
                if event := await self._look_alone(watch, hook):
                    return event
                await asyncio.sleep(watch.pause(loop_time()))

    def watch_here(self) -> WatchEvent:
        """Watch from a worker, blocking, and return the event."""
        return run_in_thread(self.watch())
