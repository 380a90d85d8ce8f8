# SPDX-License-Identifier: Apache-2.0
"""Makes DAGs of our operators and runs them with ``dag.test()``."""

from __future__ import annotations

import os
import signal
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from airflow.sdk import DAG

from airflow_vertex_persistent.operators.custom_job import PersistentResourceCustomJobOperator
from airflow_vertex_persistent.operators.flex_start import FlexStartTrainingOperator
from airflow_vertex_persistent.operators.hyperparameter_tuning import HyperparameterTuningOperator
from airflow_vertex_persistent.operators.persistent_resource import (
    CreatePersistentResourceOperator,
    DeletePersistentResourceOperator,
)
from airflow_vertex_persistent.specs.candidates import candidate
from airflow_vertex_persistent.specs.study import integer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path

    from tests.conftest import Relay
    from tests.integration.conftest import Cloud

REGION = "europe-west4"
RACE_REGIONS = (REGION, "us-central1", "us-east4")
L4 = {"machine_type": "g2-standard-4", "accelerator_type": "NVIDIA_L4", "accelerator_count": 1}
IMAGE = "europe-west4-docker.pkg.dev/acme/training/small:1"
MACHINE = "n1-standard-4"
POOL = {
    "machine_spec": {"machine_type": MACHINE},
    "replica_count": 2,
    "disk_spec": {"boot_disk_type": "pd-ssd", "boot_disk_size_gb": 100},
}
DEADLINE = 60.0


@pytest.fixture(params=[False, True], ids=["blocking", "deferrable"])
def deferrable(request: pytest.FixtureRequest) -> bool:
    """Both ways to wait."""
    return bool(request.param)


@pytest.fixture
def relayed_cloud(empty_cloud: Cloud, relay: Relay) -> Cloud:
    """An emulator behind a relay, with the persistent resource ``nightly``."""
    assert relay.address != empty_cloud.address
    empty_cloud.create_resource()
    return empty_cloud


@dataclass
class Run:
    """
    What became of a DAG run.

    :param dag_state: State of the run.
    :param states: State of each task instance; a mapped one is ``task[0]``.
    :param errors: What each failed task instance raised, one error per attempt.
    :param xcoms: Values by task instance and key.
    """

    dag_state: str = ""
    states: dict[str, str] = field(default_factory=dict)
    errors: dict[str, list[BaseException]] = field(default_factory=dict)
    xcoms: dict[str, dict[str, Any]] = field(default_factory=dict)

    def result(self, task: str = "train") -> Any:
        """Return the result of a task that must have succeeded."""
        assert self.states[task] == "success", self.errors
        return self.xcoms[task].get("return_value")

    def error(self, task: str = "train") -> BaseException:
        """Return the one error of a task that must have failed at its first attempt."""
        assert self.states[task] == "failed"
        (error,) = self.errors[task]
        return error


def instance_name(ti: Any) -> str:
    """Return the name of a task instance, with its index if it is mapped."""
    return ti.task_id if ti.map_index in (-1, None) else f"{ti.task_id}[{ti.map_index}]"


def _run(dag: DAG) -> Run:
    from airflow.dag_processing.dagbag import DagBag, sync_bag_to_db
    from airflow.models.xcom import XComModel
    from airflow.utils.session import create_session

    bag = DagBag(dag_folder=os.devnull, bundle_name="dags-folder")
    bag.bag_dag(dag)
    sync_bag_to_db(bag, "dags-folder", None)
    run = Run()

    def note(context: Any) -> None:
        run.errors.setdefault(instance_name(context["ti"]), []).append(context["exception"])

    for task in dag.tasks:
        callbacks: Any = task
        if task.is_mapped:
            callbacks.partial_kwargs |= {"on_failure_callback": [note], "on_retry_callback": [note]}
        else:
            callbacks.on_failure_callback = callbacks.on_retry_callback = [note]
    on_term = signal.getsignal(signal.SIGTERM)
    try:
        dag_run = dag.test()
    finally:
        signal.signal(signal.SIGTERM, on_term)  # Airflow's own would keep the tests from being stopped
    run.dag_state = str(dag_run.state)
    for ti in dag_run.get_task_instances():
        run.states[instance_name(ti)] = str(ti.state)
    with create_session() as session:
        for row in session.query(XComModel).filter_by(dag_id=dag.dag_id, run_id=dag_run.run_id):
            values = run.xcoms.setdefault(instance_name(row), {})
            values[row.key] = XComModel.deserialize_value(row)
    return run


