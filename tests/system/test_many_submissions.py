# SPDX-License-Identifier: Apache-2.0
"""Two hundred tasks that all want a job at once, of a service that takes sixty a minute."""

from __future__ import annotations

import os
from collections import Counter
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from demo_cloud import Cloud
from local_airflow import LocalAirflow
from local_emulator import PROJECT, start_emulator
from processes import Processes

from airflow_vertex_persistent.emulator import EmulatorControl

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.soak, pytest.mark.timeout(3600)]

PARENT = f"projects/{PROJECT}/locations/europe-west4"
TASKS = 200
# Fewer than these tasks would submit a minute if nobody stopped them, and fewer than the service takes.
SUBMISSIONS_PER_MINUTE = 30
DEADLINE = 3000.0
_DAG = f"""\
from airflow.sdk import DAG

from airflow_vertex_persistent.operators.custom_job import PersistentResourceCustomJobOperator

with DAG("many", schedule=None, is_paused_upon_creation=False, max_active_tasks={TASKS}):
    PersistentResourceCustomJobOperator.partial(
        task_id="train",
        region="europe-west4",
        persistent_resource_id="nightly",
        container_uri="europe-west4-docker.pkg.dev/acme/training/any:1",
        machine_type="n1-standard-4",
        # This is about getting a job each; what becomes of it others test.
        wait_for_completion=False,
    ).expand(args=[[str(number)] for number in range({TASKS})])
"""
_CONFIGURATION = {"AIRFLOW__CORE__PARALLELISM": "8", "AIRFLOW__SCHEDULER__MAX_TIS_PER_QUERY": "64"}


def listed(cloud: Cloud) -> list[Any]:
    """Return all jobs."""
    return list(cloud._jobs.list_custom_jobs({"parent": PARENT, "page_size": 100}))


def has_ended(airflow: LocalAirflow, run_id: str) -> bool:
    """Tell whether the run is over; an API server that so many tasks keep busy may not say."""
    try:
        return airflow.api.dag_run("many", run_id)["state"] in {"success", "failed"}
    except httpx.TimeoutException:
        return False


def test_all_are_submitted(tmp_path: Path) -> None:
    """Tasks that are told to come later come later: each gets its one job in the end, and none fails."""
    (tmp_path / "dags").mkdir()
    (tmp_path / "dags" / "many.py").write_text(_DAG, encoding="utf-8")
    settings: dict[str, Any] = {"submissions-per-minute": SUBMISSIONS_PER_MINUTE, "executor": "simulate"}
    with Processes(tmp_path / "processes") as processes:
        environment = start_emulator(processes, tmp_path / "cloud", images={}, buckets=[], settings=settings)
        address = environment["VERTEX_AI_EMULATOR_HOST"]
        cloud = Cloud(address, PROJECT, tmp_path / "cloud")
        pool: Any = {
            "machine_spec": {"machine_type": "n1-standard-4"},
            "replica_count": TASKS,
            "disk_spec": {"boot_disk_type": "pd-ssd", "boot_disk_size_gb": 100},
        }
        resource: Any = {"resource_pools": [pool]}
        cloud._resources.create_persistent_resource(
            parent=PARENT, persistent_resource=resource, persistent_resource_id="nightly"
        )
        with LocalAirflow(
            tmp_path / "airflow",
            tmp_path / "dags",
            environment=environment | _CONFIGURATION,
            port=0,
            database=os.environ["TEST_DATABASE"],  # eight tasks at once are too many writers for SQLite
        ) as airflow:
            airflow.processes.wait_for(lambda: "many" in airflow.api.dags(), "the DAG is read", 60)
            run_id = airflow.api.trigger("many", {})
            airflow.processes.wait_for(lambda: has_ended(airflow, run_id), "the run has ended", DEADLINE)
            succeeded = airflow.api.count_task_instances("many", run_id, "success")
            assert succeeded == TASKS, airflow.processes.log_path("scheduler").read_text()[-5000:]
            airflow.processes.wait_for(
                lambda: all(job.state.name == "JOB_STATE_SUCCEEDED" for job in listed(cloud)),
                "all have run",
                60,
            )
        jobs = listed(cloud)
        with EmulatorControl(address) as control:
            creates = control.call_counts()["CreateCustomJob"]
        cloud.close()
    assert Counter(job.labels["airflow_map_index"] for job in jobs) == {str(n): 1 for n in range(TASKS)}
    assert creates > TASKS  # or nobody was told to come later
