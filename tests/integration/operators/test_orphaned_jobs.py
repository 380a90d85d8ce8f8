# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from airflow.sdk import task
from airflow.sdk.exceptions import AirflowFailException
from google.cloud.aiplatform_v1.types import CustomJob, JobState

from airflow_vertex_persistent.exceptions import VertexTrainingError
from airflow_vertex_persistent.names import label_value
from airflow_vertex_persistent.operators.labels import installation
from airflow_vertex_persistent.operators.orphaned_jobs import CancelOrphanedJobsOperator

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow.sdk import DAG

    from tests.conftest import Relay
    from tests.integration.conftest import Cloud
    from tests.integration.operators.conftest import Run

POOL: dict[str, Any] = {
    "machine_spec": {"machine_type": "n1-standard-4"},
    "replica_count": 1,
    "container_spec": {"args": ["sleep", "600"]},
}


@pytest.fixture
def cloud(empty_cloud: Cloud, relay: Relay) -> Cloud:
    """An emulator behind a relay."""
    assert relay.address != empty_cloud.address
    return empty_cloud


def labelled_job(cloud: Cloud, dag_id: str, task_id: str, run_id: str, **more: str) -> dict[str, Any]:
    """Return a job that does not end by itself, labelled as one of that task, without its kind's own fields."""
    labels = {
        "airflow_installation": installation(),
        "airflow_execution": "0123",
        "airflow_dag": label_value(dag_id),
        "airflow_task": label_value(task_id),
        "airflow_run": label_value(run_id),
        **more,
    }
    pool = {**POOL, "container_spec": {**POOL["container_spec"], "image_uri": cloud.IMAGE}}
    return {"display_name": task_id, "job_spec": {"worker_pool_specs": [pool]}, "labels": labels}


def start_job(cloud: Cloud, dag_id: str, task_id: str, run_id: str, **more: str) -> str:
    """Start a custom job of that task, and return its name."""
    job: Any = labelled_job(cloud, dag_id, task_id, run_id, **more)
    created: CustomJob = cloud.jobs.create_custom_job(parent=parent_of(cloud), custom_job=job)
    return created.name


def start_tuning_job(cloud: Cloud, dag_id: str, task_id: str, run_id: str, **more: str) -> str:
    """Start a tuning job of that task, wait until each of its trials has a job, and return its name."""
    job = labelled_job(cloud, dag_id, task_id, run_id, **more)
    parameter = {"parameter_id": "x", "double_value_spec": {"min_value": 0, "max_value": 1}}
    tuning: Any = {
        "trial_job_spec": job.pop("job_spec"),
        "study_spec": {"metrics": [{"metric_id": "loss", "goal": "MINIMIZE"}], "parameters": [parameter]},
        "max_trial_count": 2,
        "parallel_trial_count": 2,
        **job,
    }
    created = cloud.jobs.create_hyperparameter_tuning_job(
        parent=parent_of(cloud), hyperparameter_tuning_job=tuning
    )

    def trial_jobs() -> list[str]:
        return [
            trial.custom_job for trial in cloud.jobs.get_hyperparameter_tuning_job(name=created.name).trials
        ]

    cloud.wait_for(lambda: len([job for job in trial_jobs() if job]) == 2, "both trials have a job")
    return created.name


def parent_of(cloud: Cloud) -> str:
    """Return where jobs are created."""
    return f"projects/{cloud.PROJECT}/locations/{cloud.REGION}"


@pytest.fixture
def sweep(
    dag: DAG, cloud: Cloud, run_dag: Callable[[], Run]
) -> Callable[[Callable[[str], dict[str, str]]], tuple[Run, dict[str, str]]]:
    """
    Run a DAG whose jobs are started by its first task, ``done``, and swept by its last.

    Meanwhile ``done`` has succeeded, ``other.done`` too, and ``waits`` has not begun.
    """

    def run(start: Callable[[str], dict[str, str]], **arguments: Any) -> tuple[Run, dict[str, str]]:
        jobs: dict[str, str] = {}
        with dag:

            @task(task_id="done")
            def done(run_id: str | None = None) -> None:
                jobs.update(start(str(run_id)))

            @task(task_id="Other.Done")
            def other() -> None:
                return

            @task(task_id="waits")
            def waits() -> None:
                return

            @task(task_id="mapped")
            def mapped(_: int) -> None:
                return

            swept = CancelOrphanedJobsOperator(task_id="sweep", region=cloud.REGION, **arguments)
            done() >> [other(), mapped.expand(_=[1, 2])] >> swept >> waits()
        return run_dag(), jobs

    return run


def has_stopped(cloud: Cloud, job: str) -> bool:
    """Tell whether a job is cancelled, or about to be."""
    stopped = {JobState.JOB_STATE_CANCELLING, JobState.JOB_STATE_CANCELLED}
    return cloud.jobs.get_custom_job(name=job).state in stopped


