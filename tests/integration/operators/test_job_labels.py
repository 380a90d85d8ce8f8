# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_vertex_persistent.operators.custom_job import PersistentResourceCustomJobOperator

if TYPE_CHECKING:
    from collections.abc import Callable

    import pytest
    from airflow.sdk import DAG

    from airflow_vertex_persistent.operators.base import VertexOperator
    from tests.conftest import Relay
    from tests.integration.conftest import Cloud
    from tests.integration.operators.conftest import Run

    Make = Callable[..., VertexOperator]


def test_labels_say_whose_job_it_is(
    empty_cloud: Cloud, train: Make, dag: DAG, run_dag: Callable[[], Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who looks at a job in the console can tell installation, DAG, task and run; own labels stay."""
    empty_cloud.create_resource()
    monkeypatch.setenv("AIRFLOW__VERTEX_PERSISTENT__INSTALLATION", "team-a")
    train("succeed", labels={"team": "vision"})
    run_dag().result()
    (job,) = empty_cloud.all_jobs()
    labels = dict(job.labels)
    assert labels["team"] == "vision"
    assert labels["airflow_installation"] == "team-a"
    assert labels["airflow_dag"] == dag.dag_id
    assert labels["airflow_task"] == "train"
    assert labels["airflow_run"].startswith("manual__")
    assert "airflow_map_index" not in labels


def test_mapped_tasks_have_jobs_of_their_own(
    empty_cloud: Cloud, relay: Relay, dag: DAG, run_dag: Callable[[], Run], *, deferrable: bool
) -> None:
    """Each of two mapped tasks takes its own job over at its retry, and no other."""
    empty_cloud.create_resource()
    # Before each first attempt's look.
    relay.refuse("GetCustomJob", code="PERMISSION_DENIED", times=2)
    PersistentResourceCustomJobOperator.partial(
        task_id="train",
        dag=dag,
        region=empty_cloud.REGION,
        persistent_resource_id="nightly",
        container_uri=empty_cloud.IMAGE,
        machine_type="n1-standard-4",
        poll_interval=0.05,
        retries=1,
        deferrable=deferrable,
    ).expand(args=[["sleep", "1"], ["sleep", "1.1"]])
    run = run_dag()
    jobs = {job.labels["airflow_map_index"]: job for job in empty_cloud.all_jobs()}
    assert len(empty_cloud.all_jobs()) == 2
    for index in ("0", "1"):
        assert run.result(f"train[{index}]")["job"] == jobs[index].name
        assert len(run.errors[f"train[{index}]"]) == 1
    assert jobs["0"].labels["airflow_execution"] != jobs["1"].labels["airflow_execution"]
