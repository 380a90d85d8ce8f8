# SPDX-License-Identifier: Apache-2.0
"""One Airflow of real processes and one emulator, for all tests of a module."""

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

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
DAGS = ROOT / "dags_examples"
BUCKET = "nightly-models"
IMAGE = "europe-west4-docker.pkg.dev/acme/training/digits:1"
RUN_TIMEOUT = 400.0


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
