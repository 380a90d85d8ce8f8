# SPDX-License-Identifier: Apache-2.0
"""Find the job of an execution, or create it: never two that run."""

from __future__ import annotations

import random
import time
from typing import TYPE_CHECKING, Any

from airflow_vertex_persistent.exceptions import CallProblem, ServiceUnreachableError, call_problem
from airflow_vertex_persistent.names import KEY_LABEL, REQUEST_LABEL, ResourceName
from airflow_vertex_persistent.operators.base import WHEN_UNREACHABLE
from airflow_vertex_persistent.states import JobPhase, job_phase
from airflow_vertex_persistent.triggers.watch import outage_pause

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from airflow.sdk.types import Logger
    from google.cloud.aiplatform_v1.types import CustomJob

    from airflow_vertex_persistent.hooks.training_job import TrainingJobHook
    from airflow_vertex_persistent.operators.execution import Execution
    from airflow_vertex_persistent.states import JobSnapshot

# A job whose create had no reply shows up within some seconds.
_LOST_REPLY_SECONDS = 60.0
_FIRST_PAUSE = 2.0


class Submission:
    """
    One attempt's way to the job of its execution.

    :param hook: Where to ask.
    :param execution: Whose job it is.
    :param request: The job with its labels.
    :param max_outage: Seconds for which errors that pass by themselves are waited out.
    :param wait_for: Waits until a job has ended.
    :param log: The task's log.
    """

    def __init__(
        self,
        hook: TrainingJobHook,
        execution: Execution,
        request: Mapping[str, Any],
        *,
        max_outage: float,
        wait_for: Callable[[str], object],
        log: Logger,
    ) -> None:
        self._hook = hook
        self._execution = execution
        self._request = request
        self._max_outage = max_outage
        self._wait_for = wait_for
        self._log = log

    def find(self) -> JobSnapshot | None:
        """Return the oldest job that is still right; whatever else of the execution runs is cancelled."""
        found: JobSnapshot | None = None
        for job in jobs_of(self._hook, self._execution):
            snapshot = _snapshot(job)
            if job_phase(snapshot["state"]) is JobPhase.CANCELLING:
                self._log.info("%s is being cancelled, waiting for its end", job.name)
                self._wait_for(job.name)
                snapshot = _snapshot(self._hook.get_custom_job(ResourceName.parse(job.name)))
            phase = job_phase(snapshot["state"])
            same = job.labels.get(REQUEST_LABEL) == self._request["labels"][REQUEST_LABEL]
            if found is None and same and (phase is JobPhase.SUCCEEDED or not phase.ended):
                self._log.info("Job of this task: %s, created %s", job.name, snapshot["create_time"])
                found = snapshot
            elif not phase.ended:
                reason = "the DAG was changed" if not same else "another one of this task is older"
                cancel_job(self._hook, job.name, self._log, reason)
        return found

    def create(self) -> JobSnapshot:
        """Return a new job, or the one of a create whose reply was lost."""
        deadline = time.monotonic() + self._max_outage
        failures = 0
        said: CallProblem | None = None
        while True:
            try:
                job = self._hook.create_custom_job(
                    self._execution.project_id, self._execution.region, self._request
                )
            except Exception as error:
                problem = call_problem(error)
                if problem not in {CallProblem.TRANSIENT, CallProblem.RATE_LIMITED}:
                    raise
                if problem is not said:
                    self._log.warning("No job yet, still trying: %s", error)
                    said = problem
                # Too many calls a minute means that nothing was created; any other answer leaves it open.
                if problem is CallProblem.TRANSIENT and (found := self._look_for_lost_job()):
                    return found
                if time.monotonic() >= deadline:
                    raise ServiceUnreachableError(
                        f"Vertex AI created no job for max_outage. Last error: {error}\n{WHEN_UNREACHABLE}"
                    ) from error
                failures += 1
                time.sleep(min(_pause(problem, failures), max(deadline - time.monotonic(), 0.0)))
            else:
                # An attempt that was thought dead may have created one too: the oldest stays.
                return self.find() or _snapshot(job)

    def _look_for_lost_job(self) -> JobSnapshot | None:
        deadline = time.monotonic() + min(_LOST_REPLY_SECONDS, self._max_outage)
        failures = 0
        while True:
            if found := self.find():
                return found
            failures += 1
            pause = outage_pause(_FIRST_PAUSE, failures)
            if time.monotonic() + pause >= deadline:
                return None
            time.sleep(pause)


def _pause(problem: CallProblem, failures: int) -> float:
    """Return the seconds to wait before the next create."""
    pause = outage_pause(_FIRST_PAUSE, failures)
    if problem is CallProblem.RATE_LIMITED:
        # Many tasks were told so at the same moment: spread them over the minute that the limit counts by.
        return random.uniform(_FIRST_PAUSE, pause)  # noqa: S311 - spreads load, guards nothing
    return pause


def _snapshot(job: CustomJob) -> JobSnapshot:
    # Imported here: a DAG file that imports an operator must not import Google's client.
    from airflow_vertex_persistent.hooks.training_job import job_snapshot

    return job_snapshot(job)


def jobs_of(hook: TrainingJobHook, execution: Execution) -> list[CustomJob]:
    """Return the jobs of an execution, the oldest first."""
    filter_ = f'labels.{KEY_LABEL}="{execution.key}"'
    jobs = hook.list_custom_jobs(execution.project_id, execution.region, filter_)
    return sorted(jobs, key=lambda job: (job.create_time, job.name))


def cancel_job(hook: TrainingJobHook, job: str, log: Logger, reason: str) -> None:
    """Cancel a job and say why."""
    log.warning("Cancelling %s: %s", job, reason)
    hook.cancel_custom_job(ResourceName.parse(job))


def cancel_jobs_of(hook: TrainingJobHook, execution: Execution, log: Logger, reason: str) -> None:
    """Cancel what still runs of an execution."""
    for job in jobs_of(hook, execution):
        phase = job_phase(_snapshot(job)["state"])
        if not phase.ended and phase is not JobPhase.CANCELLING:
            cancel_job(hook, job.name, log, reason)
