# SPDX-License-Identifier: Apache-2.0
"""
Which job belongs to which task: kept in Airflow's task state store, and as labels on the job.

An *execution* is one logical run of a task: all its automatic retries, until someone clears it.
"""

from __future__ import annotations

import json
import secrets
from dataclasses import asdict, dataclass, fields, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from airflow_vertex_persistent.names import CUSTOM_JOBS, ResourceName
from airflow_vertex_persistent.states import seconds_between

if TYPE_CHECKING:
    from collections.abc import Mapping
    from collections.abc import Set as AbstractSet

    from airflow.sdk import Context

    from airflow_vertex_persistent.states import JobSnapshot

_STORE_KEY = "vertex_training_job"
# What the clocks of a worker and of the service may differ by.
_CLOCK_SECONDS = 60.0


@dataclass(frozen=True)
class Execution:
    """
    What the task state store knows of an execution. Written before anything is created.

    :param key: Random; the label by which the execution's jobs are found.
    :param max_tries: Airflow's count, which stays over automatic retries and grows when the task is cleared.
    :param project_id: Where the jobs are.
    :param regions: Where the jobs are: the region of each candidate, of one place in most tasks.
    :param first_submit: When the execution first wanted a job, RFC 3339 in UTC: limits on waiting for machines count
        from then. It begins anew at the end of a job that had its machines.
    :param job: Full name of its newest job, once there is one.
    :param creating_since: When a create began whose answer has not been kept yet, RFC 3339 in UTC.
    :param cleared: The task was cleared while it ran, for which Airflow's count does not grow.
    :param fallback: ``on_demand``: its jobs run there, since their persistent resource was busy.
    :param candidate: Number of the place and shape in which it wants or has its machines, from 0.
    :param tried: Candidates that had no machines, by number, with a text that says what became of each.
    :param racing: The newest job of each candidate that queues beside others; ``None``: it has none.
    :param doubtful: A create has had no answer in a region that then gave none: its job may show up at any time.
    :param kind: Collection of its jobs.
    :param past: Full names of jobs whose end has been dealt with: they say nothing of how it goes on.
    """

    key: str
    max_tries: int
    project_id: str
    regions: tuple[str, ...]
    first_submit: str
    job: str | None = None
    creating_since: str | None = None
    cleared: bool = False
    fallback: str | None = None
    candidate: int = 0
    tried: tuple[tuple[int, str], ...] = ()
    racing: tuple[str | None, ...] = ()
    doubtful: bool = False
    past: tuple[str, ...] = ()
    kind: str = CUSTOM_JOBS

    @classmethod
    def new(cls, max_tries: int, project_id: str, *regions: str, kind: str = CUSTOM_JOBS) -> Execution:
        """Return an execution that has no job yet."""
        return cls(secrets.token_hex(12), max_tries, project_id, regions, _now(), kind=kind)

    @property
    def region(self) -> str:
        """Region of the candidate."""
        return self.regions[self.candidate]

    @property
    def has_one_job(self) -> bool:
        """Whether its one job is known, and there is no other one."""
        return self.job is not None and self.creating_since is None and not self.racing

    @property
    def known_jobs(self) -> list[str]:
        """The names of the jobs that it has or has had."""
        return list(dict.fromkeys(job for job in (self.job, *self.racing) if job is not None))

    def known_jobs_in(self, region: str) -> list[ResourceName]:
        """Return the names of those in one region."""
        return [name for name in map(ResourceName.parse, self.known_jobs) if name.region == region]

    def continues(self, stored: Execution) -> bool:
        """Tell whether a job of the stored one can be taken over: same run of the task, same places and kind."""
        ours = (self.max_tries, self.project_id, self.regions, self.kind)
        theirs = (stored.max_tries, stored.project_id, stored.regions, stored.kind)
        return not stored.cleared and ours == theirs

    def entered(self, job: str) -> Execution:
        """Return this execution when the job of its candidate queues beside others."""
        racing: list[str | None] = list(self.racing or [None] * len(self.regions))
        racing[self.candidate] = job
        return replace(self, job=None, creating_since=None, racing=tuple(racing))

    def raced(self, jobs: Mapping[int, str], *, unless_in: AbstractSet[str]) -> Execution:
        """
        Return this execution when these are the jobs of the race, by candidate.

        :param unless_in: Regions of which nothing is known now: there it is as it was.
        """
        old = self.racing or (None,) * len(self.regions)
        racing = [old[n] if region in unless_in else jobs.get(n) for n, region in enumerate(self.regions)]
        return replace(self, job=None, creating_since=None, racing=tuple(racing))

    def decided(self, winner: str) -> Execution:
        """Return this execution when one of its jobs has its machines, and the others need not go on."""
        number = self.racing.index(winner) if winner in self.racing else self.candidate
        others = [job for job in self.known_jobs if job != winner]
        return replace(self.done(*others), candidate=number, job=winner, racing=(), creating_since=None)

    def without(self, candidate: int, outcome: str) -> Execution:
        """
        Return this execution when a candidate has no machines.

        :param outcome: What became of it.
        """
        job = self.racing[candidate] if self.racing else self.job
        known = () if job is None else (job,)
        racing = tuple(None if number == candidate else one for number, one in enumerate(self.racing))
        left = replace(self, racing=racing if any(racing) else ())
        return replace(left.done(*known), tried=(*self.tried, (candidate, outcome)))

    def done(self, *jobs: str) -> Execution:
        """Return this execution when the end of jobs has been dealt with."""
        return replace(self, past=tuple(dict.fromkeys((*self.past, *jobs))))

    @property
    def open_candidates(self) -> list[int]:
        """The candidates that may still get machines."""
        closed = {number for number, _ in self.tried}
        return [number for number in range(len(self.regions)) if number not in closed]

    def going_on(self) -> Execution:
        """Return this execution with the first candidate that may still get machines, and no job."""
        first = self.open_candidates[0]
        return replace(self, candidate=first, job=None, racing=(), creating_since=None, first_submit=_now())

    def from_the_first(self) -> Execution:
        """Return this execution when no candidate is left, or the race is over, for a retry."""
        return replace(self.done(*self.known_jobs), candidate=0, job=None, racing=(), tried=())

    def creating(self) -> Execution:
        """Return this execution when a create is about to begin."""
        return replace(self, creating_since=_now())

    def created(self, job: str) -> Execution:
        """Return this execution with its job."""
        return replace(self, job=job, creating_since=None)

    def refused(self) -> Execution:
        """Return this execution when the service has said that it creates nothing."""
        return replace(self, creating_since=None)

    def in_doubt(self) -> Execution:
        """Return this execution when it goes on without knowing what became of a create."""
        return replace(self, creating_since=None, doubtful=True)

    def after(self, ended: JobSnapshot) -> Execution:
        """Return this execution after one of its jobs."""
        had_machines = ended["start_time"] is not None
        if had_machines and (seconds_between(self.first_submit, ended["end_time"]) or 0.0) > 0:
            return replace(self, first_submit=str(ended["end_time"]))
        return self

    def is_news(self, job: JobSnapshot) -> bool:
        """Tell whether a job can be the one whose create has had no answer."""
        if job["job"] in {*self.known_jobs, *self.past}:
            return False
        age = seconds_between(self.creating_since, job["create_time"])
        return age is not None and age > -_CLOCK_SECONDS

    def seconds_to_look(self, lag: float) -> float:
        """Return for how long a job may still show up in lists that are ``lag`` seconds behind."""
        if self.creating_since is None:
            return 0.0
        return max(lag - (seconds_between(self.creating_since, _now()) or 0.0), 0.0)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def load_execution(context: Context) -> Execution | None:
    """
    Return what the store has for this task instance, ``None`` if it never had anything.

    A store that cannot be read raises: taking that for "nothing there" would buy a second job.
    """
    stored: Any = context["task_state_store"].get(_STORE_KEY)
    if stored is None:
        return None
    known = {field.name for field in fields(Execution)}
    values = {name: value for name, value in stored.items() if name in known}
    tuples = {name: tuple(values[name]) for name in ("regions", "racing", "past") if name in values}
    tuples["tried"] = tuple((number, outcome) for number, outcome in values.get("tried", ()))
    return Execution(**values | tuples)


def save_execution(context: Context, execution: Execution) -> None:
    """Keep an execution."""
    stored = {name: value for name, value in asdict(execution).items() if value not in {None, ()}}
    context["task_state_store"].set(_STORE_KEY, json.loads(json.dumps(stored)))  # tuples are lists there
