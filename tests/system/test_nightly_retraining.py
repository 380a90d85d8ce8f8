# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
from google.cloud.aiplatform_v1.types import Scheduling

from airflow_vertex_persistent.emulator import EmulatorControl

if TYPE_CHECKING:
    from google.cloud.aiplatform_v1.types import CustomJob

    from tests.system.conftest import Installation

DAG_ID = "nightly_retraining"
CHAMPION = "gs://nightly-models/digits/champion.json"
RESOURCE = "nightly-digits"
GPUS = "europe-west4/g2-standard-4"
# Far more than it takes: a slow machine is no failure.
TUNED_TIMEOUT = 240.0


# Two whole nights are the fixtures of these tests.
pytestmark = pytest.mark.timeout(900)


@dataclass
class Night:
    """What one run of the DAG left behind."""

    run: dict[str, Any]
    states: dict[str, str]
    results: dict[str, dict[str, Any]]
    metrics: dict[str, Any]
    champion: dict[str, Any]

    @property
    def decision(self) -> dict[str, Any]:
        """Return what the last task has decided, and why."""
        return self.results["promote_or_keep"]


class Queueing(NamedTuple):
    """A run that has no GPU yet: its id, the states of its tasks, and what became of the machines of its trials."""

    run_id: str
    states: dict[str, str]
    resource: str


def look_at(installation: Installation, run_id: str) -> Night:
    """Wait for the end of a run and collect what it left behind."""
    run = installation.wait_for_run(DAG_ID, run_id)
    states = states_of(installation, run_id)
    results = {task: installation.airflow.api.xcom(DAG_ID, run_id, task) for task in states}
    metrics = installation.cloud.file(f"{results['train']['model_dir']}/metrics.json")
    return Night(
        run=run,
        states=states,
        results=results,
        metrics=json.loads(metrics.read_text()),
        champion=json.loads(installation.cloud.file(CHAMPION).read_text()),
    )


def states_of(installation: Installation, run_id: str) -> dict[str, str]:
    """Return the states of the tasks of a run."""
    instances = installation.airflow.api.task_instances(DAG_ID, run_id)
    return {task: instance["state"] for task, instance in instances.items()}


def job_named(installation: Installation, name: str) -> CustomJob:
    """Return a custom job as the service has it."""
    return installation.cloud._jobs.get_custom_job(name=name)


@pytest.fixture(scope="module")
def first_night(installation: Installation) -> Night:
    """The run that the scheduler starts by itself when the DAG is switched on."""
    api, wait_for = installation.airflow.api, installation.airflow.processes.wait_for
    wait_for(lambda: DAG_ID in api.dags(), "the DAG has been read", 60)
    api.unpause(DAG_ID)
    wait_for(lambda: bool(api.dag_runs(DAG_ID)), "the scheduler has started a run", 60)
    return look_at(installation, api.dag_runs(DAG_ID)[0]["dag_run_id"])


@pytest.fixture(scope="module")
def queueing(installation: Installation, first_night: Night) -> Queueing:
    """A run after the first one, started by hand, whose model can only be worse, at a time when there are no GPUs."""
    assert first_night.run["state"] == "success"
    airflow = installation.airflow
    with EmulatorControl(airflow.environment["VERTEX_AI_EMULATOR_HOST"]) as control:
        control.set_stock(GPUS, "never")
        form = {"max_iter": 1, "max_trial_count": 2, "least_learning_rate": 0.0001}
        run_id = airflow.api.trigger(DAG_ID, form)
        airflow.processes.wait_for(
            lambda: states_of(installation, run_id).get("delete_resource") == "success",
            "the machines of the tuning are deleted",
            TUNED_TIMEOUT,
        )
        states = states_of(installation, run_id)
        resource = installation.cloud.resource_state("europe-west4", RESOURCE)
        control.set_stock(GPUS, "unlimited")
    return Queueing(run_id, states, resource)


@pytest.fixture(scope="module")
def second_night(installation: Installation, queueing: Queueing) -> Night:
    """The same run at its end, after there was a GPU."""
    return look_at(installation, queueing.run_id)


def test_the_scheduler_runs_the_night(first_night: Night) -> None:
    """Switched on, the DAG runs by its schedule, and every task succeeds."""
    assert first_night.run["run_type"] == "scheduled"
    assert first_night.run["state"] == "success"
    assert set(first_night.states.values()) == {"success"}


