# SPDX-License-Identifier: Apache-2.0
"""What a task that creates a persistent resource has to know again after a wait, and in its next attempt."""

from __future__ import annotations

import secrets
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow.sdk import Context

_STORE_KEY = "vertex_persistent_resource"


@dataclass(frozen=True)
class CreationRecord:
    """
    What the task state store knows of one execution of a task: all its attempts, until someone clears it.

    :param key: Random; the label by which the resource of this execution is known.
    :param max_tries: Airflow's count, which stays over automatic retries and grows when the task is cleared.
    :param request: Hash of what was asked for: a change of the DAG begins another execution.
    :param since: When the execution began, RFC 3339 in UTC.
    :param rotated: Another resource was deleted to make room.
    :param pauses: How many pauses there were before another attempt to create it.
    :param pause_until: When the last of them is over, RFC 3339 in UTC.
    :param pause_reason: What it waits for.
    """

    key: str
    max_tries: int
    request: str
    since: str
    rotated: bool = False
    pauses: int = 0
    pause_until: str | None = None
    pause_reason: str = ""

    @classmethod
    def load(cls, context: Context, request: str) -> CreationRecord:
        """Return what is known of this execution, and keep it if it has only just begun."""
        max_tries = context["ti"].max_tries
        stored: Any = context["task_state_store"].get(_STORE_KEY)
        if stored is not None and (stored["max_tries"], stored["request"]) == (max_tries, request):
            known = {field.name for field in fields(cls)}
            return cls(**{name: value for name, value in stored.items() if name in known})
        record = cls(secrets.token_hex(12), max_tries, request, datetime.now(UTC).isoformat())
        record.save(context)
        return record

    def save(self, context: Context) -> None:
        """Keep it."""
        stored = {name: value for name, value in asdict(self).items() if value is not None}
        context["task_state_store"].set(_STORE_KEY, stored)

    def deadline(self, max_wait_duration: float) -> datetime | None:
        """Return when all waiting has to be over; ``None`` for a limit of 0: never."""
        if not max_wait_duration:
            return None
        return datetime.fromisoformat(self.since) + timedelta(seconds=max_wait_duration)
