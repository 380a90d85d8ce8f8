# SPDX-License-Identifier: Apache-2.0
"""Waits for a training job."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from asgiref.sync import sync_to_async

from airflow_vertex_persistent.names import ResourceName
from airflow_vertex_persistent.states import JobPhase, job_phase
from airflow_vertex_persistent.triggers.base import VertexTrigger
from airflow_vertex_persistent.triggers.task_state import somebody_goes_on, task_state

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow_vertex_persistent.hooks.training_job import TrainingJobAsyncHook
    from airflow_vertex_persistent.triggers.task_state import TaskInstance

# The service fills the error of a failed job about a minute after its state.
_LATE_ERROR_SECONDS = 90.0
# Airflow gives on_kill 30 seconds.
_ON_KILL_SECONDS = 25.0


class TrainingJobTrigger(VertexTrigger):
    """
    Waits until a training job has ended, and cancels it when its task is killed while deferred.

    :param job: Full name of the job.
    :param cancel_on_kill: Whether killing, clearing or marking the task cancels the job.
    :param shared: See :class:`~airflow_vertex_persistent.triggers.base.VertexTrigger`.
    """

    fields = (*VertexTrigger.fields, "job", "cancel_on_kill")

    def __init__(self, *, job: str, cancel_on_kill: bool, **shared: Any) -> None:
        super().__init__(**shared)
        self.job = job
        self.cancel_on_kill = cancel_on_kill
        self._unexplained_since: float | None = None

    @property
    def name(self) -> ResourceName:
        """Full name of the job."""
        return ResourceName.parse(self.job)

    @property
    def subject(self) -> str:
        """Short name of the job, for the log."""
        return f"Job {self.name.id}"

    def hook(self) -> TrainingJobAsyncHook:
        """Return the hook that asks for jobs."""
        from airflow_vertex_persistent.hooks.training_job import TrainingJobAsyncHook

        return TrainingJobAsyncHook(self.gcp_conn_id, self.impersonation_chain)

    async def look(self, hook: TrainingJobAsyncHook) -> Mapping[str, Any] | None:
        """Return what the job is like now."""
        from airflow_vertex_persistent.hooks.training_job import job_snapshot

        return job_snapshot(await hook.get_custom_job(self.name))

    def settled(self, snapshot: Mapping[str, Any] | None) -> bool:
        """Tell whether the job has ended, and said why if it failed: that comes up to a minute later."""
        if snapshot is None or not job_phase(snapshot["state"]).ended:
            return False
        explained = snapshot["error_code"] or snapshot["error_message"]
        if job_phase(snapshot["state"]) is not JobPhase.FAILED or explained:
            return True
        now = time.monotonic()
        if self._unexplained_since is None:
            self._unexplained_since = now
        return now - self._unexplained_since >= _LATE_ERROR_SECONDS

    async def on_kill(self) -> None:
        """
        Cancel the job of a task that was killed, cleared or marked while deferred.

        Airflow also calls this when triggers move to another triggerer. Somebody else watches then, or a newer
        attempt has taken the job over or dealt with it: the job is left alone.
        """
        if not self.cancel_on_kill or self.task_instance is None:
            return
        work = asyncio.create_task(self._cancel_job(self.task_instance))
        while not work.done():
            # Until this ends, the triggerer cancels it again every second, and swallows that.
            with suppress(asyncio.CancelledError):
                await asyncio.shield(work)
        await work

    async def _cancel_job(self, ti: TaskInstance) -> None:
        async with asyncio.timeout(_ON_KILL_SECONDS):
            state = await sync_to_async(task_state)(ti)
            if somebody_goes_on(state):
                self.log.info("%s goes on: its task is %s", self.job, state)
                return
            async with self.hook() as hook:
                await hook.cancel_custom_job(self.name)
            self.log.info("Cancelled %s: its task was stopped", self.job)
