# SPDX-License-Identifier: Apache-2.0
"""
Airflow of real processes and an emulator: one with the example DAGs for all tests of a module, and one, the stage,
for all modules whose tests stop tasks and processes.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from demo_cloud import Cloud
from local_airflow import LocalAirflow
from local_emulator import PROJECT, start_emulator
from processes import Processes
from set_up import set_up

if TYPE_CHECKING:
    from collections.abc import Iterator

    from stage import Stage, Training

ROOT = Path(__file__).parents[2]
DAGS = ROOT / "dags_examples"
BUCKET = "nightly-models"
IMAGE = "europe-west4-docker.pkg.dev/acme/training/digits:1"
RUN_TIMEOUT = 400.0
KILL_ROUNDS = int(os.environ.get("KILL_ROUNDS", "1"))


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let the tests on the stage run one after the other, at the end: it is there for no other test."""
    items.sort(key=lambda item: "stage" in getattr(item, "fixturenames", ()))


@dataclass
class Installation:
    """A running Airflow, the emulator it trains on, and ways to look at both."""

    airflow: LocalAirflow
    cloud: Cloud

    def wait_for_run(self, dag_id: str, run_id: str) -> dict[str, Any]:
        """Wait until a run has ended and return it."""
        ended = {"success", "failed"}
        self.airflow.processes.wait_for(
            lambda: self.airflow.api.dag_run(dag_id, run_id)["state"] in ended,
            f"{run_id} has ended",
            RUN_TIMEOUT,
        )
        return self.airflow.api.dag_run(dag_id, run_id)


@pytest.fixture(scope="module")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """Airflow with the example DAGs, all paused, and the emulator with the examples' trainer."""
    scratch = tmp_path_factory.mktemp("system")
    with Processes(scratch / "processes") as processes:
        environment = start_emulator(
            processes,
            scratch / "cloud",
            images={IMAGE: DAGS / "trainer"},
            buckets=[BUCKET],
            settings={"resource-provisioning-seconds": 1, "resource-teardown-seconds": 1},
        )
        cloud = Cloud(environment["VERTEX_AI_EMULATOR_HOST"], PROJECT, scratch / "cloud")
        database = os.environ.get("TEST_DATABASE")  # an empty one, see scripts/soak.sh; else SQLite
        airflow = LocalAirflow(scratch / "airflow", DAGS, environment=environment, port=0, database=database)
        with airflow:
            yield Installation(airflow, cloud)
        cloud.close()


@pytest.fixture(scope="session")
def running_stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """Airflow with a DAG for each way to stop a task, and the emulator with a training that ends when it is told."""
    with set_up(tmp_path_factory.mktemp("stage")) as started:
        yield started


@pytest.fixture(scope="module", params=range(KILL_ROUNDS), ids=lambda number: f"round-{number + 1}")
def stage(running_stage: Stage) -> Iterator[Stage]:
    """Return the stage for the tests of a module, once for each of KILL_ROUNDS; nothing is left to those after."""
    yield running_stage
    running_stage.clear()


def dag_of(item: pytest.Item) -> str:
    """Return the DAG of a test on the stage: it has the test's name and mode."""
    assert isinstance(item, pytest.Function)
    return f"{item.originalname.removeprefix('test_')}_{item.callspec.params['mode']}"


@pytest.fixture(scope="module")
def dags(request: pytest.FixtureRequest) -> list[str]:
    """Return the DAGs of those tests of a module that were chosen to run."""
    items = [item for item in request.session.items if item.path == request.path]
    return sorted({dag_of(item) for item in items if "training" in getattr(item, "fixturenames", ())})


@pytest.fixture(scope="module")
def runs(stage: Stage, dags: list[str]) -> dict[str, Training]:
    """Start a run for each test of a module at once, so that they do not wait for each other."""
    return {dag_id: stage.begin(dag_id) for dag_id in dags}


@pytest.fixture
def triggerer(stage: Stage) -> Iterator[str]:
    """Return the name of the only triggerer, and see to it that there is one afterwards."""
    (name,) = stage.triggerers()
    yield name
    stage.restore_triggerer()


@pytest.fixture(params=["blocking", "deferrable"])
def mode(request: pytest.FixtureRequest) -> str:
    """Return where the task waits: on its worker, or in the triggerer. Some tests choose one."""
    return str(request.param)


@pytest.fixture
def training(request: pytest.FixtureRequest, runs: dict[str, Training], mode: str) -> Training:
    """Return the run of this test's DAG."""
    training = runs[dag_of(request.node)]
    assert training.dag_id.endswith(mode)
    return training
