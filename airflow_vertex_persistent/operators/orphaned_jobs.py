# SPDX-License-Identifier: Apache-2.0
"""Jobs that nobody was there to stop."""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Any

from airflow_vertex_persistent.call_problems import call_problem
from airflow_vertex_persistent.exceptions import VertexTrainingError
from airflow_vertex_persistent.names import (
    CUSTOM_JOBS,
    DAG_LABEL,
    DATE_LABEL,
    INSTALLATION_LABEL,
    KEEP_LABEL,
    MAP_INDEX_LABEL,
    RUN_LABEL,
    TASK_LABEL,
    TUNING_JOBS,
    label_value,
    parse_date_label,
)
from airflow_vertex_persistent.operators.base import VertexOperator, typed_errors
from airflow_vertex_persistent.operators.labels import installation
from airflow_vertex_persistent.operators.training.cancelling import can_be_cancelled, cancel_job
from airflow_vertex_persistent.specs.checks import Problems, boolean, texts
from airflow_vertex_persistent.states import NOT_ENDED_FILTER
from airflow_vertex_persistent.triggers.task_state import has_ended, task_states

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from airflow.sdk import Context

# What `label_value` puts behind a text that it had to change.
_CHANGED = re.compile(r".*-[0-9a-f]{8}")


@dataclass(frozen=True)
class Owner:
    """The labels that say which task instance a job is for."""

    dag: str
    task: str
    run: str
    map_index: str | None
    date: str | None

    @classmethod
    def of(cls, labels: Mapping[str, str]) -> Owner:
        """Read the labels of a job."""
        return cls(
            labels.get(DAG_LABEL, ""),
            labels.get(TASK_LABEL, ""),
            labels.get(RUN_LABEL, ""),
            labels.get(MAP_INDEX_LABEL),
            labels.get(DATE_LABEL),
        )

    def __str__(self) -> str:
        index = "" if self.map_index is None else f"[{self.map_index}]"
        return f"task {self.task}{index} of DAG {self.dag}, run {self.run}"


