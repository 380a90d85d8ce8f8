# SPDX-License-Identifier: Apache-2.0
"""Waits for a training job."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.sdk import TaskInstanceState
from asgiref.sync import sync_to_async

from airflow_vertex_persistent.names import ResourceName
from airflow_vertex_persistent.states import job_phase
from airflow_vertex_persistent.triggers.base import VertexTrigger
from airflow_vertex_persistent.triggers.task_state import task_state

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow_vertex_persistent.hooks.training_job import TrainingJobAsyncHook


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

    @property
    def subject(self) -> str:
        """Name of the job, for the log."""
        return self.job

    def hook(self) -> TrainingJobAsyncHook:
        """Return the hook that asks for jobs."""
        from airflow_vertex_persistent.hooks.training_job import TrainingJobAsyncHook

        return TrainingJobAsyncHook(self.gcp_conn_id, self.impersonation_chain)

    async def look(self, hook: TrainingJobAsyncHook) -> Mapping[str, Any] | None:
        """Return what the job is like now."""
        from airflow_vertex_persistent.hooks.training_job import job_snapshot

        return job_snapshot(await hook.get_custom_job(ResourceName.parse(self.job)))

    def settled(self, snapshot: Mapping[str, Any] | None) -> bool:
        """Tell whether the job has ended."""
        return snapshot is not None and job_phase(snapshot["state"]).ended

    async def on_kill(self) -> None:
        """
        Cancel the job of a task that was killed, cleared or marked while deferred.

        Airflow also calls this when triggers move to another triggerer. The task is still deferred then, and
        someone else watches: the job is left alone.
        """
        if not self.cancel_on_kill or self.task_instance is None:
            return
        if await sync_to_async(task_state)(self.task_instance) == TaskInstanceState.DEFERRED:
            self.log.info("%s goes on: its task is still deferred", self.job)
            return
        async with self.hook() as hook:
            await hook.cancel_custom_job(ResourceName.parse(self.job))
        self.log.info("Cancelled %s: its task was stopped", self.job)
