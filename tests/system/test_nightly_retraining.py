# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.system.conftest import Installation

DAG_ID = "nightly_retraining"
CHAMPION = "gs://nightly-models/digits/champion.json"


# Two whole nights are the fixtures of these tests.
pytestmark = pytest.mark.timeout(900)


@dataclass
class Night:
    """What one run of the DAG left behind."""

    run: dict[str, Any]
    states: dict[str, str]
    train: dict[str, Any]
    evaluate: dict[str, Any]
    decision: dict[str, Any]
    metrics: dict[str, Any]
    champion: dict[str, Any]


def look_at(installation: Installation, run_id: str) -> Night:
    """Wait for the end of a run and collect what it left behind."""
    run = installation.wait_for_run(DAG_ID, run_id)
    api, cloud = installation.airflow.api, installation.cloud
    instances = api.task_instances(DAG_ID, run_id)
    train = api.xcom(DAG_ID, run_id, "train")
    return Night(
        run=run,
        states={task: instance["state"] for task, instance in instances.items()},
        train=train,
        evaluate=api.xcom(DAG_ID, run_id, "evaluate"),
        decision=api.xcom(DAG_ID, run_id, "promote_or_keep"),
        metrics=json.loads(cloud.file(f"{train['model_dir']}/metrics.json").read_text()),
        champion=json.loads(cloud.file(CHAMPION).read_text()),
    )


@pytest.fixture(scope="module")
def first_night(installation: Installation) -> Night:
    """The run that the scheduler starts by itself when the DAG is switched on."""
    api, wait_for = installation.airflow.api, installation.airflow.processes.wait_for
    wait_for(lambda: DAG_ID in api.dags(), "the DAG has been read", 60)
    api.unpause(DAG_ID)
    wait_for(lambda: bool(api.dag_runs(DAG_ID)), "the scheduler has started a run", 60)
    return look_at(installation, api.dag_runs(DAG_ID)[0]["dag_run_id"])


@pytest.fixture(scope="module")
def second_night(installation: Installation, first_night: Night) -> Night:
    """A run after the first one, started by hand, whose model can only be worse."""
    assert first_night.run["state"] == "success"
    run_id = installation.airflow.api.trigger(DAG_ID, {"max_iter": 1, "learning_rate": 0.0001})
    return look_at(installation, run_id)


def test_the_scheduler_runs_the_night(first_night: Night) -> None:
    """Switched on, the DAG runs by its schedule, and every task succeeds."""
    assert first_night.run["run_type"] == "scheduled"
    assert first_night.run["state"] == "success"
    assert set(first_night.states.values()) == {"success"}


def test_both_jobs_run_on_the_warm_machines(first_night: Night) -> None:
    """Training and evaluation are jobs of the same persistent resource."""
    for result in (first_night.train, first_night.evaluate):
        assert result["state"] == "JOB_STATE_SUCCEEDED"
        assert result["persistent_resource_id"] == "nightly-digits"
    assert first_night.train["job"] != first_night.evaluate["job"]


def test_the_first_model_becomes_the_champion(first_night: Night) -> None:
    """With nothing to compare it with, a useful model is promoted."""
    assert first_night.metrics["accuracy"] > 0.9
    assert first_night.decision["decision"] == "promoted"
    assert first_night.champion["model_dir"] == first_night.train["model_dir"]


def test_a_worse_model_is_not_promoted(first_night: Night, second_night: Night) -> None:
    """Yesterday's model stays, and the run is a success that says so."""
    assert set(second_night.states.values()) == {"success"}
    assert second_night.metrics["accuracy"] < first_night.metrics["accuracy"]
    assert second_night.decision["decision"] == "kept"
    assert second_night.decision["reason"].startswith("worse")
    assert second_night.champion == first_night.champion


def test_the_forms_values_reach_the_training_code(second_night: Night) -> None:
    """What is entered when a run is started by hand is what the job is trained with."""
    assert second_night.metrics["epochs"] == 1
    assert second_night.metrics["learning_rate"] == 0.0001


def test_the_task_says_why_it_kept_the_champion(installation: Installation, second_night: Night) -> None:
    """The decision is in the task's own log, in words."""
    log = installation.airflow.api.log(DAG_ID, second_night.run["dag_run_id"], "promote_or_keep", 1)
    assert f"kept {second_night.champion['model_dir']} (worse: " in log


@pytest.mark.usefixtures("second_night")
def test_no_machine_is_left(installation: Installation) -> None:
    """After the last run the persistent resource, which costs money, is gone."""
    assert installation.cloud.resource_state("europe-west4", "nightly-digits") == "is not there"
