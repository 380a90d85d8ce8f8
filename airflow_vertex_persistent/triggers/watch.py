# SPDX-License-Identifier: Apache-2.0
"""What one answer of Vertex AI after the other means for whoever waits, and what is said of it in the log."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING, Any, Literal, TypedDict

from airflow_vertex_persistent.call_problems import is_transient
from airflow_vertex_persistent.exceptions import PermissionDeniedError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow_vertex_persistent.triggers.base import VertexTrigger

# The pause after a call without an answer doubles each time, up to this many seconds.
_LONGEST_OUTAGE_PAUSE = 60.0
_MAX_DOUBLINGS = 30
# Every pause is stretched by up to a tenth, so that many tasks do not all ask at the same moment.
_JITTER = 0.1
# What is less can be lost when seconds are added up.
_MOMENT = 1e-6
# A state that does not change is said again after a while, so that a log shows that it is alive: the pause doubles.
_FIRST_PROGRESS_SECONDS, _PROGRESS_SECONDS = 60.0, 600.0


class WatchEvent(TypedDict):
    """
    What a trigger ends with. ``name`` is the full name of the thing.

    ``settled``: the thing reached an end, ``snapshot`` says which (``None``: it is not there) and ``details``
    what else the task will want to tell. ``overdue``: the thing has waited for too long. ``denied``: the caller lacks
    a permission. ``failed``: the service refused to tell for another reason. ``unreachable``: it gave no answer for
    ``max_outage``.
    """

    name: str
    status: Literal["settled", "overdue", "denied", "failed", "unreachable"]
    snapshot: dict[str, Any] | None
    details: dict[str, Any]
    error: str


def loop_time() -> float:
    """Return the monotonic seconds of the running event loop."""
    return asyncio.get_running_loop().time()


def backoff_seconds(interval: float, failures: int, longest: float = _LONGEST_OUTAGE_PAUSE) -> float:
    """
    Return the seconds to wait before asking again.

    :param interval: Seconds between two questions while all is well.
    :param failures: Questions in a row that had no answer; each doubles the pause, up to a limit.
    :param longest: That limit in seconds, unless ``interval`` is longer.
    """
    pause: float = min(interval * 2 ** min(failures, _MAX_DOUBLINGS), max(interval, longest))
    return pause * random.uniform(1, 1 + _JITTER)  # noqa: S311 - spreads load, guards nothing


class Watch:
    """
    What one look after the other means for one watcher. States and outages are logged once per change.

    All times are monotonic seconds.

    :param trigger: Whose thing is looked at, and whose log tells of it.
    """

    def __init__(self, trigger: VertexTrigger) -> None:
        self._trigger = trigger
        self._state: str | None = None
        self._said = 0.0
        self._quiet = _FIRST_PROGRESS_SECONDS
        self._outage_start: float | None = None
        self._failures = 0

    def saw(self, snapshot: Mapping[str, Any] | None, now: float) -> WatchEvent | None:
        """Note a look that succeeded at ``now``; return the event if it was the last."""
        if self._outage_start is not None:
            self._outage_start, self._failures = None, 0
            self._trigger.log.info("Vertex AI answers again")
        if snapshot is not None:
            self._tell(snapshot, now)
        if self._trigger.settled(snapshot):
            return self._event("settled", snapshot)
        if self._trigger.overdue(snapshot):
            return self._event("overdue", snapshot)
        return None

    def _tell(self, snapshot: Mapping[str, Any], now: float) -> None:
        changed = snapshot["state"] != self._state
        if not changed and now - self._said < self._quiet:
            return
        self._quiet = _FIRST_PROGRESS_SECONDS if changed else min(2 * self._quiet, _PROGRESS_SECONDS)
        self._state, self._said = snapshot["state"], now
        self._trigger.log.info(
            "%s is %s%s%s",
            self._trigger.subject,
            "" if changed else "still ",
            snapshot["state"].removeprefix("JOB_STATE_"),
            self._trigger.progress(snapshot),
        )

    def missed(self, error: Exception, now: float) -> WatchEvent | None:
        """Note a look that failed at ``now``; return the event if it was the last."""
        if isinstance(error, PermissionDeniedError):
            return self._event("denied", error=str(error))
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
        status: Literal["settled", "overdue", "denied", "failed", "unreachable"],
        snapshot: Mapping[str, Any] | None = None,
        error: str = "",
    ) -> WatchEvent:
        return {
            "name": str(self._trigger.name),
            "status": status,
            "snapshot": None if snapshot is None else dict(snapshot),
            "details": {},
            "error": error,
        }

    def pause(self, now: float) -> float:
        """
        Return the seconds until the next look; growing in an outage, but not past ``max_outage``.

        Who goes on after that, since the end of another thing is waited for, does so at the same pace.
        """
        pause = backoff_seconds(self._trigger.poll_interval, self._failures)
        if self._outage_start is None:
            return pause
        left = self._trigger.max_outage - (now - self._outage_start)
        return min(pause, max(left, _MOMENT)) if left > 0 else pause
