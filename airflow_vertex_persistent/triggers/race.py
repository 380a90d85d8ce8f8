# SPDX-License-Identifier: Apache-2.0
"""Waits for jobs that queue for machines beside each other, of which one may go on."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, cast

from airflow.triggers.base import TriggerEvent

from airflow_vertex_persistent.call_problems import CallProblem, call_problem
from airflow_vertex_persistent.names import ResourceName, same_thing
from airflow_vertex_persistent.states import job_phase
from airflow_vertex_persistent.triggers.handing_over import show_job
from airflow_vertex_persistent.triggers.sources import JobSource
from airflow_vertex_persistent.triggers.standing import Standing, lacks_machines, standing
from airflow_vertex_persistent.triggers.task_state import ask_early
from airflow_vertex_persistent.triggers.training_job import TrainingJobTrigger
from airflow_vertex_persistent.triggers.watch import Watch, backoff_seconds, loop_time

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Hashable, Sequence

    from airflow_vertex_persistent.hooks.training_job import TrainingJobAsyncHook
    from airflow_vertex_persistent.names import Identity
    from airflow_vertex_persistent.states import JobSnapshot
    from airflow_vertex_persistent.triggers.sharing import Look
    from airflow_vertex_persistent.triggers.task_state import TaskInstance
    from airflow_vertex_persistent.triggers.watch import WatchEvent

# What the cancellation of a job says that has ended, or is gone.
_ENDED = {CallProblem.NOT_NOW, CallProblem.MISSING}
# So often the losers are cancelled when the winner has ended. What goes on even then is for a sweep.
_MOST_CANCELS = 5


class RaceTrigger(TrainingJobTrigger):
    """
    Waits for the end of the first of several jobs that gets machines, and cancels the others as soon as it has.

    The event is that of the winner, with what the others were like under ``others`` in its details; of the last one,
    if no job gets machines.

    :param jobs: Full names of the jobs.
    :param next_on_quota: Whether a quota that is used up is a lack of machines, which leaves the others in the race.
    :param rest: See :class:`~airflow_vertex_persistent.triggers.training_job.TrainingJobTrigger`.
    """

    fields = (*TrainingJobTrigger.fields, "jobs", "next_on_quota")

    def __init__(self, *, jobs: Sequence[str], next_on_quota: bool = False, **rest: Any) -> None:
        super().__init__(**rest)
        self.jobs = list(jobs)
        self.next_on_quota = next_on_quota

    def regions(self) -> tuple[str, ...]:
        """Return where the jobs are."""
        return tuple(sorted({ResourceName.parse(job).region for job in self.jobs}))

    def source(self, hook: TrainingJobAsyncHook) -> JobSource:
        """Return where jobs of these regions are read together."""
        return JobSource(hook, self.name.project, self.name.kind, self.regions(), self.installation)

    def source_key(self) -> tuple[Hashable, ...]:
        """Return what one list call needs: project, regions and label."""
        return self.name.project, self.name.kind, self.regions(), self.installation

    async def filter_shared_stream(self, shared_stream: AsyncIterator[Look]) -> AsyncIterator[TriggerEvent]:
        """Yield the one event, from what the shared loop sees."""
        if self.cancel_on_kill:
            ask_early()
        race, newcomer = Race(self), True
        async for look in shared_stream:
            self.shared_hook = look.hook
            hook = cast("TrainingJobAsyncHook", look.hook)
            event = await race.saw(look, hook) or await race.decide(hook)
            if event is not None:
                yield TriggerEvent(event)
                return
            for leg in race.moving():
                look.ask(leg, hurry=newcomer and look.whole and leg.name.identity not in look.found)
            newcomer = newcomer and not look.whole

    async def watch(self) -> WatchEvent:
        """Look until the race is over."""
        race = Race(self)
        async with self.hook() as hook:
            while True:
                event = await race.look(hook) or await race.decide(hook)
                if event is not None:
                    return event
                await asyncio.sleep(race.pause())

    async def show(self, job: str) -> None:
        """Let the buttons of the task open the job that decides the race."""
        if self.task_instance is None:
            return
        try:
            await show_job(cast("TaskInstance", self.task_instance), ResourceName.parse(job))
        except Exception as error:  # noqa: BLE001 - whatever keeps Airflow from it, the race goes on
            self.log.warning("The buttons of this task do not open %s: %s", job, error)

    @property
    def cancelled_on_kill(self) -> str:
        """What is cancelled when the task is killed, for the log."""
        return f"The race of {', '.join(self.jobs)}"

    async def cancel_all(self, hook: TrainingJobAsyncHook) -> None:
        """Cancel all jobs, since their task was stopped; one that cannot be cancelled keeps no other one."""
        failed = []
        for job, error in await _cancel_each(hook, self.jobs):
            if error is None:
                self.log.info("Cancelled %s: its task was stopped", job)
            elif call_problem(error) not in _ENDED:
                self.log.warning("%s may still run, it could not be cancelled: %s", job, error)
                failed.append(error)
        if failed:
            raise failed[0]


async def _cancel_each(hook: TrainingJobAsyncHook, jobs: Sequence[str]) -> list[tuple[str, Exception | None]]:
    """Cancel jobs, return the errors; at once, so that none starts while another one's region is slow to answer."""
    cancels = (hook.cancel_job(ResourceName.parse(job)) for job in jobs)
    answers: list[tuple[str, Exception | None]] = []
    for job, error in zip(jobs, await asyncio.gather(*cancels, return_exceptions=True), strict=True):
        if error is not None and (not isinstance(error, Exception) or call_problem(error) is None):
            raise error
        answers.append((job, error))
    return answers


