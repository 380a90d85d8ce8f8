# SPDX-License-Identifier: Apache-2.0
"""A job that runs on demand since its persistent resource was busy, and what may happen to its task."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from airflow.sdk.exceptions import AirflowFailException
from google.cloud.aiplatform_v1.types import JobState

from airflow_vertex_persistent.exceptions import ServiceUnreachableError, VertexTrainingError
from airflow_vertex_persistent.operators.custom_job import PersistentResourceCustomJobOperator

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow.sdk import DAG, Context

    from airflow_vertex_persistent.triggers.base import VertexTrigger
    from tests.conftest import Relay
    from tests.integration.conftest import Cloud
    from tests.integration.operators.conftest import Run

    Make = Callable[..., PersistentResourceCustomJobOperator]

RUNNING = JobState.JOB_STATE_RUNNING
SUCCEEDED = JobState.JOB_STATE_SUCCEEDED
FAILED = JobState.JOB_STATE_FAILED
CANCELLED = JobState.JOB_STATE_CANCELLED
# The service does not answer twice: an outage longer than this.
SHORT = 0.01


def ours(cloud: Cloud) -> list[Any]:
    """Return the jobs of the task under test, the oldest first, once all but those that run have ended."""
    return [job for job in cloud.settled_jobs() if "airflow_execution" in job.labels]


def free_machines(cloud: Cloud) -> Callable[[Any], None]:
    """Return what lets the second attempt find the machines free, before anything of the operator runs."""

    def run(context: Any) -> None:
        if context["ti"].try_number == 2:
            (other,) = [job for job in cloud.all_jobs() if "airflow_execution" not in job.labels]
            cloud.jobs.cancel_custom_job(name=other.name)
            cloud.wait_for(
                lambda: cloud.jobs.get_custom_job(name=other.name).state == CANCELLED, "the machines are free"
            )

    return run


@pytest.mark.durability(
    "Vertex AI gives no answer for longer than ``max_outage`` while the task waits for a job that runs on demand "
    "since its persistent resource was busy",
    "Fails with ``ServiceUnreachableError``; the retry takes the job over and succeeds.",
    "One: it runs on, though the resource is free again.",
)
def test_a_retry_takes_the_job_over(
    relayed_cloud: Cloud, relay: Relay, train: Make, run_dag: Callable[[], Run], *, deferrable: bool
) -> None:
    """The job on demand is the task's job: it is no sign of a changed DAG, and nothing else is created."""
    relayed_cloud.occupy()
    relay.refuse("GetCustomJob", times=2)
    train(
        "sleep",
        "1",
        when_busy="on_demand",
        retries=1,
        max_outage=SHORT,
        deferrable=deferrable,
        pre_execute=free_machines(relayed_cloud),
    )
    run = run_dag()
    (job,) = ours(relayed_cloud)
    assert run.result()["job"] == job.name
    assert run.result()["fallback"] == "on_demand"
    assert [type(error) for error in run.errors["train"]] == [ServiceUnreachableError]
    assert relay.count("CreateCustomJob") == 1
    assert relay.count("CancelCustomJob") == 0


@pytest.mark.durability(
    "The attempt ends between the decision to run on demand, since the persistent resource is busy, and the create",
    "The retry creates the job on demand and succeeds.",
    "One, created by the retry.",
)
def test_the_decision_outlives_the_attempt(
    relayed_cloud: Cloud, relay: Relay, train: Make, run_dag: Callable[[], Run], *, deferrable: bool
) -> None:
    """Decided is decided: the retry creates the job on demand, though the resource is free again."""
    relayed_cloud.occupy()
    relay.refuse("CreateCustomJob", code="PERMISSION_DENIED")
    train(
        "succeed",
        when_busy="on_demand",
        retries=1,
        deferrable=deferrable,
        pre_execute=free_machines(relayed_cloud),
    )
    run = run_dag()
    assert run.result()["fallback"] == "on_demand"
    assert [isinstance(error, VertexTrainingError) for error in run.errors["train"]] == [True]
    assert [job.labels.get("airflow_fallback") for job in ours(relayed_cloud)] == ["on_demand"]
    # Refused is refused: no job may still show up, so there is one look before each create, and one after.
    assert relay.count("ListCustomJobs") == 3


