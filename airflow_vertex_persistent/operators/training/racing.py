# SPDX-License-Identifier: Apache-2.0
"""A task whose job queues for machines in several places at once, until one of them has them."""

from __future__ import annotations

import time
from abc import abstractmethod
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from airflow_vertex_persistent.call_problems import call_problem
from airflow_vertex_persistent.exceptions import (
    JobCancelledError,
    ServiceUnreachableError,
    VertexTrainingError,
)
from airflow_vertex_persistent.names import CANDIDATE_LABEL, REQUEST_LABEL, ResourceName, same_thing
from airflow_vertex_persistent.operators.training.base import TrainingOperator, tells_of
from airflow_vertex_persistent.operators.training.cancelling import (
    can_be_cancelled,
    cancel_job,
    cancel_jobs_of,
)
from airflow_vertex_persistent.operators.training.execution import Execution
from airflow_vertex_persistent.operators.training.listing import LIST_LAG_SECONDS, jobs_of, snapshot_of
from airflow_vertex_persistent.operators.training.machines import NoMachinesError, first_line
from airflow_vertex_persistent.operators.training.patience import answered
from airflow_vertex_persistent.specs.checks import Problems
from airflow_vertex_persistent.states import JobPhase, has_started, job_phase
from airflow_vertex_persistent.triggers.race import RaceTrigger
from airflow_vertex_persistent.triggers.standing import lacks_machines
from airflow_vertex_persistent.triggers.training_job import TrainingJobTrigger

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from airflow.sdk import Context

    from airflow_vertex_persistent.hooks.job_kinds import TrainingJob
    from airflow_vertex_persistent.operators.training.own_machines import OwnMachines
    from airflow_vertex_persistent.specs.custom_job import JobRequest
    from airflow_vertex_persistent.states import JobSnapshot

# For how long an outage of one region may keep a task from the others, whose jobs nobody watches meanwhile.
_UNWATCHED_SECONDS = 60.0
_AGAIN_SECONDS = 2.0


