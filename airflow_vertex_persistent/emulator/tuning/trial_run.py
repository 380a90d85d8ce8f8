# SPDX-License-Identifier: Apache-2.0
"""One trial: its custom job, what it measures on the way, and how it ends."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from google.cloud.aiplatform_v1.types import CustomJob, JobState, Trial
from google.rpc import code_pb2

from airflow_vertex_persistent.emulator import messages
from airflow_vertex_persistent.emulator.environment import Task
from airflow_vertex_persistent.emulator.errors import ApiError

from .measurements import as_message, as_messages, final, measured
from .metric_file import Reports

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from google.cloud.aiplatform_v1.types import StudySpec

    from airflow_vertex_persistent.emulator.names import Key
    from airflow_vertex_persistent.emulator.runs import JobRuns
    from airflow_vertex_persistent.emulator.world import World

    from .measurements import Measured

_State = Trial.State
_PRIMARY = Task(0, 0).name


class TrialRun:
    """
    Takes one trial through its states.

    :param world: what it needs of the emulator.
    :param runs: the custom jobs at work.
    :param trial: as it was asked for; it is changed in place.
    :param study: what is measured, and what counts of it.
    :param start: starts its custom job.
    :param show: called after each change of the trial.
    :param is_hopeless: says of what it has measured whether the trial is to be stopped early.
    """

    def __init__(
        self,
        world: World,
        runs: JobRuns,
        *,
        trial: Trial,
        study: StudySpec,
        start: Callable[[], tuple[Key, CustomJob]],
        show: Callable[[Trial], None],
        is_hopeless: Callable[[Sequence[Measured]], bool],
    ) -> None:
        self._world = world
        self._runs = runs
        self._study = study
        self._show = show
        self._is_hopeless = is_hopeless
        self._reports = Reports([metric.metric_id for metric in study.metrics])
        self._stopped_early = False
        self._key: Key | None = None
        self.trial = trial
        self._raw = Trial.pb(trial)
        self.measured: list[Measured] = []
        self.error_code: int = code_pb2.INVALID_ARGUMENT
        """What went wrong with an infeasible trial."""
        try:
            self._key, job = start()
        except ApiError as error:
            self.error_code = error.code.value[0]
            self._end_infeasible(error.text)
        else:
            trial.custom_job = job.name
            show(trial)
        self.task = asyncio.create_task(self._follow(), name=f"trial {trial.id}")

    @property
    def final(self) -> Measured | None:
        """The measurement that counts, ``None`` for a trial that has none or is infeasible."""
        return final(self.measured, self._study) if self.trial.state == _State.SUCCEEDED else None

    def stop(self, text: str) -> None:
        """
        Ask for the trial's end.

        :param text: why; the error of its custom job says it.
        """
        if self._key is None or self.trial.state not in {_State.REQUESTED, _State.ACTIVE}:
            return
        self._raw.state = _State.STOPPING
        self._show(self.trial)
        self._runs.stop(self._key, text)

    async def _follow(self) -> None:
        if self._key is None:
            return
        run = self._runs.task(self._key)
        while run is not None and not run.done():
            self._look(self._key)
            await asyncio.wait({run}, timeout=self._world.settings.measurement_seconds)
        self._look(self._key)
        self._decide(self._key)

    def _look(self, key: Key) -> None:
        """See whether the trial has been started, and what it has measured since the last time."""
        job = self._world.store.jobs.get(key)
        if job is None or "start_time" not in job:
            return
        if self.trial.state == _State.REQUESTED:
            self._raw.state = _State.ACTIVE
            self._raw.start_time.CopyFrom(CustomJob.pb(job).start_time)
            self._show(self.trial)
        if not self._reports.read(self._metrics(key)):
            return
        start = CustomJob.pb(job).start_time.ToNanoseconds() / 1e9
        self.measured = measured(self._reports.all, self._study.metrics, start)
        self.trial.measurements = as_messages(self.measured, self._study)
        self._show(self.trial)
        if self.trial.state == _State.ACTIVE and self._is_hopeless(self.measured):
            self._stopped_early = True
            self.stop(messages.STOPPED_EARLY)

    def _metrics(self, key: Key) -> str:
        """Read the metric file of the primary replica, empty when there is none."""
        try:
            return self._world.metric_file(key.id, _PRIMARY).read_text(encoding="utf-8", errors="replace")
        except FileNotFoundError:
            return ""

    def _decide(self, key: Key) -> None:
        """Tell how the trial has ended from its job and what it has measured."""
        job = self._world.store.jobs.get(key)
        if job is None:
            self._end_infeasible(messages.JOB_MISSING)
            return
        succeeded = job.state == JobState.JOB_STATE_SUCCEEDED
        stopped = self._stopped_early and job.state == JobState.JOB_STATE_CANCELLED
        best = final(self.measured, self._study)
        if (succeeded or stopped) and best is not None:
            self.trial.final_measurement = as_message(best, self._study)
            self._end(_State.SUCCEEDED)
        elif succeeded:
            names = ", ".join(metric.metric_id for metric in self._study.metrics)
            self._end_infeasible(messages.NOT_MEASURED.format(metrics=names))
        else:
            self.error_code = job.error.code or self.error_code
            self._end_infeasible(job.error.message or f"The trial's CustomJob is {job.state.name}.")

    def _end_infeasible(self, reason: str) -> None:
        self.trial.infeasible_reason = reason
        self._end(_State.INFEASIBLE)

    def _end(self, state: int) -> None:
        self._raw.state = state
        self._raw.end_time.FromDatetime(self._world.clock())
        self._show(self.trial)
