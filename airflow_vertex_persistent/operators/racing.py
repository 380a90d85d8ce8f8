# SPDX-License-Identifier: Apache-2.0
"""A task whose job queues for machines in several places at once, until one of them has them."""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from airflow_vertex_persistent.exceptions import JobCancelledError, ServiceUnreachableError
from airflow_vertex_persistent.links import persist_job_links
from airflow_vertex_persistent.names import CANDIDATE_LABEL, REQUEST_LABEL, ResourceName, same_thing
from airflow_vertex_persistent.operators.execution import Execution
from airflow_vertex_persistent.operators.patience import answered
from airflow_vertex_persistent.operators.training_job import TrainingOperator
from airflow_vertex_persistent.operators.waiting import NoMachinesError, first_line
from airflow_vertex_persistent.specs.checks import Problems
from airflow_vertex_persistent.states import has_started, job_phase
from airflow_vertex_persistent.triggers.race import RaceTrigger
from airflow_vertex_persistent.triggers.standing import has_won, lacks_machines, standing
from airflow_vertex_persistent.triggers.training_job import TrainingJobTrigger

if TYPE_CHECKING:
    from airflow.sdk import Context
    from google.cloud.aiplatform_v1.types import CustomJob

    from airflow_vertex_persistent.operators.candidates import CandidatePolicy
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

    :param kwargs: See :class:`~airflow_vertex_persistent.operators.training_parameters.TrainingParameters`.
    """

    @abstractmethod
    def wait_policy(self, problems: Problems) -> CandidatePolicy:
        """Return which candidate comes after which."""

    def submit(
        self, context: Context, requests: list[JobRequest], watch: dict[str, Any]
    ) -> tuple[Execution, JobSnapshot]:
        """Return this execution and its job, or, in a race, one of its jobs."""
        execution, resumed = self.begin(context, watch, requests)
        policy = self.wait_policy(Problems(""))
        if policy.race and not execution.has_one_job:
            silent: set[str] = set()
            if resumed:
                execution, leader, silent = self._resume(context, execution, requests, watch, policy)
                if leader is not None and not execution.has_one_job:
                    return execution, leader
            if not execution.has_one_job:
                return self._enter(context, execution, requests, watch, silent)
        return self.find_or_create(context, execution, requests, watch, resumed=resumed)

    def _resume(
        self,
        context: Context,
        execution: Execution,
        requests: list[JobRequest],
        watch: dict[str, Any],
        policy: CandidatePolicy,
    ) -> tuple[Execution, JobSnapshot | None, set[str]]:
        """
        Return the execution as the jobs say that the race stands, who has won, and the regions that do not answer.

        A winner goes on alone, unless a region does not answer: then the race is watched on. Whoever has waited in
        vain does not do so again.
        """
        from airflow_vertex_persistent.hooks.training_job import job_snapshot
        from airflow_vertex_persistent.operators.submission import cancel_job

        newest: dict[int, JobSnapshot] = {}
        jobs, silent = self._look_everywhere(execution, watch)
        for job in jobs:
            number = int(job.labels.get(CANDIDATE_LABEL, "0"))
            place = replace(execution, candidate=number)
            wanted = self.labels_of(context, place, requests[number])[REQUEST_LABEL]
            if job.labels.get(REQUEST_LABEL) == wanted:
                newest[number] = job_snapshot(job)
        now = standing(list(newest.values()), next_on_quota=policy.next_on_quota)
        winner = now.leader if now.leader is not None and has_won(now.leader) else None
        if winner is not None:
            for job in jobs:
                if job.name != winner["job"] and not job_phase(job_snapshot(job)["state"]).ended:
                    cancel_job(self.connected(), job.name, self.log, f"{winner['job']} has its machines")
            (number,) = [number for number, job in newest.items() if job is winner]
            execution = replace(execution, candidate=number)
            execution = execution.entered(winner["job"]) if silent else execution.decided(winner["job"])
        else:
            for number in execution.open_candidates:
                if number in newest and lacks_machines(newest[number], next_on_quota=policy.next_on_quota):
                    why = first_line(self.job_error(newest[number], {}))
                    execution = execution.without(number, why)
            if not execution.open_candidates:
                execution = execution.from_the_first()
        self.keep(context, execution)
        return execution, winner, silent

    def _look_everywhere(
        self, execution: Execution, watch: dict[str, Any]
    ) -> tuple[list[CustomJob], set[str]]:
        """
        Return the jobs of all regions that answer, and the regions that do not.

        :raises ServiceUnreachableError: None did.
        """
        from airflow_vertex_persistent.hooks.training_job import job_snapshot
        from airflow_vertex_persistent.operators.submission import LIST_LAG_SECONDS, jobs_of

        end, limit = time.monotonic() + watch["max_outage"], min(watch["max_outage"], _UNWATCHED_SECONDS)
        while True:
            jobs: list[CustomJob] = []
            silent: set[str] = set()
            for region in dict.fromkeys(execution.regions):
                try:
                    look = partial(jobs_of, self.connected(), execution, region)
                    jobs += answered(look, limit, self.log)
                except ServiceUnreachableError:
                    silent.add(region)
                    if silent == set(execution.regions) and time.monotonic() >= end:
                        raise
            # Once one has won nobody looks again: a job whose create has had no answer must show up before.
            news = [job for job in jobs if job.name not in execution.known_jobs]
            left = execution.seconds_to_look(LIST_LAG_SECONDS)
            if left == 0 or any(execution.may_be_creating(job_snapshot(job)) for job in news):
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
        from airflow_vertex_persistent.operators.submission import LIST_LAG_SECONDS

        number = execution.candidate
        limit = 0.0 if execution.region in silent else min(watch["max_outage"], _UNWATCHED_SECONDS)
        try:
            # It is looked for before it is created: where that has no answer, nothing is in doubt.
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
                self.keep(context, execution.refused())
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
        return RaceTrigger(**values, jobs=jobs, next_on_quota=self.wait_policy(Problems("")).next_on_quota)

    def conclude(self, context: Context, event: Any) -> dict[str, Any] | None:
        """Return the result of the job that has ended, ``None`` if others are to take its place."""
        execution = self._execution
        if execution is not None and execution.racing:
            watch, policy = self.watch_arguments(Problems("")), self.wait_policy(Problems(""))
            known = {ResourceName.parse(job).identity: job for job in execution.racing if job is not None}
            told = ResourceName.parse(event["name"]).identity if isinstance(event, Mapping) else None
            if told not in known:
                # A trigger's number can be given again (SQLite does): this is what an older attempt waited for.
                first = next(iter(known.values()))
                event = self.wait_for_event(self.job_trigger(first, watch), context)
                told = ResourceName.parse(event["name"]).identity
            if event["status"] == "settled":
                self.keep(context, self._decided(execution, known[told], event, policy))
                persist_job_links(context, ResourceName.parse(known[told]))
        return super().conclude(context, event)

    def _decided(
        self, execution: Execution, job: str, event: Mapping[str, Any], policy: CandidatePolicy
    ) -> Execution:
        """Return the execution when the race is over, with what became of those that got no machines."""
        for other in event["details"].get("others", ()):
            if lacks_machines(other, next_on_quota=policy.next_on_quota):
                number = next(
                    n for n, name in enumerate(execution.racing) if name and same_thing(name, other["job"])
                )
                execution = execution.without(number, first_line(self.job_error(other, {})))
        # Where the job that ended the race never had machines, a retry races again.
        over = has_started(event["snapshot"]) or lacks_machines(
            event["snapshot"], next_on_quota=policy.next_on_quota
        )
        return execution.decided(job) if over else replace(execution, candidate=execution.racing.index(job))
