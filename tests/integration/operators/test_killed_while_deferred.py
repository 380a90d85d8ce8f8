# SPDX-License-Identifier: Apache-2.0
"""What a trigger does when it is told to stop; that a real triggerer tells it so is for the system tests."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from airflow.sdk import BaseOperator
from google.cloud.aiplatform_v1.types import JobState

from airflow_vertex_persistent.triggers.training_job import TrainingJobTrigger

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow.sdk import DAG, Context

    from tests.integration.conftest import Cloud
    from tests.integration.operators.conftest import Run


class StopTrigger(BaseOperator):
    """Stops the trigger of a job while this task itself is in a state that a user, or Airflow, gave it."""

    def __init__(self, *, job: str, state: str, cancel_on_kill: bool, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.job = job
        self.state = state
        self.cancel_on_kill = cancel_on_kill

    def execute(self, context: Context) -> None:
        """Set the state, stop the trigger, go on running."""
        trigger = TrainingJobTrigger(
            job=self.job,
            cancel_on_kill=self.cancel_on_kill,
            region="europe-west4",
            gcp_conn_id="google_cloud_default",
            impersonation_chain=None,
            poll_interval=1.0,
            max_outage=10.0,
        )
        ti: Any = context["ti"]
        trigger.task_instance = ti
        self._set_state(ti, self.state)
        try:
            asyncio.run(trigger.on_kill())
        finally:
            self._set_state(ti, "running")

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
    fixed: dict[str, Any] = {"task_id": "stop", "dag": dag, "job": job.name, "cancel_on_kill": cancel_on_kill}
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
