# SPDX-License-Identifier: Apache-2.0
"""Find the job of an execution, or create it: never two that run."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airflow_vertex_persistent.exceptions import (
    CallProblem,
    JobCancelledError,
    call_problem,
    is_transient,
)
from airflow_vertex_persistent.names import CANDIDATE_LABEL, KEY_LABEL, REQUEST_LABEL, ResourceName
from airflow_vertex_persistent.operators.base import settled_snapshot
from airflow_vertex_persistent.operators.patience import Patience, answered
from airflow_vertex_persistent.states import JobPhase, has_started, job_phase

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from airflow.sdk.types import Logger
    from google.cloud.aiplatform_v1.types import CustomJob

    from airflow_vertex_persistent.hooks.training_job import TrainingJobHook
    from airflow_vertex_persistent.operators.execution import Execution
    from airflow_vertex_persistent.states import JobSnapshot
    from airflow_vertex_persistent.triggers.watch import WatchEvent

# A job shows up in lists within some seconds of its create.
LIST_LAG_SECONDS = 60.0


@dataclass(frozen=True, kw_only=True)
class Submission:
    """
    One attempt's way to the job of its execution.

    Errors that pass by themselves are waited out, whichever call meets them. After a create without an answer
    nothing is created again before lists have told for a minute that there is nothing.

    :param hook: Where to ask.
    :param execution: Whose job it is.
    :param fingerprint: Value of the label of jobs that were asked for like this one.
    :param request: Returns the job to create, with its labels; asked just before each create.
    :param max_outage: Seconds for which errors that pass by themselves are waited out.
    :param before_create: Keeps in mind that something is about to be created.
    :param after_create: Keeps the name of what was created.
    :param refused: Hears of a create that has failed, and may raise what that means.
    :param after_end: Hears of the execution's jobs that have ended.
    :param wait_for: Waits until a job has ended.
    :param stopped: Tells whether the task was stopped meanwhile: nothing is created for it any more.
    :param log: The task's log.
    """

    hook: TrainingJobHook
    execution: Execution
    fingerprint: str
    request: Callable[[], Mapping[str, Any]]
    max_outage: float
    before_create: Callable[[], None]
    after_create: Callable[[str], None]
    refused: Callable[[Exception], None]
    after_end: Callable[[JobSnapshot], None]
    wait_for: Callable[[str], WatchEvent]
    stopped: Callable[[], bool]
    log: Logger

    def job(self, look_for: float | None) -> JobSnapshot:
        """
        Return the job of the execution, found or created.

        :param look_for: Seconds for which a job may still show up that an attempt before this one has
            created; 0: look once; ``None``: there was no such attempt.
        :raises ServiceUnreachableError: There was no answer for ``max_outage``.
        :raises JobCancelledError: The task was stopped meanwhile.
        """
        patience = Patience(self.max_outage, self.log)
        look_until = None if look_for is None else time.monotonic() + look_for
        created: JobSnapshot | None = None
        while True:
            sent = False
            try:
                if look_until is None and created is None:
                    request = self.request()
                    sent = True
                    created = self._create(request)
                # Also after a create: an attempt that was thought dead may have created one too. The oldest stays.
                found = self._find(created) or created
            except Exception as error:
                if not is_transient(error):
                    raise
                pause = patience.pause_after(error)
                # Too many calls a minute means that nothing was created; any other answer leaves it open.
                lost = sent and created is None and call_problem(error) is CallProblem.TRANSIENT
                if lost:
                    look_until = time.monotonic() + LIST_LAG_SECONDS
            else:
                if found is not None:
                    return found
                pause = patience.pause_until(look_until)
                if pause == 0:
                    look_until = None
            time.sleep(pause)

    def _find(self, created: JobSnapshot | None) -> JobSnapshot | None:
        """
        Return the candidate's oldest job that is still right; whatever else of it runs is cancelled.

        :param created: The job that was created just now.
        """
        found: JobSnapshot | None = None
        candidate = str(self.execution.candidate)
        for job in jobs_of(self.hook, self.execution, self.execution.region):
            if job.labels.get(CANDIDATE_LABEL, candidate) != candidate:
                continue  # another candidate's is for whoever knows of the others
            new = created is not None and job.name == created["job"]
            snapshot = _snapshot(job) if new else self._reread(job)
            if snapshot is None:
                continue
            phase = job_phase(snapshot["state"])
            same = job.labels.get(REQUEST_LABEL) == self.fingerprint
            unwanted = not same and not phase.ended
            if unwanted and phase is not JobPhase.CANCELLING:
                cancel_job(self.hook, job.name, self.log, "the DAG was changed")
            if unwanted or phase is JobPhase.CANCELLING:
                snapshot = _end_of_cancelled(job.name, self.wait_for, self.log)
                phase = job_phase(snapshot["state"])
            if found is None and (phase is JobPhase.SUCCEEDED or not phase.ended):
                self.log.info("Job of this task: %s, created %s", job.name, snapshot["create_time"])
                found = snapshot
            elif not phase.ended:
                cancel_job(self.hook, job.name, self.log, "another one of this task is older")
            if phase.ended:
                self.after_end(snapshot)
        self._check_stopped()
        return found

    def _reread(self, job: CustomJob) -> JobSnapshot | None:
        """
        Return a listed job as it is now, ``None`` if it is not there any more.

        Lists lag: one that has just been cancelled must not be taken over.
        """
        snapshot = _snapshot(job)
        if job_phase(snapshot["state"]).ended:
            return snapshot
        try:
            return _snapshot(self.hook.get_custom_job(ResourceName.parse(job.name)))
        except Exception as error:
            if call_problem(error) is CallProblem.MISSING:
                return None
            raise

    def _create(self, request: Mapping[str, Any]) -> JobSnapshot:
        self._check_stopped()
        self.before_create()
        self._check_stopped()  # it may have been stopped while that was kept
        try:
            job = self.hook.create_custom_job(self.execution.project_id, self.execution.region, request)
        except Exception as error:
            self.refused(error)
            raise
        self.after_create(job.name)
        return _snapshot(job)

    def _check_stopped(self) -> None:
        if self.stopped():
            raise JobCancelledError("The task was stopped while its job was being created")


def _snapshot(job: CustomJob) -> JobSnapshot:
    # Imported here: a DAG file that imports an operator must not import Google's client.
    from airflow_vertex_persistent.hooks.training_job import job_snapshot

    return job_snapshot(job)


def jobs_of(
    hook: TrainingJobHook, execution: Execution, region: str, *, quickly: bool = False
) -> list[CustomJob]:
    """
    Return the jobs of an execution in one region, the oldest first.

    :param quickly: Ask again for some seconds, for a task that is about to end. Otherwise the caller asks again.
    """
    filter_ = f'labels.{KEY_LABEL}="{execution.key}"'
    listed = hook.list_custom_jobs(execution.project_id, region, filter_, quickly=quickly, once=not quickly)
    jobs = {ResourceName.parse(job.name).identity: job for job in listed}
    # Lists lag: those that are known must not be missed.
    for name in execution.known_jobs_in(region):
        if name.identity in jobs:
            continue
        try:
            jobs[name.identity] = hook.get_custom_job(name, quickly=quickly, once=not quickly)
        except Exception as error:
            if call_problem(error) is not CallProblem.MISSING:
                raise
    return sorted(jobs.values(), key=lambda job: (job.create_time, job.name))


def cancel_job(hook: TrainingJobHook, job: str, log: Logger, reason: str) -> bool:
    """Cancel a job and say why; return whether it had not ended by itself meanwhile."""
    log.warning("Cancelling %s: %s", job, reason)
    try:
        hook.cancel_custom_job(ResourceName.parse(job))
    except Exception as error:
        if call_problem(error) not in {CallProblem.NOT_NOW, CallProblem.MISSING}:
            raise
        log.info("%s has ended by itself", job)
        return False
    return True


def _end_of_cancelled(job: str, wait_for: Callable[[str], WatchEvent], log: Logger) -> JobSnapshot:
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
        snapshot = _snapshot(hook.get_custom_job(ResourceName.parse(job)))
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
) -> list[CustomJob]:
    """
    Cancel what still runs of an execution, and return all its jobs.

    A job that cannot be cancelled keeps no other job from it, and a region that does not answer lets none wait.

    :raises Exception: The first that was met, when all has been tried.
    """

    def cancel_in(region: str) -> tuple[list[CustomJob], list[Exception]]:
        jobs: list[CustomJob] = []
        errors: list[Exception] = []
        try:
            jobs = jobs_of(hook, execution, region, quickly=quickly)
        except Exception as error:  # noqa: BLE001 - raised below
            errors.append(error)
        moving = [job.name for job in jobs if _can_be_cancelled(job)]
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


def _can_be_cancelled(job: CustomJob) -> bool:
    phase = job_phase(_snapshot(job)["state"])
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
            news = [
                job
                for job in jobs
                if job.name not in older.known_jobs and older.may_be_creating(_snapshot(job))
            ]
            pause = 0.0 if news else patience.pause_until(look_until)
            if pause == 0:
                break
        time.sleep(pause)
    for job in jobs:
        if not job_phase(_snapshot(job)["state"]).ended:
            _end_of_cancelled(job.name, wait_for, log)