@pytest.fixture
def dag(request: pytest.FixtureRequest, tmp_path: Path) -> DAG:
    """A DAG of this test alone, in a file of its own folder."""
    name = "".join(c if c.isalnum() else "_" for c in request.node.name)
    made = DAG(dag_id=name, schedule=None, default_args={"retry_delay": timedelta(0)})
    made.fileloc = str(tmp_path / "dag.py")
    return made


@pytest.fixture
def run_dag(dag: DAG) -> Callable[[], Run]:
    """Run the test's DAG."""
    return lambda: _run(dag)


@pytest.fixture
def train(dag: DAG) -> Callable[..., PersistentResourceCustomJobOperator]:
    """Make the task ``train`` with short pauses; arguments are the training code's."""

    def make(*args: str, **changes: Any) -> PersistentResourceCustomJobOperator:
        values: dict[str, Any] = {
            "task_id": "train",
            "region": REGION,
            "persistent_resource_id": "nightly",
            "poll_interval": 0.05,
        }
        if not {"worker_pool_specs", "config"} & set(changes):
            values |= {"container_uri": IMAGE, "machine_type": MACHINE, "args": list(args) or None}
        return PersistentResourceCustomJobOperator(dag=dag, **{**values, **changes})

    return make


@pytest.fixture
def queue(dag: DAG) -> Callable[..., FlexStartTrainingOperator]:
    """Make the task ``train`` with short pauses, which queues for an L4."""

    def make(*args: str, **changes: Any) -> FlexStartTrainingOperator:
        values: dict[str, Any] = {
            "task_id": "train",
            "container_uri": IMAGE,
            "args": list(args) or ["succeed"],
            "poll_interval": 0.05,
            **L4,
        }
        if "candidates" not in changes:
            values["region"] = REGION
        return FlexStartTrainingOperator(dag=dag, **{**values, **changes})

    return make


@pytest.fixture
def race(dag: DAG) -> Callable[..., FlexStartTrainingOperator]:
    """Make the task ``train`` with short pauses, which queues for an L4 in three regions."""

    def make(*args: str, **changes: Any) -> FlexStartTrainingOperator:
        values: dict[str, Any] = {
            "task_id": "train",
            "container_uri": IMAGE,
            "args": list(args) or ["succeed"],
            "candidates": [candidate(region=region) for region in RACE_REGIONS],
            "candidate_order": "race",
            "poll_interval": 0.05,
            **L4,
        }
        return FlexStartTrainingOperator(dag=dag, **{**values, **changes})

    return make


@pytest.fixture
def tune(dag: DAG) -> Callable[..., HyperparameterTuningOperator]:
    """Make the task ``train`` with short pauses, which looks for the least loss of four trials."""

    def make(*args: str, **changes: Any) -> HyperparameterTuningOperator:
        values: dict[str, Any] = {
            "task_id": "train",
            "region": REGION,
            "container_uri": IMAGE,
            "args": ["tune", *args],
            "machine_type": MACHINE,
            "metrics": {"loss": "minimize"},
            "parameters": {"x": integer(1, 8)},
            "max_trial_count": 4,
            "parallel_trial_count": 2,
            "poll_interval": 0.05,
        }
        return HyperparameterTuningOperator(dag=dag, **{**values, **changes})

    return make


@pytest.fixture
def create(dag: DAG) -> Callable[..., CreatePersistentResourceOperator]:
    """Make the task ``create`` with short pauses."""

    def make(**changes: Any) -> CreatePersistentResourceOperator:
        values: dict[str, Any] = {
            "task_id": "create",
            "region": REGION,
            "persistent_resource_id": "nightly",
            "resource_pools": [POOL],
            "poll_interval": 0.05,
        }
        return CreatePersistentResourceOperator(dag=dag, **{**values, **changes})

    return make


@pytest.fixture
def delete(dag: DAG) -> Callable[..., DeletePersistentResourceOperator]:
    """Make the task ``delete`` with short pauses."""

    def make(**changes: Any) -> DeletePersistentResourceOperator:
        values: dict[str, Any] = {
            "task_id": "delete",
            "region": REGION,
            "persistent_resource_id": "nightly",
            "poll_interval": 0.05,
        }
        return DeletePersistentResourceOperator(dag=dag, **{**values, **changes})

    return make


@pytest.fixture
def meanwhile() -> Callable[[Callable[[], object]], AbstractContextManager[None]]:
    """Do something in a thread while a block runs; its error is the test's error."""

    @contextmanager
    def run(action: Callable[[], object]) -> Iterator[None]:
        with ThreadPoolExecutor(1) as pool:
            done = pool.submit(action)
            yield
            done.result(DEADLINE)

    return run
