# SPDX-License-Identifier: Apache-2.0
"""One tuning job from its creation to its end: ask for trials, run them, learn from them."""

from __future__ import annotations

import asyncio
import logging
from functools import partial
from typing import TYPE_CHECKING, Any

from google.cloud.aiplatform_v1.types import HyperparameterTuningJob, JobState, Trial

from airflow_vertex_persistent.emulator import messages
from airflow_vertex_persistent.emulator.endings import LOST, cancelled, end_job, until
from airflow_vertex_persistent.emulator.errors import not_found
from airflow_vertex_persistent.emulator.lifecycle import ENDED, job_moved
from airflow_vertex_persistent.emulator.names import CUSTOM_JOBS, parse_name
from airflow_vertex_persistent.emulator.world import JobEndedError, JobPlan, Outcome, failed

from .advisors import advisor_for
from .failure_rule import is_too_much
from .median_rule import is_hopeless
from .trial_job import flags, trial_created, trial_job
from .trial_run import TrialRun

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from google.cloud.aiplatform_v1.types import CustomJob, StudySpec

    from airflow_vertex_persistent.emulator.names import Key, Location
    from airflow_vertex_persistent.emulator.runs import JobRuns
    from airflow_vertex_persistent.emulator.world import World

    from .measurements import Measured
    from .space import Value

    StartJob = Callable[[Location, CustomJob, JobPlan], tuple[Key, CustomJob]]

_log = logging.getLogger(__name__)


