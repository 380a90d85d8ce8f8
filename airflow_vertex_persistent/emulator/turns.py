# SPDX-License-Identifier: Apache-2.0
"""Jobs that wait until they are called."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .names import Key


class Turns:
    """The waiting part of a queue whose order somebody else keeps."""

    def __init__(self) -> None:
        self._called: dict[Key, asyncio.Event] = {}

    def add(self, job: Key) -> asyncio.Event:
        """Let a job wait for the event that is given back."""
        return self._called.setdefault(job, asyncio.Event())

    def call(self, jobs: Iterable[Key]) -> None:
        """It is the turn of these jobs."""
        for job in jobs:
            self._called[job].set()

    def drop(self, job: Key) -> None:
        """Forget a job; unknown ones are no error."""
        self._called.pop(job, None)
