# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    import pytest
    from airflow.sdk import DAG

    from airflow_vertex_persistent.operators.base import VertexOperator
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