class TuningRun:
    """
    Takes one tuning job through its states; one that waits may have trials of the emulator before us.

    :param world: what it needs of the emulator.
    :param runs: the custom jobs at work.
    :param start_job: starts a custom job.
    :param key: the job, which is in the store as PENDING, and what there is of its trials is at work.
    :param plan: what is to go wrong with it: no machines for its trials, a late error.
    """

    def __init__(self, world: World, runs: JobRuns, start_job: StartJob, key: Key, plan: JobPlan) -> None:
        self._world = world
        self._runs = runs
        self._start_job = start_job
        self._key = key
        self._plan = plan
        self._study: StudySpec = self._job.study_spec
        self._advisor = advisor_for(self._study, world.settings.tuning_seed)
        self._stop = asyncio.Event()
        self._stopped: Outcome | None = Outcome(JobState.JOB_STATE_CANCELLED)
        self._active: list[TrialRun] = []
        self._completed: list[Sequence[Measured]] = []
        self._failed = 0
        self._strange: set[str] = set()
        """Trials that the advisor did not choose, and cannot learn from."""
        self._old_trials = list(self._job.trials)
        for trial in self._old_trials:
            if trial.state == Trial.State.INFEASIBLE:
                self._failed += 1
            else:
                self._follow(trial, partial(self._find_job, trial))
        self.task = asyncio.create_task(self._supervise(), name=f"tuning job {key.id}")

    @property
    def _job(self) -> HyperparameterTuningJob:
        """The job as the store has it now."""
        job = self._world.store.tuning_jobs.get(self._key)
        if job is None:
            raise RuntimeError(f"active tuning job {self._key.id} left the store")
        return job

    def stop(self, text: str) -> None:
        """
        Ask the job to end as CANCELLED; it is CANCELLING from now on, and its trials' jobs are cancelled.

        :param text: the reason, as its error will say it.
        """
        if not self._stop.is_set() and self._job.state not in ENDED:
            self._stopped = cancelled(text)
            self._move(JobState.JOB_STATE_CANCELLING)
        self._stop.set()

    def leave_waiting(self) -> bool:
        """End the work on a job that waits and leave it as it is; ``False`` when it does not wait."""
        if self._stop.is_set() or self._job.state != JobState.JOB_STATE_PENDING:
            return False
        self._stopped = None
        self._stop.set()
        return True

    async def _supervise(self) -> None:
        """Run the work until it is done or stopped, then end the trials that are left."""
        work = await until(self._stop, self._work())
        outcome = self._outcome(work)
        if outcome is None:
            for trial in self._active:
                trial.task.cancel()
            return
        reason = outcome.error if outcome.state == JobState.JOB_STATE_CANCELLED else None
        for trial in self._active:
            trial.stop(reason.message if reason else messages.TUNING_JOB_FAILED)
        if self._active:
            await asyncio.wait({trial.task for trial in self._active})
        self._say(messages.END_OF_JOB[JobState(outcome.state)])
        jobs, plan = self._world.store.tuning_jobs, self._plan
        await end_job(self._world, jobs, self._key, outcome, delay=plan.error_delay, stop=self._stop)

    def _outcome(self, work: asyncio.Task[None]) -> Outcome | None:
        """How the job ends; ``None`` when it is left as it is."""
        if work.cancelled():
            return self._stopped
        error = work.exception()
        if error is None:
            return Outcome(JobState.JOB_STATE_SUCCEEDED)
        if isinstance(error, JobEndedError):
            return error.outcome
        _log.error("tuning job %s ended with an error of the emulator", self._key.id, exc_info=error)
        return LOST

    async def _work(self) -> None:
        for old in self._old_trials:
            # Nothing had been learned yet: it chooses the same again, unless the seed is another one now.
            values = await asyncio.to_thread(self._advisor.ask)
            chosen: dict[str, Any] = {one.parameter_id: one.value for one in old.parameters}
            if values != chosen:
                self._strange.add(old.id)
            if old.state == Trial.State.INFEASIBLE:
                await asyncio.to_thread(self._advisor.tell, int(old.id) - 1, None)
        while await self._fill():
            await asyncio.wait({trial.task for trial in self._active}, return_when=asyncio.FIRST_COMPLETED)
            for trial in [one for one in self._active if one.task.done()]:
                trial.task.result()
                self._active.remove(trial)
                await self._learn(trial)
        if self._job.state == JobState.JOB_STATE_PENDING:  # not one trial has run, and the job allows that
            self._move(JobState.JOB_STATE_RUNNING)

    async def _fill(self) -> bool:
        """
        Start trials until there are as many as may run at the same time.

        :return: whether any runs; there are no more when everything has been tried.
        """
        job = self._job
        while len(self._active) < job.parallel_trial_count and len(self._job.trials) < job.max_trial_count:
            values = await asyncio.to_thread(self._advisor.ask)
            if values is None:
                break
            self._start(values)
        return bool(self._active)

    def _start(self, values: dict[str, Value]) -> None:
        trial = trial_created(len(self._job.trials) + 1, values)
        args = flags(values, plain=self._world.settings.trial_numbers == "plain")
        job = trial_job(self._job, trial.id, args)
        plan = JobPlan(stockout=self._plan.stockout, trial=trial.id)
        self._say(f"Trial {trial.id}: {' '.join(args)}")
        self._follow(trial, lambda: self._start_job(self._key.location, job, plan))

    def _follow(self, trial: Trial, start: Callable[[], tuple[Key, CustomJob]]) -> None:
        run = TrialRun(
            self._world,
            self._runs,
            trial=trial,
            study=self._study,
            start=start,
            show=self._show,
            is_hopeless=self._is_hopeless,
        )
        self._active.append(run)

    def _find_job(self, trial: Trial) -> tuple[Key, CustomJob]:
        """Find the job of a trial of the emulator before us."""
        key = parse_name(trial.custom_job, CUSTOM_JOBS)
        if (job := self._world.store.jobs.get(key)) is None:
            raise not_found(messages.JOB_MISSING)
        return key, job

    def _is_hopeless(self, found: Sequence[Measured]) -> bool:
        rule = "median_automated_stopping_spec" in self._study
        return rule and is_hopeless(found, self._completed, self._study)

    async def _learn(self, run: TrialRun) -> None:
        """
        Learn from a trial that is done.

        :raises JobEndedError: when that is one failure too many.
        """
        trial, final = run.trial, run.final
        known = final.values if final and trial.id not in self._strange else None
        await asyncio.to_thread(self._advisor.tell, int(trial.id) - 1, known)
        if final:
            values = ", ".join(f"{name}={value:g}" for name, value in final.values.items())
            self._say(f"Trial {trial.id} SUCCEEDED: {values} (step {final.step})")
            self._completed.append(run.measured)
            return
        self._say(f"Trial {trial.id} INFEASIBLE: {trial.infeasible_reason}")
        self._failed += 1
        limit = self._job.max_failed_trial_count
        if is_too_much(self._failed, len(self._completed), limit):
            text = messages.too_many_failed_trials(trial, limit)
            raise failed(run.error_code, text)

    def _show(self, trial: Trial) -> None:
        """Put a trial into the job, which is RUNNING from the first on that runs."""
        if trial.state == Trial.State.ACTIVE and self._job.state == JobState.JOB_STATE_PENDING:
            self._move(JobState.JOB_STATE_RUNNING)
        changed = HyperparameterTuningJob(self._job)
        raw = HyperparameterTuningJob.pb(changed)
        index = int(trial.id) - 1
        place = raw.trials[index] if index < len(raw.trials) else raw.trials.add()
        place.CopyFrom(Trial.pb(trial))
        raw.update_time.FromDatetime(self._world.clock())
        self._world.store.tuning_jobs.put(self._key, changed)

    def _move(self, state: int) -> None:
        self._world.store.tuning_jobs.put(self._key, job_moved(self._job, state, self._world.clock()))

    def _say(self, text: str) -> None:
        self._world.logs.say(self._key.id, text)
