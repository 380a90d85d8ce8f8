# SPDX-License-Identifier: Apache-2.0
"""A task whose job queues for machines in several places at once, until one of them has them."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from airflow_vertex_persistent.links import persist_job_links
from airflow_vertex_persistent.names import CANDIDATE_LABEL, ResourceName
from airflow_vertex_persistent.operators.candidates import first_line
from airflow_vertex_persistent.operators.training_job import TrainingOperator
from airflow_vertex_persistent.operators.waiting import NoMachinesError
from airflow_vertex_persistent.specs.checks import Problems
from airflow_vertex_persistent.states import JobPhase, has_started, job_phase
from airflow_vertex_persistent.triggers.race import RaceTrigger
from airflow_vertex_persistent.triggers.standing import lacks_machines, standing
from airflow_vertex_persistent.triggers.training_job import TrainingJobTrigger

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow.sdk import Context

    from airflow_vertex_persistent.operators.candidates import CandidatePolicy
    from airflow_vertex_persistent.operators.execution import Execution
    from airflow_vertex_persistent.specs.custom_job import JobRequest
    from airflow_vertex_persistent.states import JobSnapshot


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
        undecided = execution.job is None or execution.racing
        if not undecided or not self.wait_policy(Problems("")).race:
            return self.find_or_create(context, execution, requests, watch, resumed=resumed)
        entrants = self._entrants(execution) if resumed else execution.open_candidates
        refusals: list[tuple[int, NoMachinesError]] = []
        jobs: list[JobSnapshot] = []
        for number in entrants:
            execution = replace(execution, candidate=number)
            try:
                entered, job = self.find_or_create(context, execution, requests, watch, resumed=resumed)
            except NoMachinesError as refusal:
                refusals.append((number, refusal))
                execution = self._execution or execution
                continue
            execution = entered.entered(job["job"])
            self.keep(context, execution)
            jobs.append(job)
        if not jobs:
            number, last = refusals.pop()
            execution = replace(execution, candidate=number)
        for refused, why in refusals:
            execution = execution.without(refused, first_line(why.error))
        self.keep(context, execution)
        if not jobs:
            raise last
        return execution, jobs[0]

    def _entrants(self, execution: Execution) -> list[int]:
        """Return whose jobs to find or create after an attempt that has left some: a winner goes on alone."""
        from airflow_vertex_persistent.hooks.training_job import job_snapshot
        from airflow_vertex_persistent.operators.submission import jobs_of

        newest = {
            job.labels.get(CANDIDATE_LABEL): job_snapshot(job) for job in jobs_of(self.connected(), execution)
        }
        leader = standing(list(newest.values()), next_on_quota=False).leader
        if leader is not None and has_started(leader) and job_phase(leader["state"]) is not JobPhase.FAILED:
            return [number for number in execution.open_candidates if newest.get(str(number)) is leader]
        return execution.open_candidates

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
        if execution is not None and execution.racing and event["status"] == "settled":
            policy = self.wait_policy(Problems(""))
            known = {ResourceName.parse(job).identity: job for job in execution.racing if job is not None}
            numbers = {identity: execution.racing.index(job) for identity, job in known.items()}
            for other in event["details"].get("others", ()):
                identity = ResourceName.parse(other["job"]).identity
                if identity in known and lacks_machines(other, next_on_quota=policy.next_on_quota):
                    execution = execution.without(numbers[identity], first_line(self.job_error(other, {})))
            ended = known.get(ResourceName.parse(event["name"]).identity)
            if ended is not None:
                execution = execution.decided(ended)
            self.keep(context, execution)
            persist_job_links(context, ResourceName.parse(event["name"]))
        return super().conclude(context, event)
