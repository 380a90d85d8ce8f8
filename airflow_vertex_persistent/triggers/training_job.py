# SPDX-License-Identifier: Apache-2.0
"""Waits for a training job."""

from __future__ import annotations

import asyncio
import time
from contextlib import nullcontext, suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal, cast

from asgiref.sync import sync_to_async

from airflow_vertex_persistent.call_problems import call_problem
from airflow_vertex_persistent.endings import failed_replica
from airflow_vertex_persistent.names import ResourceName
from airflow_vertex_persistent.states import (
    JobPhase,
    JobSnapshot,
    duration_text,
    has_started,
    job_phase,
    limit_text,
    queued_seconds,
    running_seconds,
    seconds_between,
)
from airflow_vertex_persistent.triggers.base import VertexTrigger
from airflow_vertex_persistent.triggers.sources import JobSource
from airflow_vertex_persistent.triggers.task_state import ask_early, somebody_goes_on, task_state

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Hashable, Mapping

    from airflow.triggers.base import TriggerEvent

    from airflow_vertex_persistent.hooks.training_job import TrainingJobAsyncHook
    from airflow_vertex_persistent.triggers.sharing import Look
    from airflow_vertex_persistent.triggers.task_state import TaskInstance

# The service fills the error of a failed job about a minute after its state.
_LATE_ERROR_SECONDS = 90.0
# Airflow gives on_kill 30 seconds.
_ON_KILL_SECONDS = 25.0
_ASK_AGAIN_SECONDS = 2.0


