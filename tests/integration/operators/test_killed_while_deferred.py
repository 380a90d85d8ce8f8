# SPDX-License-Identifier: Apache-2.0
"""What a trigger does when it is told to stop; that a real triggerer tells it so is for the system tests."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from airflow.sdk import BaseOperator
from google.cloud.aiplatform_v1.types import JobState
from heard import Heard

from airflow_vertex_persistent.triggers.race import RaceTrigger
from airflow_vertex_persistent.triggers.training_job import TrainingJobTrigger

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow.sdk import DAG, Context

    from tests.integration.conftest import Cloud
    from tests.integration.operators.conftest import Run


class JobTrigger(Heard, TrainingJobTrigger):
    """That of one job."""


class JobsTrigger(Heard, RaceTrigger):
    """That of a race."""


class StopTrigger(BaseOperator):
    """
    Stops the trigger of a job, or of a race, while this task itself is in a state that a user, or Airflow, gave it.

    The result is what the trigger has logged.
    """

    def __init__(self, *, jobs: list[str], state: str, cancel_on_kill: bool, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.jobs = jobs
        self.state = state
        self.cancel_on_kill = cancel_on_kill

    def execute(self, context: Context) -> list[str]:
        """Set the state, stop the trigger, go on running."""
        values: dict[str, Any] = {
            "job": self.jobs[0],
            "cancel_on_kill": self.cancel_on_kill,
            "region": "europe-west4",
            "gcp_conn_id": "google_cloud_default",
            "impersonation_chain": None,
            "poll_interval": 1.0,
            "max_outage": 10.0,
        }
        race = len(self.jobs) > 1
        trigger = JobsTrigger(**values, jobs=self.jobs) if race else JobTrigger(**values)
        ti: Any = context["ti"]
        trigger.task_instance = ti
        self._set_state(ti, self.state)
        try:
            asyncio.run(trigger.on_kill())
        finally:
            self._set_state(ti, "running")
        return trigger.heard.lines

    def _set_state(self, ti: Any, state: str) -> None:
        from airflow.models.taskinstance import TaskInstance
        from airflow.utils.session import create_session

        with create_session() as session:
            session.query(TaskInstance).filter_by(
                dag_id=ti.dag_id, run_id=ti.run_id, task_id=ti.task_id, map_index=ti.map_index
            ).update({"state": state})


@pytest.mark.parametrize(
    ("state", "cancel_on_kill", "cancelled"),
    [
        ("failed", True, True),
        ("success", True, True),
        ("upstream_failed", True, True),
        ("running", True, False),
        ("up_for_retry", True, False),
        ("deferred", True, False),
        ("failed", False, False),
    ],
)
@pytest.mark.parametrize("mapped", [False, True])
def test_a_trigger_that_is_stopped(  # noqa: PLR0917 - one row of a table
    dag: DAG,
    cloud: Cloud,
    run_dag: Callable[[], Run],
    state: str,
    cancel_on_kill: bool,
    cancelled: bool,
    *,
    mapped: bool,
) -> None:
    """Stopped for a task that has ended it cancels the job; where somebody goes on with the task it does not."""
    job = cloud.occupy()
    fixed: dict[str, Any] = {
        "task_id": "stop",
        "dag": dag,
        "jobs": [job.name],
        "cancel_on_kill": cancel_on_kill,
    }
    if mapped:
        StopTrigger.partial(**fixed).expand(state=[state])
    else:
        StopTrigger(state=state, **fixed)
    assert set(run_dag().states.values()) == {"success"}
    after = cloud.jobs.get_custom_job(name=job.name)
    if cancelled:
        ends = {JobState.JOB_STATE_CANCELLING, JobState.JOB_STATE_CANCELLED}
        assert after.state in ends
    else:
        assert after.state == JobState.JOB_STATE_RUNNING


@pytest.mark.parametrize("state", ["failed", "deferred"])
def test_the_trigger_of_a_race_that_is_stopped(
    dag: DAG, cloud: Cloud, run_dag: Callable[[], Run], state: str
) -> None:
    """It cancels all jobs or none, and its log names them all."""
    here = cloud.occupy()
    request: Any = {
        "display_name": "elsewhere",
        "job_spec": {"worker_pool_specs": here.job_spec.worker_pool_specs[:1]},
    }
    parent = f"projects/{cloud.PROJECT}/locations/us-central1"
    elsewhere = cloud.jobs.create_custom_job(parent=parent, custom_job=request)
    jobs = [here.name, elsewhere.name]
    StopTrigger(task_id="stop", dag=dag, jobs=jobs, cancel_on_kill=True, state=state)
    lines = run_dag().result("stop")
    states = [cloud.jobs.get_custom_job(name=job).state.name for job in jobs]
    if state == "failed":
        assert lines == [f"Cancelled {job}: its task was stopped" for job in jobs]
        assert set(states) <= {"JOB_STATE_CANCELLING", "JOB_STATE_CANCELLED"}
    else:
        assert lines == [f"The race of {', '.join(jobs)} goes on: its task is deferred"]
        assert set(states) <= {"JOB_STATE_PENDING", "JOB_STATE_RUNNING"}
