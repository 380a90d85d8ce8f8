# SPDX-License-Identifier: Apache-2.0
"""Waits for a tuning job, and tells of its trials as they finish."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, cast

from airflow_vertex_persistent.call_problems import call_problem
from airflow_vertex_persistent.names import ResourceName
from airflow_vertex_persistent.report.table import progress_line, trial_table
from airflow_vertex_persistent.states import JobPhase, job_phase
from airflow_vertex_persistent.trials import INFEASIBLE, best_trial, has_ended
from airflow_vertex_persistent.triggers.sources import TuningJobSource
from airflow_vertex_persistent.triggers.training_job import TrainingJobTrigger, log_end

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow_vertex_persistent.hooks.client import VertexAsyncHook
    from airflow_vertex_persistent.hooks.training_job import TrainingJobAsyncHook
    from airflow_vertex_persistent.trials import TrialSnapshot, TuningSnapshot
    from airflow_vertex_persistent.triggers.watch import Watch, WatchEvent


# How the error of a tuning job has been seen to name a trial.
_TRIAL_TEXT = re.compile(r"trial #?(\d+)", re.IGNORECASE)


class TuningJobTrigger(TrainingJobTrigger):
    """
    Waits until a tuning job has ended, and cancels it when its task is killed while deferred.

    Its trials show in the log as they finish, about once a minute: lists leave them out, so that each look at them is
    a call of its own. The event of a failed job carries the last lines of the log of the trial that failed.

    :param kwargs: See :class:`~airflow_vertex_persistent.triggers.training_job.TrainingJobTrigger`.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._told: set[str] = set()
        self._said = ""

    @property
    def subject(self) -> str:
        """Short name of the job, for the log."""
        return f"Tuning job {self.name.id}"

    def source(self, hook: TrainingJobAsyncHook) -> TuningJobSource:
        """Return where tuning jobs of one project and region are read together."""
        return TuningJobSource(hook, self.name.project, self.name.kind, (self.region,), self.installation)

    async def look(self, hook: TrainingJobAsyncHook) -> Mapping[str, Any] | None:
        """Return what the job and its trials are like now."""
        return await hook.tuning_snapshot(self.name)

    async def _saw(
        self, watch: Watch, hook: VertexAsyncHook, snapshot: Mapping[str, Any] | None
    ) -> WatchEvent | None:
        """Tell of trials, which only some looks at the job see, and never the event."""
        if snapshot is not None and "tuning" in snapshot:
            if job_phase(snapshot["state"]) is not JobPhase.SUCCEEDED:  # then the task itself shows them all
                self._tell(snapshot["tuning"])
            snapshot = {field: value for field, value in snapshot.items() if field != "tuning"}
        return await super()._saw(watch, hook, snapshot)

    def _tell(self, tuning: TuningSnapshot) -> None:
        """Log the trials that have ended since the last time, and how far the job is."""
        trials, goals = tuning["trials"], tuning["goals"]
        ended = [trial for trial in trials if has_ended(trial) and trial["id"] not in self._told]
        said = progress_line(trials, goals, tuning["max_trial_count"])
        if said == self._said:
            return
        self._said = said
        table = trial_table(ended, goals, best_trial(trials, goals)) if ended else ""
        self.log.info("%s%s", said, table and f"\n{table}")
        self._told.update(trial["id"] for trial in ended)

    async def details(self, hook: TrainingJobAsyncHook, snapshot: Mapping[str, Any] | None) -> dict[str, Any]:
        """
        Return how far a job got that did not succeed, and if it failed the end of the log of the trial that did.

        Only for that is it looked at once more: a task whose job has succeeded reads the trials itself.
        """
        if snapshot is None or job_phase(snapshot["state"]) is not JobPhase.FAILED:
            return {"tuning": self._said} if self._said else {}
        try:
            tuning = cast("TuningSnapshot", (await hook.tuning_snapshot(self.name))["tuning"])
        except Exception as error:
            if call_problem(error) is None:
                raise
            return {"log_problem": str(error)}
        self._tell(tuning)
        found: dict[str, Any] = {"tuning": self._said}
        if trial := _failed_trial(tuning["trials"], snapshot["error_message"]):
            job, reason = ResourceName.parse(str(trial["custom_job"])), trial["infeasible_reason"]
            found |= {"log_of": f"trial {trial['id']}, custom job {job.id}"}
            found |= await log_end(hook, job, reason, snapshot["create_time"])
            found["no_failure_limit"] = not tuning["max_failed_trial_count"]
            found |= {"trial": await self._job_of_trial(hook, job), "metrics": list(tuning["goals"])}
        return found

    @staticmethod
    async def _job_of_trial(hook: TrainingJobAsyncHook, job: ResourceName) -> Mapping[str, Any] | None:
        """Return how the job of an infeasible trial has ended, ``None`` if that cannot be read."""
        try:
            return await hook.snapshot(job)
        except Exception as error:
            if call_problem(error) is None:
                raise
            return None


def _failed_trial(trials: list[TrialSnapshot], text: str) -> TrialSnapshot | None:
    """
    Return the trial that has failed: the one that the error of the job names, else the first to end.

    Those that ended later may have been cancelled for it, and are INFEASIBLE too.
    """
    failed = [trial for trial in trials if trial["state"] == INFEASIBLE and trial["custom_job"]]
    if match := _TRIAL_TEXT.search(text):
        named = [trial for trial in failed if trial["id"] == match[1]]
        failed = named or failed
    return min(failed, key=lambda trial: trial["end_time"] or "", default=None)
