# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from airflow.sdk.exceptions import AirflowFailException

from airflow_vertex_persistent.exceptions import JobFailedError
from airflow_vertex_persistent.operators.custom_job import PersistentResourceCustomJobOperator

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager
    from pathlib import Path

    from airflow.sdk import DAG

    from tests.integration.conftest import Cloud
    from tests.integration.operators.conftest import Run

    Make = Callable[..., PersistentResourceCustomJobOperator]
    Meanwhile = Callable[[Callable[[], object]], AbstractContextManager[None]]


def test_several_replicas(cloud: Cloud, train: Make, run_dag: Callable[[], Run], *, deferrable: bool) -> None:
    """The short form with two replicas runs a primary and a worker."""
    train(replica_count=2, deferrable=deferrable)
    run_dag().result()
    (job,) = cloud.all_jobs()
    assert [pool.replica_count for pool in job.job_spec.worker_pool_specs] == [1, 1]


CONFIG = """
displayName: "night {{ params.night }}"
labels:
  night: "{{ params.night }}"
jobSpec:
  workerPoolSpecs:
    machineSpec:
      machineType: n1-standard-4
    containerSpec:
      imageUri: %s
      args: [succeed, "{{ params.night }}", config.yaml]
"""


def test_a_config_file(
    dag: DAG, cloud: Cloud, train: Make, run_dag: Callable[[], Run], tmp_path: Path, *, deferrable: bool
) -> None:
    """A config file is found beside the DAG file, its templates are rendered, and no other text is opened."""
    (tmp_path / "jobs").mkdir()
    (tmp_path / "jobs" / "config.yaml").write_text(CONFIG % cloud.IMAGE, encoding="utf-8")
    dag.params = {"night": "n7"}  # type: ignore[assignment] # it converts what it gets
    train(config="jobs/{{ 'config' }}.yaml", deferrable=deferrable)
    result = run_dag().result()
    (job,) = cloud.all_jobs()
    assert job.display_name == "night n7"
    assert job.labels["night"] == "n7"
    assert "training succeed n7 config.yaml" in cloud.log(result["job"])


@pytest.mark.parametrize(
    "file",
    [
        ("missing.yaml", None, "config = 'missing.yaml': "),
        ("wrong.yaml", b"a: [secret-value", "config = 'wrong.yaml': "),
        ("wrong.json", b'{"env": "secret-value"', "config = 'wrong.json': "),
        ("binary.yaml", b"\xff\xfe\x00secret-value", "config = 'binary.yaml': "),
        ("list.yaml", b"- secret-value", "config: write a mapping"),
        ("empty.yaml", b"", "container_uri: give exactly one of"),
        ('{"env": "secret-value"}', None, "config: "),
    ],
)
def test_a_config_file_that_cannot_be_used(
    cloud: Cloud, train: Make, run_dag: Callable[[], Run], tmp_path: Path, file: tuple[str, bytes | None, str]
) -> None:
    """What is wrong with a config file is told without retries, and without its content."""
    name, content, told = file
    if content is not None:
        (tmp_path / name).write_bytes(content)
    train(config=name, retries=2, deferrable=False)
    error = run_dag().error()
    assert isinstance(error, AirflowFailException)
    assert [line for line in str(error).splitlines() if line.startswith(f"  - {told}")], str(error)
    assert "secret-value" not in str(error)
    assert cloud.all_jobs() == []


def test_templates_in_every_field(
    dag: DAG, cloud: Cloud, train: Make, run_dag: Callable[[], Run], *, deferrable: bool
) -> None:
    """Containers, numbers, ids, environment and durations can be rendered for each run."""
    dag.params = {"n": 2, "id": "nightly", "image": cloud.IMAGE}  # type: ignore[assignment] # converted
    train(
        "succeed",
        "{{ ti.task_id }}",
        display_name="{{ dag.dag_id }}",
        labels={"n": "{{ params.n }}"},
        container_uri="{{ params.image }}",
        env={"N": "{{ params.n }}"},
        machine_type="n1-standard-{{ params.n * 2 }}",
        replica_count="{{ params.n }}",
        boot_disk_size_gb="{{ params.n * 50 }}",
        persistent_resource_id="{{ params.id }}",
        project_id="{{ 'demo-project' }}",
        region="{{ 'europe-west4' }}",
        base_output_dir="gs://nightly-models/{{ params.n }}",
        max_run_duration="{{ params.n * 60 }}s",
        poll_interval="{{ params.n / 40 }}",
        max_outage="{{ params.n }}0s",
        deferrable=deferrable,
    )
    result = run_dag().result()
    (job,) = cloud.all_jobs()
    first, second = job.job_spec.worker_pool_specs
    assert job.display_name == dag.dag_id
    assert job.labels["n"] == "2"
    assert [(one.name, one.value) for one in first.container_spec.env] == [("N", "2")]
    assert (first.replica_count, second.replica_count) == (1, 1)
    scheduling: Any = job.job_spec.scheduling
    assert scheduling.timeout.total_seconds() == 120
    assert result["model_dir"] == "gs://nightly-models/2/model"
    assert "training succeed train" in cloud.log(job.name)


def test_mapped_tasks(dag: DAG, cloud: Cloud, run_dag: Callable[[], Run], *, deferrable: bool) -> None:
    """One task for each value makes one job for each, with its own name and its own result."""
    PersistentResourceCustomJobOperator.partial(
        task_id="train",
        dag=dag,
        region=cloud.REGION,
        persistent_resource_id="nightly",
        container_uri=cloud.IMAGE,
        machine_type="n1-standard-4",
        poll_interval=0.05,
        deferrable=deferrable,
    ).expand(args=[["succeed", "a"], ["fail"], ["succeed", "b"]])
    run = run_dag()
    assert run.states == {"train[0]": "success", "train[1]": "failed", "train[2]": "success"}
    assert type(run.error("train[1]")) is JobFailedError
    jobs = {job.name: job for job in cloud.all_jobs()}
    assert len(jobs) == 3
    assert len({job.display_name for job in jobs.values()}) == 3
    for index, letter in ((0, "a"), (2, "b")):
        result = run.result(f"train[{index}]")
        assert list(jobs[result["job"]].job_spec.worker_pool_specs[0].container_spec.args) == [
            "succeed",
            letter,
        ]


def test_secrets_of_the_environment_stay_out_of_everything(
    cloud: Cloud,
    train: Make,
    run_dag: Callable[[], Run],
    caplog: pytest.LogCaptureFixture,
    *,
    deferrable: bool,
) -> None:
    """A value of the environment is in no result, link, error or log line of a task."""
    train("fail", env={"TOKEN": "h1dden-v4lue"}, deferrable=deferrable)
    run = run_dag()
    assert "h1dden-v4lue" not in str(run.error())
    assert "h1dden-v4lue" not in str(run.xcoms)
    assert "h1dden-v4lue" not in caplog.text
    assert cloud.all_jobs()[0].job_spec.worker_pool_specs[0].container_spec.env[0].value == "h1dden-v4lue"
