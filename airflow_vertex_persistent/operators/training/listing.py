# SPDX-License-Identifier: Apache-2.0
"""Which jobs an execution has, as the service says now."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_vertex_persistent.call_problems import CallProblem, call_problem
from airflow_vertex_persistent.names import KEY_LABEL, ResourceName

if TYPE_CHECKING:
    from airflow_vertex_persistent.hooks.job_kinds import TrainingJob
    from airflow_vertex_persistent.hooks.training_job import TrainingJobHook
    from airflow_vertex_persistent.operators.training.execution import Execution
    from airflow_vertex_persistent.states import JobSnapshot

LIST_LAG_SECONDS = 60.0
"""A job shows up in lists within some seconds of its create."""


def snapshot_of(job: TrainingJob) -> JobSnapshot:
    """Return what the rest of the package needs of a job."""
    # Imported here: a DAG file that imports an operator must not import Google's client.
    from airflow_vertex_persistent.hooks.training_job import job_snapshot

    return job_snapshot(job)


def jobs_of(
    hook: TrainingJobHook, execution: Execution, region: str, *, quickly: bool = False
) -> list[TrainingJob]:
    """
    Return the jobs of an execution in one region, the oldest first.

    :param quickly: Ask again for some seconds, for a task that is about to end. Otherwise the caller asks again.
    """
    filter_ = f'labels.{KEY_LABEL}="{execution.key}"'
    place = (execution.project_id, region, execution.kind)
    listed = hook.list_jobs(*place, filter_, quickly=quickly, once=not quickly)
    jobs = {ResourceName.parse(job.name).identity: job for job in listed}
    # Lists lag: those that are known must not be missed.
    for name in execution.known_jobs_in(region):
        if name.identity in jobs:
            continue
        try:
            jobs[name.identity] = hook.get_job(name, quickly=quickly, once=not quickly)
        except Exception as error:
            if call_problem(error) is not CallProblem.MISSING:
                raise
    return sorted(jobs.values(), key=lambda job: (job.create_time, job.name))
