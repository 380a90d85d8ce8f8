# SPDX-License-Identifier: Apache-2.0
"""The example ``tuning_on_persistent_resource.py`` with the real trainer, fewer trials and shorter pauses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from airflow.dag_processing.dagbag import DagBag

from airflow_vertex_persistent.emulator import VertexEmulator

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from airflow.sdk import DAG

    from tests.integration.conftest import Cloud
    from tests.integration.operators.conftest import Run

EXAMPLES = Path(__file__).parents[3] / "dags_examples"
RESOURCE = "tuning-digits"
TRIALS = 4


@pytest.fixture
def dag() -> DAG:
    """The example's DAG."""
    example: Any = DagBag(EXAMPLES / "tuning_on_persistent_resource.py").dags["tuning_on_persistent_resource"]
    for task in example.tasks:
        if hasattr(task, "poll_interval"):
            task.poll_interval = 0.05
    example.get_task("tune").max_trial_count = TRIALS
    return example  # type: ignore[no-any-return]


@pytest.fixture
def cloud(
    dag: DAG, cloud_at: Callable[[str, Path], Cloud], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Cloud]:
    """An emulator that has what the example needs."""
    tune: Any = dag.get_task("tune")
    images = {tune.container_uri: EXAMPLES / "trainer"}
    with VertexEmulator(images=images, buckets=["nightly-models"]) as emulator:
        for name, value in emulator.environment.items():
            monkeypatch.setenv(name, value)
        yield cloud_at(emulator.address, emulator.data_dir)


def stored(cloud: Cloud, uri: str) -> Path:
    """Return where the emulator keeps a file."""
    return cloud.data_dir / "storage" / uri.removeprefix("gs://")


def test_the_model_of_the_best_trial(cloud: Cloud, run_dag: Callable[[], Run]) -> None:
    """The trials run on the machines, the model is trained with what the best one had, and the machines go."""
    run = run_dag()
    assert set(run.states.values()) == {"success"}, run.errors
    tuned, trained = run.result("tune"), run.result("train")
    assert tuned["trial_counts"]["succeeded"] == TRIALS
    best = tuned["best_trial"]
    metrics = json.loads(stored(cloud, f"{trained['model_dir']}/metrics.json").read_bytes())
    assert {name: metrics[name] for name in best["parameters"]} == best["parameters"]
    # The trials keep some images back to compare themselves on; the model has learned from all.
    assert metrics["training_images"] == 900

    lines = stored(cloud, tuned["trials_uri"]).read_text(encoding="utf-8").splitlines()
    accuracies = {str(trial["id"]): trial["metrics"]["accuracy"] for trial in map(json.loads, lines)}
    assert len(accuracies) == TRIALS
    assert accuracies[best["id"]] == max(accuracies.values())
    assert stored(cloud, tuned["report_uri"]).stat().st_size > 0

    jobs = cloud.all_jobs()
    assert len(jobs) == TRIALS + 1
    assert {job.job_spec.persistent_resource_id for job in jobs} == {RESOURCE}
    assert cloud.resource(RESOURCE) is None