def test_jobs_of_ended_tasks_are_cancelled(cloud: Cloud, dag: DAG, sweep: Any) -> None:
    """What is cancelled is what an ended or vanished task left running, mapped or not, and nothing else."""

    def start(run_id: str) -> dict[str, str]:
        own = {"dag_id": dag.dag_id, "run_id": run_id}
        return {
            "done": start_job(cloud, task_id="done", **own),
            "capitals": start_job(cloud, task_id="Other.Done", **own),
            "mapped": start_job(cloud, task_id="mapped", airflow_map_index="1", **own),
            "no such index": start_job(cloud, task_id="mapped", airflow_map_index="7", **own),
            "no such run": start_job(cloud, dag.dag_id, "done", "manual__1999"),
            "waits": start_job(cloud, task_id="waits", **own),
            "running": start_job(cloud, task_id="sweep", **own),
            "kept": start_job(cloud, task_id="done", airflow_keep="true", **own),
            "elsewhere": start_job(cloud, task_id="done", airflow_installation="another", **own),
            "unknown": start_job(cloud, "Some.Other.Dag", "done", run_id),
        }

    run, jobs = sweep(start, only_report="False")
    result = run.result("sweep")
    orphaned = {jobs[name] for name in ("done", "capitals", "mapped", "no such index", "no such run")}
    assert set(result["orphaned"]) == set(result["cancelled"]) == orphaned
    assert result["unknown"] == [jobs["unknown"]]
    assert {job for job in jobs.values() if has_stopped(cloud, job)} == orphaned


def test_tuning_jobs_are_cancelled_too(cloud: Cloud, dag: DAG, sweep: Any) -> None:
    """A tuning job of an ended task ends with its trials, which nobody takes for jobs of their own."""

    def start(run_id: str) -> dict[str, str]:
        own = {"dag_id": dag.dag_id, "run_id": run_id}
        return {
            "done": start_tuning_job(cloud, task_id="done", **own),
            "waits": start_tuning_job(cloud, task_id="waits", **own),
        }

    run, jobs = sweep(start, only_report=False)
    assert run.result("sweep") == {"orphaned": [jobs["done"]], "cancelled": [jobs["done"]], "unknown": []}
    states = {JobState.JOB_STATE_CANCELLED, JobState.JOB_STATE_RUNNING}

    def settled() -> bool:
        return {job.state for job in cloud.tuning_jobs()} == states

    cloud.wait_for(settled, "one tuning job is cancelled")
    done, waits = cloud.tuning_jobs()
    assert (done.name, done.state) == (jobs["done"], JobState.JOB_STATE_CANCELLED)
    at_work = {job.name for job in cloud.all_jobs() if job.state == JobState.JOB_STATE_RUNNING}
    assert at_work <= {trial.custom_job for trial in waits.trials}
    assert len({trial.custom_job for trial in done.trials} & {job.name for job in cloud.all_jobs()}) == 2


def test_it_begins_as_a_dry_run(cloud: Cloud, dag: DAG, relay: Relay, sweep: Any) -> None:
    """Unless it is told otherwise it says what it would cancel, and cancels nothing."""
    run, jobs = sweep(lambda run_id: {"done": start_job(cloud, dag.dag_id, "done", run_id)})
    assert run.result("sweep") == {"orphaned": [jobs["done"]], "cancelled": [], "unknown": []}
    assert relay.count("CancelCustomJob") == 0


def test_an_id_that_is_no_label_can_be_named(cloud: Cloud, sweep: Any) -> None:
    """A DAG whose id its jobs carry in a changed form is known once it is named."""
    run, jobs = sweep(
        lambda run_id: {"gone": start_job(cloud, "Some.Other.Dag", "done", run_id)},
        dag_ids=["Some.Other.Dag"],
    )
    assert run.result("sweep")["orphaned"] == [jobs["gone"]]


def test_one_that_cannot_be_cancelled_does_not_save_the_others(
    cloud: Cloud, dag: DAG, relay: Relay, sweep: Any
) -> None:
    """Every orphaned job is tried, and the error names those that were not cancelled."""
    relay.refuse("CancelCustomJob", code="PERMISSION_DENIED")

    def start(run_id: str) -> dict[str, str]:
        return {name: start_job(cloud, dag.dag_id, "done", run_id) for name in ("first", "second")}

    run, jobs = sweep(start, only_report=False)
    error = run.error("sweep")
    assert type(error) is VertexTrainingError
    (left,) = [job for job in jobs.values() if not has_stopped(cloud, job)]
    assert left in str(error)
    assert str(error).count("\n  - ") == 1
    assert "lacks aiplatform.customJobs.cancel on " in str(error)


def test_bad_input_is_told_at_once(sweep: Any) -> None:
    """Every wrong field is named, before anything is asked."""
    run, _ = sweep(lambda _: {}, only_report="maybe", dag_ids="night")
    error = run.error("sweep")
    assert type(error) is AirflowFailException
    assert "only_report" in str(error)
    assert "dag_ids" in str(error)