class CancelOrphanedJobsOperator(VertexOperator):
    """
    Cancel the active jobs of this Airflow installation whose task instance has ended.

    An operator or trigger cancels the job of a task that is stopped. It cannot when its process is gone too: a
    worker that was killed in a task's last attempt, a task that was marked while the triggerer was down. Run
    this from a DAG of its own, every hour or so. Jobs of other installations are not looked at, nor are jobs
    that were meant to go on: those of tasks with ``wait_for_completion=False`` or ``cancel_on_kill=False``.

    .. seealso:: :doc:`/operators/orphaned_jobs`

    :param only_report: A dry run: only say what would be cancelled. Default: ``True``. (templated)
    :param dag_ids: Ids of DAGs that are no label as they are (capitals, dots, or longer than 63 characters),
        of which a job carries a changed form only, and of DAGs that have been deleted. Default: none.
        (templated)
    :param kwargs: Region and connection, see :class:`~airflow_vertex_persistent.operators.base.VertexOperator`.
    :return: Full names of jobs: ``orphaned``; ``cancelled``, of those; ``unknown``, whose task Airflow does not know.
    :raises AirflowFailException: A parameter is wrong, or this installation has no name.
    :raises VertexTrainingError: An orphaned job could not be cancelled. The others were.
    """

    template_fields: Sequence[str] = ("only_report", "dag_ids", *VertexOperator.template_fields)

    def __init__(
        self, *, only_report: bool | str = True, dag_ids: Sequence[str] | str = (), **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.only_report = only_report
        self.dag_ids = dag_ids

    def execute(self, context: Context) -> dict[str, list[str]]:
        """Find the orphaned jobs and, if asked, cancel them."""
        problems = Problems("search for orphaned jobs")
        self.check_place(problems)
        only_report = boolean("only_report", self.only_report, problems)
        dag_ids = {label_value(dag_id): dag_id for dag_id in texts("dag_ids", self.dag_ids, problems)}
        name = installation()
        if name is None:
            # All Airflows without a Fernet key would take each other's jobs for theirs.
            problems.add_hidden("[vertex_persistent] installation", "give this Airflow a name")
        with typed_errors("search for orphaned jobs"):
            problems.raise_if_any()
            owners = self._active_jobs()
        orphaned, unknown = self._judge(owners, dag_ids)
        cancelled = [] if only_report else self._cancel(orphaned)
        if only_report and orphaned:
            self.log.info("Nothing was cancelled: only_report is set")
        return {"orphaned": orphaned, "cancelled": cancelled, "unknown": unknown}

    def _active_jobs(self) -> dict[str, Owner]:
        """Return who owns each active job of this installation."""
        filter_ = f'labels.{INSTALLATION_LABEL}="{installation()}" AND {NOT_ENDED_FILTER}'
        project_id = self.project_id or self.job_hook.default_project_id
        kinds = (CUSTOM_JOBS, TUNING_JOBS)
        jobs = chain.from_iterable(
            self.job_hook.list_jobs(project_id, self.region, kind, filter_) for kind in kinds
        )
        owners = {
            job.name: Owner.of(job.labels)
            for job in jobs
            if KEEP_LABEL not in job.labels and can_be_cancelled(job)
        }
        self.log.info("%d active jobs of this installation in %s", len(owners), self.region)
        return owners

    def _judge(self, owners: Mapping[str, Owner], dag_ids: Mapping[str, str]) -> tuple[list[str], list[str]]:
        """Return which jobs are orphaned, and of which that cannot be told."""
        orphaned, unknown = [], []
        runs: dict[tuple[str, str, str | None], dict[str, dict[str, str | None]]] = {}
        for job, owner in sorted(owners.items()):
            asked = (owner.dag, owner.task, owner.date)
            if asked not in runs:
                runs[asked] = _runs(dag_ids.get(owner.dag, owner.dag), owner)
            if not runs[asked] and owner.dag not in dag_ids:
                self.log.warning("%s: its %s is not known; is the id right, see dag_ids?", job, owner)
                unknown.append(job)
                continue
            try:
                state = _state(owner, runs[asked].get(owner.run, {}))
            except KeyError:
                state = "removed"
            if has_ended(state):
                self.log.warning("%s is orphaned: its %s is %s", job, owner, state)
                orphaned.append(job)
        return orphaned, unknown

    def _cancel(self, orphaned: Sequence[str]) -> list[str]:
        cancelled, problems = [], []
        # Airflow's answers took their time: some may have ended in order.
        active = self._active_jobs()
        for job in filter(active.__contains__, orphaned):
            try:
                if cancel_job(self.job_hook, job, self.log, "its task has ended"):
                    cancelled.append(job)
            except Exception as error:
                if call_problem(error) is None:
                    raise
                reason = str(error).replace("\n", "\n    ")
                problems.append(f"\n  - {job}: {reason}")
        if problems:
            raise VertexTrainingError(
                f"{len(problems)} of {len(orphaned)} orphaned jobs could not be cancelled:{''.join(problems)}\n"
                "Next step: look at the reasons; a retry looks for orphaned jobs anew."
            )
        return cancelled


def _runs(dag_id: str, owner: Owner) -> dict[str, dict[str, str | None]]:
    """Return the states of a task's instances, by the label that a run's jobs carry."""
    # A label that may have been changed does not name the task: all tasks are asked for.
    task_ids = None if _CHANGED.fullmatch(owner.task) else [owner.task]
    runs: dict[str, dict[str, str | None]] = {}
    if owner.date is not None:
        # One run, where many years of them may be kept.
        runs = task_states(dag_id, task_ids, parse_date_label(owner.date))
    if not runs:
        runs = task_states(dag_id, task_ids)
    return {label_value(run_id): states for run_id, states in runs.items()}


def _state(owner: Owner, states: Mapping[str, str | None]) -> str | None:
    """
    Return the state of a job's task instance among those of its run.

    :raises KeyError: It is not there.
    """
    suffix = "" if owner.map_index is None else f"_{owner.map_index}"
    for name, state in states.items():
        if name.endswith(suffix) and label_value(name.removesuffix(suffix)) == owner.task:
            return state
    raise KeyError(str(owner))