def test_the_trials_run_on_the_warm_machines(installation: Installation, first_night: Night) -> None:
    """The tuning job runs its eight trials as jobs of the persistent resource, and succeeds."""
    tuned = first_night.results["tune"]
    assert (tuned["kind"], tuned["state"]) == ("hyperparameterTuningJobs", "JOB_STATE_SUCCEEDED")
    assert tuned["persistent_resource_id"] == RESOURCE
    assert tuned["trial_counts"] == {"succeeded": 8, "infeasible": 0, "running": 0, "total": 8}
    trial = job_named(installation, tuned["best_trial"]["custom_job"])
    assert trial.job_spec.persistent_resource_id == RESOURCE


def test_the_model_is_trained_with_the_best_trials_parameters(first_night: Night) -> None:
    """What the best trial has tried is what the final model was made of, to the last digit."""
    best = first_night.results["tune"]["best_trial"]["parameters"]
    assert set(best) == {"learning_rate", "hidden_units", "alpha"}
    assert {name: first_night.metrics[name] for name in best} == best


def test_the_training_queues_for_a_gpu_and_the_evaluation_does_not(
    installation: Installation, first_night: Night
) -> None:
    """Neither job runs on the persistent resource: one is of Flex Start with an L4, the other on demand."""
    jobs = {
        task: job_named(installation, first_night.results[task]["job"]).job_spec
        for task in ("train", "evaluate")
    }
    strategies = {task: job.scheduling.strategy for task, job in jobs.items()}
    assert strategies == {"train": Scheduling.Strategy.FLEX_START, "evaluate": Scheduling.Strategy.STANDARD}
    assert {job.persistent_resource_id for job in jobs.values()} == {""}
    machine = jobs["train"].worker_pool_specs[0].machine_spec
    assert (machine.accelerator_type.name, machine.accelerator_count) == ("NVIDIA_L4", 1)


def test_the_first_model_becomes_the_champion(first_night: Night) -> None:
    """With nothing to compare it with, a useful model is promoted."""
    assert first_night.metrics["accuracy"] > 0.9
    assert first_night.decision["decision"] == "promoted"
    assert first_night.champion["model_dir"] == first_night.results["train"]["model_dir"]


def test_no_machine_is_kept_while_the_training_queues(queueing: Queueing) -> None:
    """As long as there is no GPU the persistent resource, which costs money, is gone already."""
    assert queueing.resource == "is not there"
    assert queueing.states["tune"] == "success"
    assert queueing.states["train"] != "success"
    assert queueing.states["evaluate"] is None


def test_a_worse_model_is_not_promoted(first_night: Night, second_night: Night) -> None:
    """Yesterday's model stays, and the run is a success that says so."""
    assert set(second_night.states.values()) == {"success"}
    assert second_night.metrics["accuracy"] < first_night.metrics["accuracy"]
    assert second_night.decision["decision"] == "kept"
    assert second_night.decision["reason"].startswith("worse")
    assert second_night.champion == first_night.champion


def test_the_forms_values_reach_the_jobs(installation: Installation, second_night: Night) -> None:
    """What is entered when a run is started by hand is what is searched, and what the model is trained with."""
    assert second_night.metrics["epochs"] == 1
    tuned = second_night.results["tune"]
    assert tuned["trial_counts"]["total"] == 2
    study = installation.cloud._jobs.get_hyperparameter_tuning_job(name=tuned["job"]).study_spec
    (searched,) = (one for one in study.parameters if one.parameter_id == "learning_rate")
    assert searched.double_value_spec.min_value == 0.0001


def test_the_task_says_why_it_kept_the_champion(installation: Installation, second_night: Night) -> None:
    """The decision is in the task's own log, in words."""
    log = installation.airflow.api.log(DAG_ID, second_night.run["dag_run_id"], "promote_or_keep", 1)
    assert f"kept {second_night.champion['model_dir']} (worse: " in log


@pytest.mark.usefixtures("second_night")
def test_no_machine_is_left(installation: Installation) -> None:
    """After the last run the persistent resource is gone."""
    assert installation.cloud.resource_state("europe-west4", RESOURCE) == "is not there"
