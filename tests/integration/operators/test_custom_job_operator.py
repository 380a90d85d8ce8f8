# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import json
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from airflow.sdk.exceptions import AirflowFailException, AirflowTaskTimeout
from google.cloud.aiplatform_v1.types import JobState

from airflow_vertex_persistent.exceptions import (
    CapacityError,
    JobCancelledError,
    JobFailedError,
    JobTimedOutError,
    PersistentResourceError,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from airflow.sdk import DAG

    from airflow_vertex_persistent.operators.custom_job import PersistentResourceCustomJobOperator
    from tests.conftest import Relay
    from tests.integration.conftest import Cloud
    from tests.integration.operators.conftest import Run

    Make = Callable[..., PersistentResourceCustomJobOperator]
    Meanwhile = Callable[[Callable[[], object]], AbstractContextManager[None]]

RESULT_KEYS = {
    "job",
    "kind",
    "state",
    "region",
    "persistent_resource_id",
    "strategy",
    "candidate",
    "fallback",
    "create_time",
    "start_time",
    "end_time",
    "queued_seconds",
    "running_seconds",
    "output_dir",
    "model_dir",
    "console_url",
}

IMAGE = "europe-west4-docker.pkg.dev/acme/training/small:1"


def test_success(cloud: Cloud, train: Make, run_dag: Callable[[], Run], *, deferrable: bool) -> None:
    """A job that succeeded gives the whole small result, each key also an XCom of its own."""
    train("succeed", base_output_dir=f"gs://{cloud.BUCKET}/night/", deferrable=deferrable)
    run = run_dag()
    result = run.result()
    (job,) = cloud.all_jobs()
    assert set(result) == RESULT_KEYS
    assert {key: run.xcoms["train"].get(key) for key in RESULT_KEYS} == result
    assert json.loads(json.dumps(result)) == result
    times = {key: result.pop(key) for key in ("create_time", "start_time", "end_time")}
    assert times["create_time"] < times["start_time"] < times["end_time"]
    assert result.pop("queued_seconds") > 0
    assert result.pop("running_seconds") > 0
    assert result == {
        "job": job.name,
        "kind": "customJobs",
        "state": "JOB_STATE_SUCCEEDED",
        "region": cloud.REGION,
        "persistent_resource_id": "nightly",
        "strategy": None,
        "candidate": None,
        "fallback": None,
        "output_dir": f"gs://{cloud.BUCKET}/night/",
        "model_dir": f"gs://{cloud.BUCKET}/night/model",
        "console_url": result["console_url"],
    }
    assert f"/training/{job.name.rpartition('/')[2]}?" in result["console_url"]
    assert "training succeed" in cloud.log(job.name)


@pytest.mark.usefixtures("cloud")
def test_keys_that_do_not_apply_are_null(
    train: Make, run_dag: Callable[[], Run], *, deferrable: bool
) -> None:
    """A job without an output folder has the same keys."""
    train(deferrable=deferrable)
    result = run_dag().result()
    assert set(result) == RESULT_KEYS
    assert result["output_dir"] is None
    assert result["model_dir"] is None


def test_training_code_that_fails(
    cloud: Cloud, train: Make, run_dag: Callable[[], Run], *, deferrable: bool
) -> None:
    """The error of the task holds the service's text, with the code's own last lines, and both links."""
    train("fail", deferrable=deferrable)
    error = run_dag().error()
    (job,) = cloud.all_jobs()
    assert type(error) is JobFailedError
    for part in (
        job.name,
        "JOB_STATE_FAILED",
        "The replica workerpool0-0 exited with a non-zero status of 1",
        "ValueError: the loss is not a number",
        "https://console.cloud.google.com/agent-platform/",
        "https://console.cloud.google.com/logs/query;",
        "Next step:",
    ):
        assert part in str(error)


def test_a_job_that_somebody_cancels(
    cloud: Cloud, train: Make, run_dag: Callable[[], Run], meanwhile: Meanwhile, *, deferrable: bool
) -> None:
    """A job that was cancelled behind the task's back is told as that."""
    train("sleep", "600", deferrable=deferrable)
    with meanwhile(cloud.cancel_running_job):
        error = run_dag().error()
    assert type(error) is JobCancelledError
    assert "find out who cancelled it" in str(error)


@pytest.mark.usefixtures("cloud")
def test_a_job_that_runs_too_long(train: Make, run_dag: Callable[[], Run], *, deferrable: bool) -> None:
    """A job that was ended for its max_run_duration is told as that."""
    train("sleep", "600", max_run_duration="1s", deferrable=deferrable)
    error = run_dag().error()
    assert type(error) is JobTimedOutError
    assert "raise max_run_duration" in str(error)


@pytest.mark.parametrize("deferrable", [False], ids=["blocking"])
def test_a_wrong_request(cloud: Cloud, train: Make, run_dag: Callable[[], Run], *, deferrable: bool) -> None:
    """A wrong request fails at once, without retries, in one message that lists every problem."""
    train(
        region="europe",
        container_uri=IMAGE,
        config={"scheduling": {"strategy": "SPOT"}},
        base_output_dir="models",
        replica_count=0,
        labels={"Team": "a"},
        poll_interval=0,
        max_outage="soon",
        retries=3,
        deferrable=deferrable,
    )
    error = run_dag().error()
    assert isinstance(error, AirflowFailException)
    lines = str(error).splitlines()
    assert lines[0] == "The custom job is not possible like this, 7 problems:"
    fields = {line.removeprefix("  - ").split(" = ")[0].split(": ")[0] for line in lines[1:]}
    assert fields == {
        "region",
        "base_output_dir",
        "replica_count",
        "scheduling.strategy",
        "labels['Team']",
        "poll_interval",
        "max_outage",
    }
    assert cloud.all_jobs() == []


def test_a_job_on_a_resource_that_is_not_there(
    cloud: Cloud, train: Make, run_dag: Callable[[], Run], *, deferrable: bool
) -> None:
    """The error says which resource is missing, since the service's own text need not."""
    train(persistent_resource_id="daily", deferrable=deferrable)
    error = run_dag().error()
    assert type(error) is PersistentResourceError
    for part in ("'daily'", "Next step:"):
        assert part in str(error)
    assert cloud.all_jobs() == []


def test_a_request_that_the_service_refuses(
    relayed_cloud: Cloud, relay: Relay, train: Make, run_dag: Callable[[], Run], *, deferrable: bool
) -> None:
    """What only the service can know to be wrong also fails without retries, with the service's text."""
    relay.refuse("CreateCustomJob", code="INVALID_ARGUMENT", text="The image is not in a registry.")
    train(retries=3, deferrable=deferrable)
    error = run_dag().error()
    assert isinstance(error, AirflowFailException)
    assert "Vertex AI refused the custom job" in str(error)
    assert "The image is not in a registry." in str(error)
    assert relayed_cloud.all_jobs() == []


def test_a_pool_that_is_full(
    start_cloud: Callable[..., Cloud], train: Make, run_dag: Callable[[], Run], *, deferrable: bool
) -> None:
    """A service that fails a job for want of machines gives an error that is worth another try."""
    cloud = start_cloud(busy_policy="fail")
    cloud.create_resource()
    cloud.occupy()
    train(when_busy="fail", deferrable=deferrable, retries=1)
    run = run_dag()
    assert run.states["train"] == "failed"
    assert [type(error) for error in run.errors["train"]] == [CapacityError, CapacityError]


def test_an_id_that_rendered_to_nothing(
    dag: DAG, cloud: Cloud, train: Make, run_dag: Callable[[], Run], *, deferrable: bool
) -> None:
    """A template without a value is an error, never a job on demand, which would cost."""
    dag.render_template_as_native_obj = True
    train(persistent_resource_id="{{ params.get('nothing') }}", deferrable=deferrable)
    error = run_dag().error()
    assert "persistent_resource_id = None: " in str(error)
    assert cloud.all_jobs() == []


def test_without_waiting(cloud: Cloud, train: Make, run_dag: Callable[[], Run], *, deferrable: bool) -> None:
    """A task that does not wait hands on the job it has just created, with the same keys."""
    train("sleep", "600", wait_for_completion=False, deferrable=deferrable)
    result = run_dag().result()
    (job,) = cloud.all_jobs()
    assert set(result) == RESULT_KEYS
    assert result["job"] == job.name
    assert result["state"] in {"JOB_STATE_QUEUED", "JOB_STATE_PENDING", "JOB_STATE_RUNNING"}
    assert result["end_time"] is None
    assert result["running_seconds"] is None
    cloud.cancel_running_job()


def test_links_work_while_the_job_runs(
    dag: DAG, cloud: Cloud, train: Make, run_dag: Callable[[], Run], meanwhile: Meanwhile, *, deferrable: bool
) -> None:
    """The addresses of the buttons are there before the job's end, point to the job, and stay."""
    from airflow.models.xcom import XComModel
    from airflow.utils.session import create_session

    task = train("sleep", "600", deferrable=deferrable)
    keys = {link.xcom_key: link.name for link in task.operator_extra_links}
    seen: dict[str, str] = {}

    def pushed() -> dict[str, str]:
        with create_session() as session:
            rows = list(session.query(XComModel).filter_by(dag_id=dag.dag_id))
            return {keys[row.key]: XComModel.deserialize_value(row) for row in rows if row.key in keys}

    def look() -> None:
        cloud.wait_for(lambda: len(pushed()) == len(keys), "the links are there")
        seen.update(pushed())
        cloud.cancel_running_job()

    with meanwhile(look):
        run = run_dag()
    (job,) = cloud.all_jobs()
    _, project, _, _, _, id_ = job.name.split("/")
    console = "https://console.cloud.google.com"
    assert seen == {
        "Vertex AI job": f"{console}/agent-platform/locations/{cloud.REGION}/training/{id_}?project={project}",
        "Vertex AI logs": seen["Vertex AI logs"],
        "Persistent resources": f"{console}/vertex-ai/training/persistent-resources?project={project}",
    }
    assert f"job_id%3D%22{id_}%22" in seen["Vertex AI logs"]
    assert {keys[key]: value for key, value in run.xcoms["train"].items() if key in keys} == seen


def test_the_reason_comes_late(
    start_cloud: Callable[..., Cloud], train: Make, run_dag: Callable[[], Run], *, deferrable: bool
) -> None:
    """The service fills in the reason some time after the state: the task's error has it all the same."""
    cloud = start_cloud(error_delay_seconds=1.0)
    cloud.create_resource()
    train("fail", deferrable=deferrable)
    assert "ValueError: the loss is not a number" in str(run_dag().error())


def test_every_retry_is_a_new_job(
    cloud: Cloud, train: Make, run_dag: Callable[[], Run], *, deferrable: bool
) -> None:
    """Failing training code is tried as often as the task says, with an error for each attempt."""
    train("fail", retries=1, deferrable=deferrable)
    run = run_dag()
    assert run.states["train"] == "failed"
    assert [type(error) for error in run.errors["train"]] == [JobFailedError, JobFailedError]
    assert len({job.name for job in cloud.all_jobs()}) == 2


def test_the_timeout_of_the_task(cloud: Cloud, train: Make, run_dag: Callable[[], Run]) -> None:
    """A blocking task that is stopped by its execution_timeout cancels its job."""
    train("sleep", "600", execution_timeout=timedelta(seconds=5), deferrable=False)
    assert type(run_dag().error()) is AirflowTaskTimeout
    (job,) = cloud.all_jobs()
    cloud.wait_for(
        lambda: cloud.all_jobs()[0].state == JobState.JOB_STATE_CANCELLED, f"{job.name} is cancelled"
    )
