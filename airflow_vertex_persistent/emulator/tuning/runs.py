# SPDX-License-Identifier: Apache-2.0
"""All tuning jobs that have not ended: start them, find them, stop them together."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from airflow_vertex_persistent.emulator import messages

if TYPE_CHECKING:
    from airflow_vertex_persistent.emulator.names import Key
    from airflow_vertex_persistent.emulator.runs import JobRuns
    from airflow_vertex_persistent.emulator.world import JobPlan, World

    from .tuning_run import StartJob, TuningRun

_log = logging.getLogger(__name__)


class TuningRuns:
    """
    The tuning jobs at work.

    :param world: what a job needs of the emulator.
    :param runs: the custom jobs at work.
    :param start_job: starts the custom job of a trial.
    """

    def __init__(self, world: World, runs: JobRuns, start_job: StartJob) -> None:
        self._world = world
        self._jobs = runs
        self._start_job = start_job
        self._runs: dict[Key, TuningRun] = {}

    def start(self, key: Key, plan: JobPlan) -> None:
        """Set a job to work that waits in the store."""
        from .tuning_run import TuningRun  # the start of an emulator need not pay for it

        run = self._runs[key] = TuningRun(self._world, self._jobs, self._start_job, key, plan)

        def done(task: asyncio.Task[None]) -> None:
            del self._runs[key]
            if error := task.exception():
                _log.error(
                    "tuning job %s was left as it is by an error of the emulator", key.id, exc_info=error
                )

        run.task.add_done_callback(done)

    def stop(self, key: Key, text: str) -> None:
        """Ask a job to end as CANCELLED; one that has ended is left alone."""
        if run := self._runs.get(key):
            run.stop(text)

    async def close(self) -> None:
        """Cancel what runs and wait until nothing does any more; what waits goes on at the next start."""
        runs = list(self._runs.values())
        for run in runs:
            if not run.leave_waiting():
                run.stop(messages.EMULATOR_STOPS)
        if runs:
            await asyncio.wait({run.task for run in runs})
