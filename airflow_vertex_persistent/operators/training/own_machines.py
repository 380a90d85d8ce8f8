# SPDX-License-Identifier: Apache-2.0
"""Machines that a job gets for itself, in one of the places and shapes in which it may."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from airflow_vertex_persistent.call_problems import CallProblem, call_problem
from airflow_vertex_persistent.endings import (
    capacity_next_step,
    is_lack_of_machines,
    job_error,
    quota_next_step,
)
from airflow_vertex_persistent.exceptions import (
    CapacityError,
    MaxWaitExceededError,
    QuotaExceededError,
    VertexTrainingError,
)
from airflow_vertex_persistent.names import CUSTOM_JOBS, NOUNS, TUNING_JOBS
from airflow_vertex_persistent.operators.training.machines import NextStep, NoMachinesError, first_line
from airflow_vertex_persistent.specs.checks import Problems, seconds
from airflow_vertex_persistent.specs.scheduling import read_strategy
from airflow_vertex_persistent.states import (
    DEFAULT_MAX_WAIT_SECONDS,
    FLEX_START,
    STANDARD,
    duration_text,
    seconds_between,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow_vertex_persistent.operators.training.execution import Execution
    from airflow_vertex_persistent.specs.custom_job import JobRequest
    from airflow_vertex_persistent.states import JobSnapshot


@dataclass(frozen=True)
class Place:
    """
    A candidate, as far as its wait and the log are concerned.

    :param region: Where it is.
    :param machine_type: ``None``, where worker pools or ``config`` say it.
    :param strategy: How it gets machines, as ``Scheduling.strategy`` says it.
    :param limit: Seconds for which a job may wait for machines; 0: for ever; ``None``: as the service does.
    """

    region: str
    machine_type: str | None
    strategy: str
    limit: float | None

    @classmethod
    def read(cls, wanted: Mapping[str, Any], *, default: str = FLEX_START) -> Place:
        """
        Return the place of what is wanted there, which has been checked.

        :param default: The strategy of one that says none.
        """
        limit = wanted["max_wait_duration"]
        if limit is not None:
            limit = seconds("max_wait_duration", limit, Problems(""), zero=True)
        written = wanted["strategy"]
        strategy = default if written is None else read_strategy(written, Problems(""))
        return cls(str(wanted["region"]), wanted["machine_type"], strategy, limit)

    @property
    def wait(self) -> str:
        """How long a job may wait there, in words."""
        queues = self.strategy == FLEX_START
        limit = DEFAULT_MAX_WAIT_SECONDS if self.limit is None and queues else self.limit
        if limit is None:
            return "has machines at once, or not at all"
        return f"waits up to {duration_text(limit)}" if limit else "waits for ever"

    def __str__(self) -> str:
        strategy = None if self.strategy == FLEX_START else self.strategy.lower()
        return " ".join(filter(None, (self.region, self.machine_type, strategy)))


@dataclass(frozen=True)
class OwnMachines:
    """
    The machines of the candidates, tried one after the other or all at once.

    :param places: The candidates, in their order.
    :param next_on_quota: Whether a quota that is used up leads to the next one.
    :param race: Whether they queue beside each other.
    :param kind: Collection of the jobs that are to get machines.
    """

    places: tuple[Place, ...]
    next_on_quota: bool
    race: bool = False
    kind: str = CUSTOM_JOBS

    def plan(self) -> list[str]:
        """Return a line for each candidate."""
        return [f"  {self._text(number)}: {place.wait}" for number, place in enumerate(self.places)]

    def _text(self, number: int) -> str:
        return f"{number} ({self.places[number]})"

    def _job_text(self, number: int) -> str:
        """Return which job is meant, for an error."""
        return (
            f"the job of candidate {self._text(number)}"
            if len(self.places) > 1
            else f"the {NOUNS[self.kind]}"
        )

    def fitting_job(self, request: JobRequest, execution: Execution) -> dict[str, Any]:
        """Return the job of the candidate: what it gets is for the service to see to."""
        return request.job

    def check_refusal(self, error: Exception, request: JobRequest, execution: Execution) -> None:
        """
        Tell what the refusal of a create means.

        :raises NoMachinesError: There are none for the job now.
        :raises QuotaExceededError: The project's quota is used up, which ends the task.
        """
        refused = f"Vertex AI has not created {self._job_text(execution.candidate)}: {error}"
        strategy = (request.job["job_spec"].get("scheduling") or {}).get("strategy", STANDARD)
        match call_problem(error):
            case CallProblem.CAPACITY:
                text = f"{refused}\nNext step: {self._next_step(strategy)}"
                raise NoMachinesError(CapacityError(text)) from error
            case CallProblem.QUOTA:
                text = f"{refused}\nNext step: {quota_next_step(strategy)}"
                if len(self.places) > 1 and not self.next_on_quota:
                    text += " To go on with the next candidate then, set next_on_quota=True."
                refusal = QuotaExceededError(text)
                if not self.next_on_quota:
                    raise refusal from error
                raise NoMachinesError(refusal) from error

    def fallback(self, job: JobSnapshot) -> str | None:
        """Return ``None``: a job runs where it was to run."""
        return None

    def job_error(self, job: JobSnapshot, details: Mapping[str, Any]) -> VertexTrainingError:
        """Return the error of a job that has ended without success."""
        return job_error(job, details)

    def deadline(self, execution: Execution, job: JobSnapshot) -> str | None:
        """Return until when a job may wait, where the task counts and not the service."""
        limit = self.places[execution.candidate].limit
        if job["create_time"] is None or job["strategy"] == FLEX_START or not limit:
            return None
        return (datetime.fromisoformat(job["create_time"]) + timedelta(seconds=limit)).isoformat()

    def goes_on(self, job: JobSnapshot, error: VertexTrainingError) -> bool:
        """Tell whether a job has ended for lack of machines."""
        return is_lack_of_machines(error, next_on_quota=self.next_on_quota)

    def next_step(
        self, execution: Execution, error: VertexTrainingError, *, interval: float, overdue: bool
    ) -> NextStep:
        """Return the next candidate, or the error that tells of all of them."""
        if len(self.places) == 1:
            return NextStep(execution.done(*execution.known_jobs), error=error)
        execution = execution.without(execution.candidate, first_line(error))
        if left := execution.open_candidates:
            following = left if self.race else left[:1]
            said = f"Next: {', '.join(map(self._text, following))}"
            return NextStep(execution.going_on(), said)
        outcomes = "".join(f"\n  {self._text(number)}: {outcome}" for number, outcome in execution.tried)
        of_quota = isinstance(error, QuotaExceededError)
        fix = quota_next_step(FLEX_START) if of_quota else capacity_next_step(FLEX_START)
        end = type(error)(f"No candidate got machines:{outcomes}\nNext step: {fix}")
        return NextStep(execution.from_the_first(), error=end)

    def overdue_error(self, job: JobSnapshot) -> VertexTrainingError:
        """Return the error of a job that was cancelled at its deadline."""
        waited = seconds_between(job["create_time"], job["end_time"]) or 0.0
        return MaxWaitExceededError(
            f"{job['job']} has waited for {duration_text(waited)} for machines and was cancelled\n"
            f"Next step: {self._next_step(job['strategy'])}"
        )

    def _next_step(self, strategy: str | None) -> str:
        return capacity_next_step(strategy, tuning=self.kind == TUNING_JOBS)
