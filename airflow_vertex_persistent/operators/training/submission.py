# SPDX-License-Identifier: Apache-2.0
"""Find the job of an execution, or create it: never two that run."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airflow_vertex_persistent.call_problems import CallProblem, call_problem, is_transient
from airflow_vertex_persistent.exceptions import JobCancelledError
from airflow_vertex_persistent.names import CANDIDATE_LABEL, REQUEST_LABEL, ResourceName
from airflow_vertex_persistent.operators.training.cancelling import cancel_job, end_of_cancelled
from airflow_vertex_persistent.operators.training.listing import LIST_LAG_SECONDS, jobs_of, snapshot_of
from airflow_vertex_persistent.operators.training.patience import Patience
from airflow_vertex_persistent.states import JobPhase, job_phase

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from airflow.sdk.types import Logger

    from airflow_vertex_persistent.hooks.job_kinds import TrainingJob
    from airflow_vertex_persistent.hooks.training_job import TrainingJobHook
    from airflow_vertex_persistent.operators.training.execution import Execution
    from airflow_vertex_persistent.states import JobSnapshot
    from airflow_vertex_persistent.triggers.watch import WatchEvent


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
    :param none_goes_on: Hears of the newest of them before another one is created, and may raise what that means.
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
    none_goes_on: Callable[[JobSnapshot], None]
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
        ended: JobSnapshot | None = None
        candidate = str(self.execution.candidate)
        for job in jobs_of(self.hook, self.execution, self.execution.region):
            if job.labels.get(CANDIDATE_LABEL, candidate) != candidate:
                continue  # another candidate's is for whoever knows of the others
            new = created is not None and job.name == created["job"]
            snapshot = snapshot_of(job) if new else self._reread(job)
            if snapshot is None:
                continue
            phase = job_phase(snapshot["state"])
            same = job.labels.get(REQUEST_LABEL) == self.fingerprint
            unwanted = not same and not phase.ended
            if unwanted and phase is not JobPhase.CANCELLING:
                cancel_job(self.hook, job.name, self.log, "the DAG was changed")
            if unwanted or phase is JobPhase.CANCELLING:
                snapshot = end_of_cancelled(job.name, self.wait_for, self.log)
                phase = job_phase(snapshot["state"])
            if found is None and (phase is JobPhase.SUCCEEDED or not phase.ended):
                self.log.info("Job of this task: %s, created %s", job.name, snapshot["create_time"])
                found = snapshot
            elif not phase.ended:
                cancel_job(self.hook, job.name, self.log, "another one of this task is older")
            if phase.ended:
                self.after_end(snapshot)
                ended = snapshot if same else ended
        self._check_stopped()
        none = created is None and found is None
        if none and ended is not None and ended["job"] not in self.execution.past:
            self.none_goes_on(ended)
        return found

    def _reread(self, job: TrainingJob) -> JobSnapshot | None:
        """
        Return a listed job as it is now, ``None`` if it is not there any more.

        Lists lag: one that has just been cancelled must not be taken over.
        """
        snapshot = snapshot_of(job)
        if job_phase(snapshot["state"]).ended:
            return snapshot
        try:
            return snapshot_of(self.hook.get_job(ResourceName.parse(job.name)))
        except Exception as error:
            if call_problem(error) is CallProblem.MISSING:
                return None
            raise

    def _create(self, request: Mapping[str, Any]) -> JobSnapshot:
        self._check_stopped()
        self.before_create()
        self._check_stopped()  # it may have been stopped while that was kept
        try:
            execution = self.execution
            job = self.hook.create_job(execution.project_id, execution.region, execution.kind, request)
        except Exception as error:
            self.refused(error)
            raise
        self.after_create(job.name)
        return snapshot_of(job)

    def _check_stopped(self) -> None:
        if self.stopped():
            raise JobCancelledError("The task was stopped while its job was being created")