class TrainingJobTrigger(VertexTrigger):
    """
    Waits until a training job has ended, or has its machines, or is overdue, and cancels it when its task is killed
    while deferred.

    Triggers with the same connection, project, region and interval share one loop of list calls. The event of a
    failed job carries the last lines of its log.

    :param job: Full name of the job.
    :param cancel_on_kill: Whether killing, clearing or marking the task cancels the job.
    :param execution_key: Value of the label ``airflow_execution`` of the job, by which many are read at once.
    :param installation: Value of its label ``airflow_installation``.
    :param wait_deadline: When the job is overdue if it has not started by then, RFC 3339 in UTC. Default: never.
    :param until: ``"ended"``, or ``"started"``: that it has its machines is enough.
    :param shared: See :class:`~airflow_vertex_persistent.triggers.base.VertexTrigger`; the region is the job's.
    """

    fields = (
        *VertexTrigger.fields,
        "job",
        "cancel_on_kill",
        "execution_key",
        "installation",
        "wait_deadline",
        "until",
    )

    def __init__(
        self,
        *,
        job: str,
        cancel_on_kill: bool,
        execution_key: str | None = None,
        installation: str | None = None,
        wait_deadline: str | None = None,
        until: Literal["ended", "started"] = "ended",
        **shared: Any,
    ) -> None:
        super().__init__(**{**shared, "region": ResourceName.parse(job).region})
        self.job = job
        self.cancel_on_kill = cancel_on_kill
        self.execution_key = execution_key
        self.installation = installation
        self.wait_deadline = wait_deadline
        self.until = until
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

    def source(self, hook: TrainingJobAsyncHook) -> JobSource:
        """Return where jobs of one project and region are read together."""
        return JobSource(hook, self.name.project, self.name.kind, (self.region,), self.installation)

    def source_key(self) -> tuple[Hashable, ...]:
        """Return what one list call needs: project, regions and label."""
        return self.name.project, self.name.kind, (self.region,), self.installation

    async def look(self, hook: TrainingJobAsyncHook) -> Mapping[str, Any] | None:
        """Return what the job is like now."""
        return await hook.snapshot(self.name)

    def settled(self, snapshot: Mapping[str, Any] | None) -> bool:
        """Tell whether the job has ended, and said why if it failed: that comes up to a minute later."""
        if snapshot is None:
            return False
        if self.until == "started" and has_started(snapshot):
            return True
        if not job_phase(snapshot["state"]).ended:
            return False
        explained = snapshot["error_code"] or snapshot["error_message"]
        if snapshot["state"] != "JOB_STATE_FAILED" or explained:
            return True
        now = time.monotonic()
        if self._unexplained_since is None:
            self._unexplained_since = now
        # A sensor that is rescheduled begins to count anew each time, so the job's end counts as well.
        since_end = seconds_between(snapshot["end_time"], datetime.now(UTC).isoformat()) or 0.0
        return max(now - self._unexplained_since, since_end) >= _LATE_ERROR_SECONDS

    def overdue(self, snapshot: Mapping[str, Any] | None) -> bool:
        """Tell whether the job still waits for machines at the end of its time for that."""
        if snapshot is None or self.wait_deadline is None or has_started(snapshot):
            return False
        waits = job_phase(snapshot["state"]) is JobPhase.WAITING
        return waits and datetime.now(UTC) >= datetime.fromisoformat(self.wait_deadline)

    def progress(self, snapshot: Mapping[str, Any]) -> str:
        """Return for how long the job has queued and run."""
        job = cast("JobSnapshot", snapshot)
        now = datetime.now(UTC).isoformat()
        queued, ran = queued_seconds(job), running_seconds(job)
        if queued is not None and ran is not None:
            return f", queued {duration_text(queued)}, ran {duration_text(ran)}"
        if queued is not None:
            run = seconds_between(job["start_time"], now) or 0
            return f", queued {duration_text(queued)}, has run {duration_text(run)}"
        waited = seconds_between(job["create_time"], job["end_time"] or now) or 0
        return f", has queued {duration_text(waited)}{limit_text(job)}"

    async def details(self, hook: TrainingJobAsyncHook, snapshot: Mapping[str, Any] | None) -> dict[str, Any]:
        """Return the last lines of a failed job's log, or why they could not be read."""
        if snapshot is None or job_phase(snapshot["state"]) is not JobPhase.FAILED:
            return {}
        return await log_end(hook, self.name, snapshot["error_message"], snapshot["create_time"])

    def filter_shared_stream(self, shared_stream: AsyncIterator[Look]) -> AsyncIterator[TriggerEvent]:
        """Yield the one event, from what the shared loop sees."""
        if self.cancel_on_kill:
            ask_early()
        return super().filter_shared_stream(shared_stream)

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
        try:
            async with asyncio.timeout(_ON_KILL_SECONDS):
                state = await _ask_for_state(ti)
                if somebody_goes_on(state):
                    self.log.info("%s goes on: its task is %s", self.cancelled_on_kill, state)
                    return
                shared = cast("TrainingJobAsyncHook | None", self.shared_hook)
                async with self.hook() if shared is None else nullcontext(shared) as hook:
                    await self.cancel_all(hook)
        except TimeoutError:
            self.log.warning(
                "%s may still run: there was no time to cancel it. CancelOrphanedJobsOperator can.",
                self.cancelled_on_kill,
            )
            raise

    @property
    def cancelled_on_kill(self) -> str:
        """What is cancelled when the task is killed, for the log."""
        return self.job

    async def cancel_all(self, hook: TrainingJobAsyncHook) -> None:
        """Cancel what this trigger waits for, since its task was stopped."""
        await hook.cancel_job(self.name)
        self.log.info("Cancelled %s: its task was stopped", self.job)


async def log_end(
    hook: TrainingJobAsyncHook, job: ResourceName, text: str, since: str | None
) -> dict[str, Any]:
    """
    Return the last lines of a job's log as ``log_lines``, or as ``log_problem`` why they could not be read.

    :param text: The error of the job, which may blame a replica.
    :param since: When the job was created.
    """
    from airflow_vertex_persistent.hooks.logs import last_lines

    try:
        lines = await last_lines(hook, job, failed_replica(text), since)
    except Exception as error:
        if call_problem(error) is None:
            raise
        return {"log_problem": str(error)}
    return {"log_lines": lines}


async def _ask_for_state(ti: TaskInstance) -> str | None:
    """Return the state of a task, asked for again as long as Airflow does not answer."""
    while True:
        try:
            return await sync_to_async(task_state)(ti)
        except Exception:  # noqa: BLE001 - whatever it is, the caller's time is limited
            await asyncio.sleep(_ASK_AGAIN_SECONDS)
