# SPDX-License-Identifier: Apache-2.0
"""How the work on a job ends, of whatever kind it is."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING

from google.cloud.aiplatform_v1.types import JobState
from google.rpc import code_pb2
from google.rpc.status_pb2 import Status

from . import messages
from .lifecycle import job_explained, job_moved
from .world import Outcome

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from .job_table import JobTable
    from .lifecycle import Job
    from .names import Key
    from .world import World

LOST = Outcome(JobState.JOB_STATE_FAILED, Status(code=code_pb2.INTERNAL, message=messages.INTERNAL_ERROR))
"""How a job ends when the emulator itself is at fault."""


def cancelled(text: str) -> Outcome:
    """
    Say how a job ends that was stopped.

    :param text: the reason, as its error will say it.
    """
    return Outcome(JobState.JOB_STATE_CANCELLED, Status(code=code_pb2.CANCELLED, message=text))


async def until(event: asyncio.Event, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
    """
    Do some work until its end or an event, whichever comes first.

    :return: the work, which has ended: as cancelled when the event came first.
    """
    working, waiting = asyncio.create_task(work), asyncio.create_task(event.wait())
    try:
        await asyncio.wait({working, waiting}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        working.cancel()
        waiting.cancel()
        await asyncio.wait({working, waiting})
    return working


async def end_job(
    world: World,
    jobs: JobTable[Job],
    key: Key,
    outcome: Outcome,
    *,
    delay: float | None,
    stop: asyncio.Event,
) -> None:
    """
    Show the end of a job, and the error of a failed one when its time has come.

    :param delay: seconds between state and error; ``None`` for those of the settings.
    :param stop: ends the wait for the error, which is shown at once then.
    """
    job = jobs.get(key)
    if job is None:
        raise RuntimeError(f"active job {key.id} left the store")
    delay = world.settings.error_delay_seconds if delay is None else delay
    if outcome.error is None or outcome.state != JobState.JOB_STATE_FAILED or not delay:
        jobs.put(key, job_moved(job, outcome.state, world.clock(), outcome.error))
        return
    jobs.put(key, job_moved(job, outcome.state, world.clock()))
    with suppress(TimeoutError):
        async with asyncio.timeout(delay):
            await stop.wait()  # the emulator's end does not wait for the late error
    if (job := jobs.get(key)) is not None:
        jobs.put(key, job_explained(job, outcome.error, world.clock()))
