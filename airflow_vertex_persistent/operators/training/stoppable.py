# SPDX-License-Identifier: Apache-2.0
"""What becomes of a training task's job when the task is stopped, or ends without it."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from airflow.sdk import TaskInstanceState
from airflow.sdk.exceptions import AirflowTaskTimeout, TaskDeferralTimeout

from airflow_vertex_persistent.names import KEY_LABEL
from airflow_vertex_persistent.operators.base import is_last_attempt
from airflow_vertex_persistent.operators.training.cancelling import cancel_job, cancel_jobs_of
from airflow_vertex_persistent.operators.training.execution import load_execution, save_execution
from airflow_vertex_persistent.operators.training.parameters import TrainingParameters
from airflow_vertex_persistent.triggers.task_state import somebody_goes_on, state_or_running, within_patience

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airflow.sdk import Context

    from airflow_vertex_persistent.operators.training.execution import Execution


class StoppableOperator(TrainingParameters):
    """
    Base of the training operators that cancels a job to which nobody will come back.

    :param kwargs: See :class:`~airflow_vertex_persistent.operators.training.parameters.TrainingParameters`.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        # What on_kill needs, which is told nothing.
        self._context: Context | None = None
        self._execution: Execution | None = None
        self._stopped = False
        self._job_ended = False

    def resume_execution(self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context) -> Any:
        """Go on after the wait in the triggerer, or end the job when the wait took too long."""
        self._context = context
        with self.cancelling_at_the_end(context):
            return super().resume_execution(next_method, next_kwargs, context)

    def on_kill(self) -> None:
        """
        Cancel the job of a task that is stopped while it runs.

        Airflow also calls this when only the worker process is told to stop. The task is still running then, as
        far as Airflow knows, and its next attempt, if there is one, takes the job over: a durable task leaves it
        alone.
        """
        context, execution = self._context, self._execution
        if context is None:
            return
        ti = context["ti"]
        state = state_or_running(ti)
        if state == TaskInstanceState.RUNNING:
            another_goes_on = self.durable and ti.try_number <= ti.max_tries
        else:
            another_goes_on = somebody_goes_on(state) and state != TaskInstanceState.RESTARTING
        if another_goes_on:
            self.log.info("The job goes on: its task is %s, and another attempt deals with it", state)
            return
        # The main thread goes on after this, for up to five seconds: it must not create or keep anything more.
        self._stopped = True
        if execution is not None and state == TaskInstanceState.RESTARTING:
            cleared = replace(execution, cleared=True)
            within_patience(lambda: save_execution(context, cleared), otherwise=None)
        if not self._job_ended:
            self.cancel(context, "its task was stopped")

    def keep(self, context: Context, execution: Execution) -> None:
        """Keep what is new of this execution; a stopped task keeps it for itself."""
        old, self._execution = self._execution, execution
        if execution != old and not self._stopped:
            save_execution(context, execution)

    @contextmanager
    def cancelling_at_the_end(self, context: Context) -> Iterator[None]:
        """Cancel the job when nobody will come back to it: out of time, or out of attempts."""
        try:
            yield
        except (AirflowTaskTimeout, TaskDeferralTimeout):
            self.cancel(context, "its task ran longer than execution_timeout")
            raise
        except Exception as error:
            over = self._job_ended or self._stopped
            if not over and is_last_attempt(self, context, error):
                self.cancel(context, "its task has failed for good")
            raise

    def cancel(self, context: Context, reason: str) -> None:
        """Cancel what runs of this execution, as far as possible: the task is about to end."""
        if not self.cancel_on_kill:
            return
        try:
            execution = self._execution or load_execution(context)
            if execution is None:
                return
            if execution.has_one_job:
                cancel_job(self.job_hook, str(execution.job), self.log, reason)
            else:
                cancel_jobs_of(self.job_hook, execution, self.log, reason, quickly=True)
            self._context = None  # Airflow calls on_kill after a timeout as well: it has nothing left to do
        except Exception:
            known = self._execution and (
                self._execution.job or f"any with label {KEY_LABEL}={self._execution.key}"
            )
            self.log.exception("The job could not be cancelled and may still run: %s", known)
