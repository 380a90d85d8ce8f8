# SPDX-License-Identifier: Apache-2.0
"""Starts the stage: an Airflow with its DAGs, and the emulator with a training that ends when it is told."""

from __future__ import annotations

import os
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from demo_cloud import Cloud
from local_airflow import LocalAirflow
from local_emulator import PROJECT, start_emulator
from processes import Processes
from stage import PARENT, REGION, Stage

from airflow_vertex_persistent.emulator import EmulatorControl

if TYPE_CHECKING:
    from collections.abc import Iterator

HERE = Path(__file__).parent
IMAGE = "europe-west4-docker.pkg.dev/acme/training/patient:1"

_DOCKERFILE = 'ENTRYPOINT ["python", "train.py"]\n'
# The test, or the task, says when the training is done. A trial has one more argument.
_TRAIN = """\
import sys
import time
from pathlib import Path

while not Path(sys.argv[1]).exists():
    time.sleep(0.1)
for flag in sys.argv[2:]:
    from hypertune import HyperTune

    HyperTune().report_hyperparameter_tuning_metric("x", float(flag.removeprefix("--x=")))
"""
_POOL: dict[str, Any] = {
    "machine_spec": {"machine_type": "n1-standard-4"},
    "replica_count": 80,
    "disk_spec": {"boot_disk_type": "pd-ssd", "boot_disk_size_gb": 100},
}
_CONFIGURATION = {
    # A task waits on its worker for the others' sake no longer than the test needs.
    "CORE__PARALLELISM": "12",
    # What is lost is noticed, and a timeout looked for, within seconds.
    "TRIGGERER__JOB_HEARTBEAT_SEC": "1",
    "TRIGGERER__TRIGGERER_HEALTH_CHECK_THRESHOLD": "8",
    "SCHEDULER__TRIGGER_TIMEOUT_CHECK_INTERVAL": "1",
    "SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "20",
    "SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": "1",
    "WORKERS__MIN_HEARTBEAT_INTERVAL": "1",
}
_CONNECT = ("SQL_ALCHEMY_CONNECT_ARGS", "SQL_ALCHEMY_CONNECT_ARGS_ASYNC")


@contextmanager
def set_up(scratch: Path) -> Iterator[Stage]:
    """Run all processes, below a folder."""
    for folder, name, text in (
        ("image", "Dockerfile", _DOCKERFILE),
        ("image", "train.py", _TRAIN),
        ("done", "README", "A file for each training that may end."),
    ):
        (scratch / folder).mkdir(exist_ok=True)
        (scratch / folder / name).write_text(text, encoding="utf-8")
    with Processes(scratch / "processes") as processes:
        environment = start_emulator(
            processes,
            scratch / "cloud",
            images={IMAGE: scratch / "image"},
            buckets=[],
            # Outside the persistent resource there are no machines before a test says so.
            settings={"stock": "*/*=never"},
        )
        address = environment["VERTEX_AI_EMULATOR_HOST"]
        cloud = Cloud(address, PROJECT, scratch / "cloud")
        resource: Any = {"resource_pools": [_POOL]}
        cloud._resources.create_persistent_resource(
            parent=PARENT, persistent_resource=resource, persistent_resource_id="nightly"
        )
        environment |= {f"AIRFLOW__{name}": value for name, value in _CONFIGURATION.items()}
        environment |= {
            "STAGE_DONE": str(scratch / "done"),
            "STAGE_IMAGE": IMAGE,
            "PYTHONPATH": os.pathsep.join(filter(None, [str(HERE), os.environ.get("PYTHONPATH")])),
        }
        database = os.environ.get("TEST_DATABASE")  # an empty one, see scripts/soak.sh; else SQLite
        if database is None:
            environment |= {
                f"AIRFLOW__DATABASE__{name}": "airflow_local_settings.SQLITE" for name in _CONNECT
            }
        with (
            LocalAirflow(
                scratch / "airflow", HERE / "dags", environment=environment, port=0, database=database
            ) as airflow,
            EmulatorControl(address) as control,
        ):
            stage = Stage(airflow, cloud, control, scratch / "done")
            # All at once, and they do not fit on one page of what the API lists.
            wanted = {"params": {"dag_id_pattern": "sweep"}}
            stage.wait_for(
                lambda: bool(airflow.api.call("GET", "/dags", **wanted).json()["dags"]), "the DAGs are read"
            )
            stage.wait_for(lambda: cloud.resource_state(REGION, "nightly") == "RUNNING", "nightly runs")
            yield stage
        cloud.close()
