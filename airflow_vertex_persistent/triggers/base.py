# SPDX-License-Identifier: Apache-2.0
"""
The one loop that waits for Vertex AI.

A deferred task runs it in the triggerer, a blocking one on its worker (:meth:`VertexTrigger.watch_here`), so
that both see the same and end the same way.
"""

from __future__ import annotations

import asyncio
import contextvars
import random
import threading
import time
from abc import abstractmethod
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, Literal, TypedDict

from airflow.triggers.base import BaseTrigger, TriggerEvent

from airflow_vertex_persistent.exceptions import call_problem, is_transient

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Coroutine, Mapping, Sequence

    from airflow_vertex_persistent.hooks.client import VertexAsyncHook
    from airflow_vertex_persistent.names import ResourceName

# The pause after a failed look doubles each time, up to this many seconds.
_LONGEST_OUTAGE_PAUSE = 300.0
_MAX_DOUBLINGS = 30
# Every pause is stretched by up to a tenth, so that many tasks do not all ask at the same moment.
_JITTER = 0.1
# How long a task that was interrupted waits for its event loop to close.
_THREAD_END_TIMEOUT = 5.0


class WatchEvent(TypedDict):
    """
    What a trigger ends with. ``name`` is the full name of the thing.

    ``settled``: the thing reached an end, ``snapshot`` says which (``None``: it is not there). ``failed``: the
    service refused to tell. ``unreachable``: it gave no answer for ``max_outage``.
    """

    name: str
    status: Literal["settled", "failed", "unreachable"]
    snapshot: dict[str, Any] | None
    error: str


def outage_pause(interval: float, failures: int) -> float:
    """
    Return the seconds to wait before asking again.

    :param interval: Seconds between two questions while all is well.
    :param failures: Questions in a row that had no answer; each doubles the pause, up to a limit.
    """
    pause: float = min(interval * 2 ** min(failures, _MAX_DOUBLINGS), max(interval, _LONGEST_OUTAGE_PAUSE))
    return pause * random.uniform(1, 1 + _JITTER)  # noqa: S311 - spreads load, guards nothing


class VertexTrigger(BaseTrigger):
    """
    Looks at one thing on Vertex AI until it settles, and yields one event.

    A leaf says what to ask (:meth:`looking`), when that has settled, and in ``fields`` which parameters it
    stores. Stored parameters are read back by later versions: they may only grow, always with a default.

    :param region: Where the thing is.
    :param gcp_conn_id: Connection to use.
    :param impersonation_chain: Service account to impersonate, or the chain that leads to it.
    :param poll_interval: Seconds between two looks.
    :param max_outage: Seconds for which transient errors in a row are waited out.
    """

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

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the class path and everything that is needed to build this trigger again."""
        cls = type(self)
        return f"{cls.__module__}.{cls.__qualname__}", {field: getattr(self, field) for field in self.fields}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Yield the one event."""
        yield TriggerEvent(await self.watch())

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

    async def watch(self) -> WatchEvent:
        """Look until the thing settles."""
        watch = Watch(self)
        async with self.hook() as hook:
            while True:
                try:
                    snapshot = await self.look(hook)
                except Exception as error:
                    if call_problem(error) is None:
                        raise
                    event = watch.missed(error, time.monotonic())
                else:
                    event = watch.saw(snapshot)
                if event is not None:
                    return event
                await asyncio.sleep(watch.pause(time.monotonic()))

    def watch_here(self) -> WatchEvent:
        """
        Watch from a worker, blocking, and return the event.

        The loop has a thread of its own: Airflow interrupts the main thread with signals, and an event loop
        there could swallow the exception that the handler of the execution timeout raises.
        """
        return _run_in_thread(self.watch())


class Watch:
    """
    What one look after the other means for one watcher. States and outages are logged once per change.

    :param trigger: Whose thing is looked at, and whose log tells of it.
    """

    def __init__(self, trigger: VertexTrigger) -> None:
        self._trigger = trigger
        self._state: str | None = None
        self._outage_start: float | None = None
        self._failures = 0

    def saw(self, snapshot: Mapping[str, Any] | None) -> WatchEvent | None:
        """Note a look that succeeded; return the event if it was the last."""
        if self._outage_start is not None:
            self._outage_start, self._failures = None, 0
            self._trigger.log.info("Vertex AI answers again")
        if snapshot is not None and snapshot["state"] != self._state:
            self._state = snapshot["state"]
            state = snapshot["state"].removeprefix("JOB_STATE_")
            self._trigger.log.info("%s is %s", self._trigger.subject, state)
        if not self._trigger.settled(snapshot):
            return None
        return self._event("settled", snapshot)

    def missed(self, error: Exception, now: float) -> WatchEvent | None:
        """Note a look that failed at ``now`` (monotonic seconds); return the event if it was the last."""
        if not is_transient(error):
            return self._event("failed", error=str(error))
        if self._outage_start is None:
            self._outage_start = now
            self._trigger.log.warning("No answer from Vertex AI, still trying: %s", error)
        self._failures += 1
        if now - self._outage_start >= self._trigger.max_outage:
            return self._event("unreachable", error=str(error))
        return None

    def _event(
        self,
        status: Literal["settled", "failed", "unreachable"],
        snapshot: Mapping[str, Any] | None = None,
        error: str = "",
    ) -> WatchEvent:
        return {
            "name": str(self._trigger.name),
            "status": status,
            "snapshot": None if snapshot is None else dict(snapshot),
            "error": error,
        }

    def pause(self, now: float) -> float:
        """Return the seconds until the next look; growing in an outage, but never past ``max_outage``."""
        if self._outage_start is None:
            return outage_pause(self._trigger.poll_interval, 0)
        left = self._outage_start + self._trigger.max_outage - now
        return min(outage_pause(self._trigger.poll_interval, self._failures), max(left, 0.0))


def _run_in_thread(work: Coroutine[Any, Any, WatchEvent]) -> WatchEvent:
    """Run ``work`` in an event loop of its own; an exception in the waiting thread cancels it."""
    result: Future[WatchEvent] = Future()
    loop = asyncio.new_event_loop()
    task = loop.create_task(work)

    def run() -> None:
        try:
            result.set_result(loop.run_until_complete(task))
        except BaseException as error:  # noqa: BLE001 - handed to the waiting thread
            result.set_exception(error)
        finally:
            loop.close()

    thread = threading.Thread(target=contextvars.copy_context().run, args=(run,), daemon=True)
    try:
        thread.start()
        return result.result()
    except BaseException:
        if not result.done():
            loop.call_soon_threadsafe(task.cancel)
        raise
    finally:
        if thread.ident is not None:
            thread.join(timeout=_THREAD_END_TIMEOUT)
