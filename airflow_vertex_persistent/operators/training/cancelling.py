# SPDX-License-Identifier: Apache-2.0
"""Cancel jobs of an execution: one that waits too long, all that still run, those of an execution that is over."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from airflow_vertex_persistent.call_problems import CallProblem, call_problem, is_transient
from airflow_vertex_persistent.exceptions import JobCancelledError
from airflow_vertex_persistent.names import ResourceName
from airflow_vertex_persistent.operators.base import settled_snapshot
from airflow_vertex_persistent.operators.training.listing import LIST_LAG_SECONDS, jobs_of, snapshot_of
from airflow_vertex_persistent.operators.training.patience import Patience, answered
from airflow_vertex_persistent.states import JobPhase, has_started, job_phase

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow.sdk.types import Logger

    from airflow_vertex_persistent.hooks.job_kinds import TrainingJob
    from airflow_vertex_persistent.hooks.training_job import TrainingJobHook
    from airflow_vertex_persistent.operators.training.execution import Execution
    from airflow_vertex_persistent.states import JobSnapshot
    from airflow_vertex_persistent.triggers.watch import WatchEvent


def cancel_job(hook: TrainingJobHook, job: str, log: Logger, reason: str) -> bool:
    """Cancel a job and say why; return whether it had not ended by itself meanwhile."""
    log.warning("Cancelling %s: %s", job, reason)
    try:
        hook.cancel_job(ResourceName.parse(job))
    except Exception as error:
        if call_problem(error) not in {CallProblem.NOT_NOW, CallProblem.MISSING}:
            raise
        log.info("%s has ended by itself", job)
        return False
    return True


def end_of_cancelled(job: str, wait_for: Callable[[str], WatchEvent], log: Logger) -> JobSnapshot:
    """Wait for the end of a job that is being cancelled: until then it has machines that another one may want."""
    log.info("%s is being cancelled, waiting for its end", job)
    snapshot: JobSnapshot = settled_snapshot(wait_for(job))
    return snapshot


def cancel_unless_started(
    hook: TrainingJobHook, job: str, max_outage: float, wait_for: Callable[[str], WatchEvent], log: Logger
) -> WatchEvent | None:
    """
    Cancel a job that waits for machines, and return the event of its end; ``None`` if it has started meanwhile.

    :param max_outage: Seconds for which errors that pass by themselves are waited out.
    :param wait_for: Waits until the job has ended.
    :raises ServiceUnreachableError: They did not pass.
    """
    started = answered(
        lambda: _cancel_if_it_waits(hook, job, log), max_outage, log, "has not cancelled the job that waits"
    )
    return None if started else wait_for(job)


def _cancel_if_it_waits(hook: TrainingJobHook, job: str, log: Logger) -> bool:
    """Cancel a job that waits for machines; tell whether it goes on, since it has started."""
    try:
        snapshot = snapshot_of(hook.get_job(ResourceName.parse(job)))
    except Exception as error:
        if call_problem(error) is CallProblem.MISSING:
            return False  # who waits for its end will hear that it is not there
        raise
    phase = job_phase(snapshot["state"])
    if not phase.ended and has_started(snapshot):
        log.info("%s has started meanwhile", job)
        return True
    if phase is JobPhase.WAITING:
        cancel_job(hook, job, log, "it has waited too long for machines")
    return False


def cancel_jobs_of(
    hook: TrainingJobHook, execution: Execution, log: Logger, reason: str, *, quickly: bool = False
) -> list[TrainingJob]:
    """
    Cancel what still runs of an execution, and return all its jobs.

    Regions are asked side by side. What goes wrong with one job or region does not stop the others.

    :raises Exception: The first that was met, when all has been tried.
    """

    def cancel_in(region: str) -> tuple[list[TrainingJob], list[Exception]]:
        jobs: list[TrainingJob] = []
        errors: list[Exception] = []
        try:
            jobs = jobs_of(hook, execution, region, quickly=quickly)
        except Exception as error:  # noqa: BLE001 - raised below
            errors.append(error)
        moving = [job.name for job in jobs if can_be_cancelled(job)]
        # Where the list has no answer, the cancellation of a known job may have one.
        for name in moving if jobs else map(str, execution.known_jobs_in(region)):
            try:
                cancel_job(hook, name, log, reason)
            except Exception as error:  # noqa: BLE001 - raised below
                errors.append(error)
        return jobs, errors

    regions = list(dict.fromkeys(execution.regions))
    with ThreadPoolExecutor(len(regions)) as pool:
        ends = list(pool.map(cancel_in, regions))
    if errors := [error for _, found in ends for error in found]:
        raise errors[0]
    return [job for jobs, _ in ends for job in jobs]


def can_be_cancelled(job: TrainingJob) -> bool:
    """Tell whether a job has neither ended nor is being cancelled."""
    phase = job_phase(snapshot_of(job)["state"])
    return not phase.ended and phase is not JobPhase.CANCELLING


def cancel_older(
    hook: TrainingJobHook,
    older: Execution,
    max_outage: float,
    *,
    wait_for: Callable[[str], WatchEvent],
    log: Logger,
    stopped: Callable[[], bool],
) -> None:
    """
    Cancel the jobs of an execution that is over, since its task has started anew, and wait for their end.

    :param max_outage: Seconds for which errors that pass by themselves are waited out.
    :param wait_for: Waits until a job has ended.
    :param stopped: Tells whether the task was stopped meanwhile.
    :raises ServiceUnreachableError: They did not pass.
    :raises JobCancelledError: The task was stopped.
    """
    patience = Patience(max_outage, log)
    look_until = time.monotonic() + older.seconds_to_look(LIST_LAG_SECONDS)
    while True:
        if stopped():
            raise JobCancelledError("The task was stopped before it had a job")
        try:
            jobs = cancel_jobs_of(hook, older, log, "its task has started anew")
        except Exception as error:
            if not is_transient(error):
                raise
            pause = patience.pause_after(error)
        else:
            # Those whose names were kept, and older ones, say nothing of one that was about to be created.
            news = [job for job in jobs if older.is_news(snapshot_of(job))]
            pause = 0.0 if news else patience.pause_until(look_until)
            if pause == 0:
                break
        time.sleep(pause)
    for job in jobs:
        if not job_phase(snapshot_of(job)["state"]).ended:
            end_of_cancelled(job.name, wait_for, log)