class RacingOperator(TrainingOperator):
    """
    Base of the training operators with candidates: one after the other, or all at once.

    Who has won follows from the states of the jobs alone, so that whichever process looks decides the same. A winner
    that loses its machines again re-opens the race for the candidates that had not been tried to their end.

    :param kwargs: See :class:`~airflow_vertex_persistent.operators.training.parameters.TrainingParameters`.
    """

    @abstractmethod
    def machines(self, problems: Problems) -> OwnMachines:
        """Return the machines of the candidates."""

    def submit(
        self, context: Context, requests: list[JobRequest], watch: dict[str, Any]
    ) -> tuple[Execution, JobSnapshot]:
        """Return this execution and its job, or, in a race, one of its jobs."""
        execution, resumed = self.begin(context, watch, requests)
        self._job_ended = False
        if not self.checked_machines().race:
            if execution.racing:
                cancel_jobs_of(self.job_hook, execution, self.log, "the DAG was changed: no race any more")
                execution = execution.from_the_first()
            return self.find_or_create(context, execution, requests, watch, resumed=resumed)
        silent: set[str] = set()
        if resumed:
            execution, survivor, silent = self._resume(context, execution, requests, watch)
            if survivor is not None:
                return execution, survivor
        return self._enter(context, execution, requests, watch, silent)

    def _resume(
        self,
        context: Context,
        execution: Execution,
        requests: list[JobRequest],
        watch: dict[str, Any],
    ) -> tuple[Execution, JobSnapshot | None, set[str]]:
        """
        Return the execution as the jobs say that the race stands, and the regions that do not answer.

        If there is a job that has its machines, or has done its work, it comes with them. Then no other one enters,
        and who watches the race sees to those that have lost. Otherwise whoever has waited in vain does not do so
        again.

        :raises NoMachinesError: All have.
        """
        jobs, silent = self._look_everywhere(execution, watch)
        newest: dict[int, JobSnapshot] = {}
        for job in jobs:
            number, snapshot = int(job.labels.get(CANDIDATE_LABEL, "0")), snapshot_of(job)
            labels = self.labels_of(context, replace(execution, candidate=number), requests[number])
            phase = job_phase(snapshot["state"])
            past = phase.ended and job.name in execution.past
            same = job.labels.get(REQUEST_LABEL) == labels[REQUEST_LABEL] and not past
            wanted = same or phase is JobPhase.SUCCEEDED
            if wanted and not (number in newest and _goes_on(newest[number])):
                newest[number] = snapshot
        survivor = next(filter(_goes_on, newest.values()), None)
        if survivor is not None:
            moving = {
                number: one["job"]
                for number, one in newest.items()
                if _goes_on(one) or not job_phase(one["state"]).ended
            }
            execution = execution.raced(moving, unless_in=silent)
            self._cancel_strangers(jobs, execution)
        else:
            for number, one in newest.items():
                if error := self.lack_of_machines(one):
                    execution = execution.done(one["job"])
                    if execution.open_candidates == [number]:
                        self.keep(context, replace(execution, candidate=number, job=None, racing=()))
                        raise NoMachinesError(error)
                    execution = execution.without(number, first_line(error))
        # A job that nobody knew of is known now, if all have answered.
        execution = replace(execution, doubtful=execution.doubtful and bool(silent))
        self.keep(context, execution)
        return execution, survivor, silent

    def _cancel_strangers(self, jobs: Sequence[TrainingJob], execution: Execution) -> None:
        """Cancel jobs of this task that are not in the race: asked for otherwise, or created twice."""
        for job in jobs:
            if job.name in execution.racing or not can_be_cancelled(job):
                continue
            try:
                cancel_job(self.job_hook, job.name, self.log, "another job of this task has its machines")
            except Exception as error:
                if call_problem(error) is None:
                    raise
                self.log.warning("%s may still run, it could not be cancelled: %s", job.name, error)

    def _look_everywhere(
        self, execution: Execution, watch: dict[str, Any]
    ) -> tuple[list[TrainingJob], set[str]]:
        """
        Return the jobs of all regions that answer, and the regions that do not.

        :raises ServiceUnreachableError: None did.
        """
        end, limit = time.monotonic() + watch["max_outage"], min(watch["max_outage"], _UNWATCHED_SECONDS)
        while True:
            jobs: list[TrainingJob] = []
            silent: set[str] = set()
            for region in dict.fromkeys(execution.regions):
                try:
                    look = partial(jobs_of, self.job_hook, execution, region)
                    jobs += answered(look, limit, self.log)
                except ServiceUnreachableError:
                    silent.add(region)
                    if silent == set(execution.regions) and time.monotonic() >= end:
                        raise
            # Once one has won nobody looks again: a job whose create has had no answer must show up before.
            left = execution.seconds_to_look(LIST_LAG_SECONDS)
            if left == 0 or any(execution.is_news(snapshot_of(job)) for job in jobs):
                if silent != set(execution.regions):
                    return jobs, silent
            else:
                time.sleep(min(left, _AGAIN_SECONDS))

    def _enter(
        self,
        context: Context,
        execution: Execution,
        requests: list[JobRequest],
        watch: dict[str, Any],
        silent: set[str],
    ) -> tuple[Execution, JobSnapshot]:
        """
        Find or create the job of each candidate that may still get machines.

        :param silent: Regions that have not answered lately, for which nobody need wait again.
        """
        end = time.monotonic() + watch["max_outage"]
        while True:
            execution = self._execution or execution
            # The one whose create has had no answer is looked for before anything else is created.
            doubtful = execution.candidate if execution.creating_since is not None else None
            order = sorted(execution.open_candidates, key=lambda number: (number != doubtful, number))
            entrants = [
                self._entrant(
                    context, replace(self._execution or execution, candidate=number), requests, watch, silent
                )
                for number in order
            ]
            jobs = [entrant for entrant in entrants if not isinstance(entrant, Exception)]
            if jobs:
                return self._execution or execution, jobs[0]
            problems = [entrant for entrant in entrants if isinstance(entrant, Exception)]
            away = [problem for problem in problems if isinstance(problem, ServiceUnreachableError)]
            if not away or time.monotonic() >= end:
                raise (away or problems)[-1]
            silent = set()

    def _entrant(
        self,
        context: Context,
        execution: Execution,
        requests: list[JobRequest],
        watch: dict[str, Any],
        silent: set[str],
    ) -> JobSnapshot | NoMachinesError | ServiceUnreachableError:
        """Return the job of the execution's candidate, found or created, or why it has none."""
        number = execution.candidate
        limit = 0.0 if execution.region in silent else min(watch["max_outage"], _UNWATCHED_SECONDS)
        try:
            # It is looked for before it is created: where that has no answer, none is created without one.
            _, job = self.find_or_create(
                context,
                execution,
                requests,
                {**watch, "max_outage": limit},
                resumed=True,
                with_job=Execution.entered,
            )
        except NoMachinesError as refusal:
            execution = self._execution or execution
            if len(execution.open_candidates) > 1:
                self.keep(context, execution.without(number, first_line(refusal.error)))
            return refusal
        except ServiceUnreachableError as away:
            execution = self._execution or execution
            if execution.seconds_to_look(LIST_LAG_SECONDS) > 0:
                raise  # what was created without an answer may still show up
            if execution.creating_since is not None:
                self.keep(context, execution.in_doubt())
            self.log.warning("Candidate %d is not in the race: %s", number, first_line(away))
            return away
        except JobCancelledError:  # the task was stopped, and with it its jobs
            raise
        except Exception:
            self.cancel(context, "another candidate was refused")
            raise
        return job

    def job_trigger(self, job: str, watch: Mapping[str, Any], **what: Any) -> TrainingJobTrigger:
        """Return what waits for the job, or for the end of the race."""
        execution = self._execution
        if execution is None or not execution.racing:
            return super().job_trigger(job, watch, **what)
        single = super().job_trigger(job, watch)
        values = {field: getattr(single, field) for field in TrainingJobTrigger.fields}
        jobs = [racing for racing in execution.racing if racing is not None]
        trigger = RaceTrigger(**values, jobs=jobs, next_on_quota=self.checked_machines().next_on_quota)
        # As the triggerer does: whose buttons are to open the winner.
        trigger.task_instance = None if self._context is None else cast("Any", self._context["ti"])
        return trigger

    def conclude(self, context: Context, event: Any) -> dict[str, Any] | None:
        """Return the result of the job that has ended, ``None`` if others are to take its place."""
        execution, machines = self._execution, self.checked_machines()
        if execution is not None and execution.racing:
            told = next((job for job in execution.known_jobs if tells_of(job, event)), None)
            if told is None:
                self.say_that_it_is_old(event)
                return None
            if event["status"] == "settled":
                # Not kept before it is told: whoever comes after a loss of this process sees the same race.
                self._execution = self._decided(execution, told, event, machines)
                self.persist_links(context, ResourceName.parse(told))
                if execution.doubtful:
                    self._cancel_nameless(execution)
        try:
            return super().conclude(context, event)
        except VertexTrainingError:
            if machines.race and self._job_ended and self._execution is not None:
                self.keep(context, self._execution.from_the_first())
            raise

    def _decided(
        self, execution: Execution, winner: str, event: Mapping[str, Any], machines: OwnMachines
    ) -> Execution:
        """Return the execution when the race is over, with what became of those that got no machines."""
        for other in event["details"].get("others", ()):
            if lacks_machines(other, next_on_quota=machines.next_on_quota):
                for number, name in enumerate(execution.racing):
                    if name and same_thing(name, other["job"]):
                        execution = execution.without(number, first_line(machines.job_error(other, {})))
        return execution.decided(winner)

    def _cancel_nameless(self, execution: Execution) -> None:
        """Cancel a job of whose create nobody knows what has become, when the race is over."""
        try:
            cancel_jobs_of(self.job_hook, execution, self.log, "the race is over", quickly=True)
        except Exception as error:
            if call_problem(error) is None:
                raise
            self.log.warning(
                "A job of this race may still run. CancelOrphanedJobsOperator can cancel it: %s", error
            )

    def lack_of_machines(self, ended: JobSnapshot) -> VertexTrainingError | None:
        """Return what a job ended with that had no machines while nobody watched it."""
        machines = self.checked_machines()
        lacks = lacks_machines(ended, next_on_quota=machines.next_on_quota)
        return machines.job_error(ended, {}) if lacks else None

    def checked_machines(self) -> OwnMachines:
        """Return the same machines, when what is written of them has been checked."""
        return self.machines(Problems(self.subject))


def _goes_on(job: JobSnapshot) -> bool:
    """Tell whether a job has its machines, or has done its work."""
    phase = job_phase(job["state"])
    moves = not phase.ended and phase is not JobPhase.CANCELLING
    return phase is JobPhase.SUCCEEDED or (moves and has_started(job))
