# SPDX-License-Identifier: Apache-2.0
"""A task whose job queues for machines in several places at once, until one of them has them."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import replace
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

    from airflow_vertex_persistent.operators.candidates import CandidatePolicy
    from airflow_vertex_persistent.specs.custom_job import JobRequest
    from airflow_vertex_persistent.states import JobSnapshot

# For how long an outage may keep the next candidate from entering, while nobody watches those that have entered.
_UNWATCHED_SECONDS = 60.0


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
        """Return this execution and its job, or, in a race, the first of its jobs."""
        execution, resumed = self.begin(context, watch, requests)
        policy = self.wait_policy(Problems(""))
        if policy.race and not execution.has_one_job and resumed:
            execution = self._resume(context, execution, requests, watch, policy)
        if not policy.race or execution.has_one_job:
            return self.find_or_create(context, execution, requests, watch, resumed=resumed)
        return self._enter(context, execution, requests, watch, resumed=resumed)

    def _resume(
        self,
        context: Context,
        execution: Execution,
        requests: list[JobRequest],
        watch: dict[str, Any],
        policy: CandidatePolicy,
    ) -> Execution:
        """
        Return the execution as the jobs say that the race stands.

        A winner goes on alone. Whoever has waited in vain does not do so again.
        """
        from airflow_vertex_persistent.hooks.training_job import job_snapshot
        from airflow_vertex_persistent.operators.submission import cancel_job, jobs_of

        newest: dict[int, JobSnapshot] = {}
        jobs = answered(lambda: jobs_of(self.connected(), execution), watch["max_outage"], self.log)
        for job in jobs:
            number = int(job.labels.get(CANDIDATE_LABEL, "0"))
            place = replace(execution, candidate=number)
            wanted = self.labels_of(context, place, requests[number])[REQUEST_LABEL]
            if job.labels.get(REQUEST_LABEL) == wanted:
                newest[number] = job_snapshot(job)
        now = standing(list(newest.values()), next_on_quota=policy.next_on_quota)
        if now.leader is not None and has_won(now.leader):
            for job in jobs:
                if job.name != now.leader["job"] and not job_phase(job_snapshot(job)["state"]).ended:
                    cancel_job(self.connected(), job.name, self.log, f"{now.leader['job']} has its machines")
            (number,) = [number for number, job in newest.items() if job is now.leader]
            execution = replace(execution, candidate=number).decided(now.leader["job"])
        else:
            for number in execution.open_candidates:
                if number in newest and lacks_machines(newest[number], next_on_quota=policy.next_on_quota):
                    why = first_line(self.job_error(newest[number], {}))
                    execution = execution.without(number, why)
            if not execution.open_candidates:
                execution = execution.from_the_first()
        self.keep(context, execution)
        return execution

    def _enter(
        self,
        context: Context,
        execution: Execution,
        requests: list[JobRequest],
        watch: dict[str, Any],
        *,
        resumed: bool,
    ) -> tuple[Execution, JobSnapshot]:
        """Find or create the job of each candidate that may still get machines."""
        jobs: list[JobSnapshot] = []
        last: NoMachinesError | None = None
        # The one whose create has had no answer is looked for before anything else is created.
        doubtful = execution.candidate if execution.creating_since is not None else None
        for number in sorted(execution.open_candidates, key=lambda number: (number != doubtful, number)):
            execution = replace(self._execution or execution, candidate=number)
            limit = min(watch["max_outage"], _UNWATCHED_SECONDS) if jobs else watch["max_outage"]
            try:
                execution, job = self.find_or_create(
                    context,
                    execution,
                    requests,
                    {**watch, "max_outage": limit},
                    resumed=resumed,
                    with_job=Execution.entered,
                )
            except NoMachinesError as refusal:
                last, execution = refusal, self._execution or execution
                if len(execution.open_candidates) > 1:
                    self.keep(context, execution.without(number, first_line(refusal.error)))
            except ServiceUnreachableError as away:
                execution = self._execution or execution
                if not jobs or execution.creating_since is not None:
                    raise
                self.log.warning("Candidate %d is not in the race: %s", number, first_line(away))
            except JobCancelledError:  # the task was stopped, and with it its jobs
                raise
            except Exception:
                self.cancel(context, "another candidate was refused")
                raise
            else:
                jobs.append(job)
        if last is not None and not jobs:
            raise last
        return self._execution or execution, jobs[0]

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