def test_training_code_that_fails_on_demand(
    cloud: Cloud, train: Make, run_dag: Callable[[], Run], *, deferrable: bool
) -> None:
    """A retry after a failure of the training code stays where the task has gone."""
    cloud.occupy()
    train("fail", when_busy="on_demand", retries=1, deferrable=deferrable)
    assert run_dag().states["train"] == "failed"
    assert [job.state for job in ours(cloud)] == [FAILED, FAILED]
    assert [job.labels.get("airflow_fallback") for job in ours(cloud)] == ["on_demand", "on_demand"]


def test_the_machines_of_the_pool(cloud: Cloud, train: Make, run_dag: Callable[[], Run]) -> None:
    """On demand the job gets machines and disks of the same kind, also where it left them to the resource."""
    cloud.occupy()
    pool = {"replica_count": 1, "container_spec": {"image_uri": cloud.IMAGE, "args": ["succeed"]}}
    train(worker_pool_specs=[pool], when_busy="on_demand")
    assert run_dag().result()["fallback"] == "on_demand"
    (job,) = ours(cloud)
    (pool,) = job.job_spec.worker_pool_specs
    (resource_pool,) = cloud.resource().resource_pools  # type: ignore[union-attr]
    assert pool.machine_spec == resource_pool.machine_spec
    assert pool.disk_spec == resource_pool.disk_spec


@pytest.mark.parametrize("when_busy", ["fail", "on_demand"])
@pytest.mark.parametrize("durable", [True, False], ids=["changed", "not durable"])
def test_machines_that_a_job_of_its_own_has(
    relayed_cloud: Cloud,
    relay: Relay,
    train: Make,
    run_dag: Callable[[], Run],
    when_busy: str,
    *,
    durable: bool,
) -> None:
    """What a task cancels to start anew has its machines until it has ended, which is not busy but worth the wait."""
    relay.refuse("GetCustomJob", times=2)
    train(
        "sleep",
        "{{ 600 if ti.try_number == 1 else 0.1 }}",
        replica_count=2,
        when_busy=when_busy,
        durable=durable,
        retries=1,
        max_outage=SHORT,
        pre_execute=lambda context: context["ti"].try_number == 1 or relayed_cloud.running_job(),
    )
    assert run_dag().result()["fallback"] is None
    old, new = ours(relayed_cloud)
    assert (old.state, new.state) == (CANCELLED, SUCCEEDED)
    assert old.end_time <= new.create_time


class KilledWhileDeferred(PersistentResourceCustomJobOperator):
    """Is marked as failed just after it has begun to wait: its trigger hears of that, and nothing else does."""

    def wait_for_event(self, trigger: VertexTrigger, context: Context, **kwargs: Any) -> dict[str, Any]:
        """Stop the trigger as a triggerer would."""
        ti: Any = context["ti"]
        trigger.task_instance = ti
        self._set_state(ti, "failed")
        try:
            asyncio.run(trigger.on_kill())
        finally:
            self._set_state(ti, "running")
        self.cancel_on_kill = False
        raise AirflowFailException("killed")

    def _set_state(self, ti: Any, state: str) -> None:
        from airflow.models.taskinstance import TaskInstance
        from airflow.utils.session import create_session

        with create_session() as session:
            session.query(TaskInstance).filter_by(
                dag_id=ti.dag_id, run_id=ti.run_id, task_id=ti.task_id, map_index=ti.map_index
            ).update({"state": state})


def test_killed_while_deferred(
    relayed_cloud: Cloud, relay: Relay, dag: DAG, run_dag: Callable[[], Run]
) -> None:
    """The trigger of a task that fell back cancels the job on demand, and that alone."""
    other = relayed_cloud.occupy()
    KilledWhileDeferred(
        dag=dag,
        task_id="train",
        region=relayed_cloud.REGION,
        persistent_resource_id="nightly",
        container_uri=relayed_cloud.IMAGE,
        machine_type="n1-standard-4",
        args=["sleep", "600"],
        when_busy="on_demand",
    )
    assert run_dag().states["train"] == "failed"
    assert [(job.state, job.labels["airflow_fallback"]) for job in ours(relayed_cloud)] == [
        (CANCELLED, "on_demand")
    ]
    assert relayed_cloud.jobs.get_custom_job(name=other.name).state == RUNNING
    assert relay.count("CancelCustomJob") == 1
