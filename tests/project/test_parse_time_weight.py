# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from tests.project.conftest import Module

# What a DAG file imports, and what those modules need.
PARSED_ROOMS = {"operators", "sensors", "triggers", "links", "specs"}
HEAVY = {"google", "grpc", "proto", "airflow.providers", "sqlalchemy", "pandas", "numpy", "plotly"}


def modules_after(statements: list[str], home: Path) -> set[str]:
    """Return what is in ``sys.modules`` of a fresh process after some statements."""
    code = "\n".join(["import json, sys", *statements, "print(json.dumps(sorted(sys.modules)))"])
    environment = {**os.environ, "AIRFLOW_HOME": str(home)}
    finished = subprocess.run(
        [sys.executable, "-c", code], check=True, stdout=subprocess.PIPE, text=True, env=environment
    )
    return set(json.loads(finished.stdout.splitlines()[-1]))


def heavy(names: set[str]) -> list[str]:
    """Return the names that belong to a heavy package."""
    return sorted(name for name in names if any(f"{name}.".startswith(f"{top}.") for top in HEAVY))


@pytest.fixture(scope="module")
def airflow_alone(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """Return the modules that ``airflow.sdk`` itself brings, with the names that operators take from it."""
    return modules_after(
        ["from airflow.sdk import BaseOperator, BaseOperatorLink, BaseSensorOperator"],
        tmp_path_factory.mktemp("airflow"),
    )


def test_parsing_a_dag_imports_no_google_client(
    modules: list[Module], airflow_alone: set[str], tmp_path: Path
) -> None:
    """Importing every operator, sensor, trigger, link and spec brings no Google client, gRPC or protobuf."""
    parsed = [module.name for module in modules if module.room in PARSED_ROOMS]
    assert parsed
    after = modules_after([f"import {name}" for name in parsed], tmp_path)
    assert set(parsed) <= after
    assert heavy(after - airflow_alone) == []


def test_a_hook_does_import_them(airflow_alone: set[str], tmp_path: Path) -> None:
    """The list of heavy packages is one that the hooks, which do need the clients, are caught by."""
    after = modules_after(["import airflow_vertex_persistent.hooks.client"], tmp_path)
    brought = {name.partition(".")[0] for name in heavy(after - airflow_alone)}
    assert {"google", "grpc", "airflow"} <= brought


RESUME = """
class Store(dict):
    def set(self, key, value):
        self[key] = value

from airflow_vertex_persistent.operators.custom_job import PersistentResourceCustomJobOperator
task = PersistentResourceCustomJobOperator(
    task_id="train", region="europe-west4", persistent_resource_id="nightly", deferrable=True
)
job = "projects/1/locations/europe-west4/customJobs/2"
snapshot = {
    "job": job, "state": "JOB_STATE_%s", "persistent_resource_id": "nightly", "strategy": None,
    "output_dir": "gs://models/run", "max_run_seconds": None, "max_wait_seconds": None, "create_time": "2026-11-22T01:00:00+00:00",
    "start_time": "2026-11-22T01:00:10+00:00", "end_time": "2026-11-22T01:10:10+00:00",
    "error_code": 3, "error_message": "The replica workerpool0-0 exited with a non-zero status of 1.",
}
event = {"name": job, "status": "settled", "snapshot": snapshot, "details": {"log_lines": ["no"]}, "error": ""}
try:
    ended = task.resume_execution(
        "execute_complete", {"event": event}, {"task_state_store": Store(), "ti": TaskInstance()}
    )["state"]
except Exception as error:
    ended = type(error).__name__
assert ended == "%s", ended
"""
TASK_INSTANCE = """
class TaskInstance:
    try_number, max_tries = 1, 3
"""


@pytest.mark.parametrize(
    ("state", "ended"), [("SUCCEEDED", "JOB_STATE_SUCCEEDED"), ("FAILED", "JobFailedError")]
)
def test_a_resumed_task_needs_no_google_client(
    airflow_alone: set[str], tmp_path: Path, state: str, ended: str
) -> None:
    """A task that comes back from the triggerer makes its result, or its error, from the event alone."""
    after = modules_after([TASK_INSTANCE, RESUME % (state, ended)], tmp_path)
    assert heavy(after - airflow_alone) == []