class Race:
    """
    What is known of the jobs of a race, and what follows from it.

    :param trigger: Whose race it is.
    """

    def __init__(self, trigger: RaceTrigger) -> None:
        self._trigger = trigger
        self._legs: dict[Identity, TrainingJobTrigger] = {}
        for job in trigger.jobs:
            name = ResourceName.parse(job)
            values = {field: getattr(trigger, field) for field in TrainingJobTrigger.fields}
            leg = TrainingJobTrigger(**{**values, "job": job, "cancel_on_kill": False})
            self._legs[name.identity] = leg
        self._watches = {identity: Watch(leg) for identity, leg in self._legs.items()}
        self._seen: dict[Identity, JobSnapshot] = {}
        self._ended: set[Identity] = set()
        self._leader: str | None = None
        self._tries = 0
        self._warned: set[str] = set()

    def moving(self) -> list[TrainingJobTrigger]:
        """Return a trigger for each job that is to be looked at again."""
        return [leg for identity, leg in self._legs.items() if identity not in self._ended]

    def pause(self) -> float:
        """Return the seconds until the next look; when the winner has ended that is for no region's outage to say."""
        if self._tries:
            return backoff_seconds(self._trigger.poll_interval, 0)
        now = loop_time()
        return min(self._watches[leg.name.identity].pause(now) for leg in self.moving())

    async def saw(self, look: Look, hook: TrainingJobAsyncHook) -> WatchEvent | None:
        """Note what the shared loop has seen; return the event if it was the last."""
        return self._last(await asyncio.gather(*(self._saw(leg, look, hook) for leg in self.moving())))

    async def _saw(
        self, leg: TrainingJobTrigger, look: Look, hook: TrainingJobAsyncHook
    ) -> WatchEvent | None:
        identity = leg.name.identity
        if identity in look.found:
            return self._note(leg, look.found[identity])
        if identity in look.turns:
            return await self._look_at(leg, hook)
        error = look.outage(leg.name.region)
        return None if error is None else self._watches[identity].missed(error, loop_time())

    async def look(self, hook: TrainingJobAsyncHook) -> WatchEvent | None:
        """Look at every job that moves; return the event if it was the last."""
        return self._last(await asyncio.gather(*(self._look_at(leg, hook) for leg in self.moving())))

    def _last(self, events: Sequence[WatchEvent | None]) -> WatchEvent | None:
        """
        Return the event that ends the wait: nobody's but the leader's, once there is one.

        Before that an outage ends it only where no job gives an answer.
        """
        told = [event for event in events if event is not None]
        leader = self._standing().leader
        if leader is not None:
            return next((event for event in told if same_thing(event["name"], leader["job"])), None)
        refused = [event for event in told if event["status"] != "unreachable"]
        if refused:
            return refused[0]
        return told[0] if told and len(told) == len(self.moving()) else None

    async def _look_at(self, leg: TrainingJobTrigger, hook: TrainingJobAsyncHook) -> WatchEvent | None:
        try:
            snapshot = await leg.look(hook)
        except Exception as error:
            if call_problem(error) is None:
                raise
            return self._watches[leg.name.identity].missed(error, loop_time())
        return self._note(leg, snapshot)

    def _note(self, leg: TrainingJobTrigger, snapshot: Any) -> WatchEvent | None:
        """Note what a job is like; one that has ended counts once it says why."""
        identity = leg.name.identity
        event = self._watches[identity].saw(snapshot, loop_time())
        if event is not None and event["status"] != "settled":
            return event
        if event is None and job_phase(snapshot["state"]).ended:
            return None
        self._seen[identity] = snapshot
        if event is not None:
            self._ended.add(identity)
        return None

    async def decide(self, hook: TrainingJobAsyncHook) -> WatchEvent | None:
        """Cancel who has lost; return the event when the race is over."""
        now = self._standing()
        if now.leader is not None and now.leader["job"] != self._leader and self._losers(now):
            # Lists are behind: one that has started meanwhile, and earlier, must not be cancelled for a later one.
            # Later than this look none can have started earlier, so that it is needed once.
            if event := await self.look(hook):
                return event
            now = self._standing()
        if now.leader is None:
            self._leader = None
            return await self._event(None, hook) if now.over and not self._unseen() else None
        if now.leader["job"] != self._leader:
            self._leader, self._tries = now.leader["job"], 0
            self._trigger.log.info("%s decides the race, the others are cancelled", self._leader)
            await self._trigger.show(self._leader)
        losers = self._losers(now)
        left = await self._cancel(losers, hook)
        if not job_phase(now.leader["state"]).ended:
            return None
        self._tries += 1
        if left and self._tries < _MOST_CANCELS:
            return None
        for loser in left:
            self._trigger.log.warning("%s may still run. CancelOrphanedJobsOperator can cancel it.", loser)
        return await self._event(now.leader, hook)

    def _standing(self) -> Standing:
        return standing(list(self._seen.values()), next_on_quota=self._trigger.next_on_quota)

    def _unseen(self) -> list[str]:
        return [leg.job for identity, leg in self._legs.items() if identity not in self._seen]

    def _losers(self, now: Standing) -> list[str]:
        """Return what need not go on: of whom nothing is known may have started as well."""
        return [*(loser["job"] for loser in now.losers), *self._unseen()]

    async def _cancel(self, losers: Sequence[str], hook: TrainingJobAsyncHook) -> list[str]:
        """Cancel jobs, and return those for which that was not accepted: with each look it is tried again."""
        left = []
        for loser, error in await _cancel_each(hook, losers):
            if error is None or call_problem(error) in _ENDED:
                continue
            left.append(loser)
            if loser not in self._warned:
                self._warned.add(loser)
                self._trigger.log.warning("%s may still run, it could not be cancelled: %s", loser, error)
        return left

    async def _event(self, leader: JobSnapshot | None, hook: TrainingJobAsyncHook) -> WatchEvent:
        last = leader or max(
            (job for job in self._seen.values() if self._lacks_machines(job)),
            key=lambda job: (job["end_time"] or "", job["job"]),
        )
        leg = self._legs[ResourceName.parse(last["job"]).identity]
        details = await leg.details(hook, last)
        others = [dict(job) for job in self._seen.values() if job is not last]
        return {
            "name": last["job"],
            "status": "settled",
            "snapshot": dict(last),
            "details": {**details, "others": others},
            "error": "",
        }

    def _lacks_machines(self, job: JobSnapshot) -> bool:
        return lacks_machines(job, next_on_quota=self._trigger.next_on_quota)
