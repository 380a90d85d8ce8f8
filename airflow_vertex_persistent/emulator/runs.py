# SPDX-License-Identifier: Apache-2.0
"""All jobs that have not ended: start them, find them, stop them together."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from . import messages
from .job_run import JobRun

if TYPE_CHECKING:
    from .names import Key
    from .world import JobPlan, World

_log = logging.getLogger(__name__)


class JobRuns:
    """
    The jobs at work.

    :param world: what a job needs of the emulator.
    """

    def __init__(self, world: World) -> None:
        self._world = world
        self._runs: dict[Key, JobRun] = {}

    def start(self, key: Key, plan: JobPlan) -> None:
        """Set a job to work that waits in the store."""
        run = self._runs[key] = JobRun(self._world, key, plan)

        def done(task: asyncio.Task[None]) -> None:
            del self._runs[key]
            if error := task.exception():
                _log.error("job %s was left as it is by an error of the emulator", key.id, exc_info=error)

        run.task.add_done_callback(done)

    def task(self, key: Key) -> asyncio.Task[None] | None:
        """The work on a job, ``None`` when it has ended."""
        run = self._runs.get(key)
        return run.task if run else None

    def stop(self, key: Key, text: str) -> None:
        """Ask a job to end as CANCELLED; one that has ended is left alone."""
        if run := self._runs.get(key):
            run.stop(text)

    async def stop_on(self, resource: Key, text: str) -> None:
        """Cancel all jobs on a persistent resource and wait for their end."""
        await _stop(self._on(resource), text)

    def lose_on(self, resource: Key) -> None:
        """Let all jobs on a persistent resource end as FAILED, since its machines are gone."""
        for run in self._on(resource):
            run.lose_machines()

    def _on(self, resource: Key) -> list[JobRun]:
        return [run for run in self._runs.values() if run.plan.resource == resource]

    async def close(self) -> None:
        """Cancel what runs and wait until nothing does any more; what waits goes on at the next start."""
        runs = list(self._runs.values())
        await _stop([run for run in runs if not run.leave_waiting()], messages.EMULATOR_STOPS)
        if runs:
            await asyncio.wait({run.task for run in runs})


async def _stop(runs: list[JobRun], text: str) -> None:
    for run in runs:
        run.stop(text)
    if runs:
        await asyncio.wait({run.task for run in runs})
