# SPDX-License-Identifier: Apache-2.0
"""
Runs DAGs with ``dag.test()`` against an emulator.

The metadata database is made once per session, in the Airflow home of the test run.
"""

from __future__ import annotations

import json
import logging
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from google.api_core.exceptions import NotFound
from google.cloud.aiplatform_v1 import JobServiceClient, PersistentResourceServiceClient
from google.cloud.aiplatform_v1.types import CustomJob, HyperparameterTuningJob, JobState, PersistentResource

from airflow_vertex_persistent.emulator import EmulatorSettings, VertexEmulator

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.conftest import Relay

PROJECT = "demo-project"
REGION = "europe-west4"
PARENT = f"projects/{PROJECT}/locations/{REGION}"
IMAGE = "europe-west4-docker.pkg.dev/acme/training/small:1"
BUCKET = "nightly-models"
MACHINE = "n1-standard-4"
POOL = {
    "machine_spec": {"machine_type": MACHINE},
    "replica_count": 2,
    "disk_spec": {"boot_disk_type": "pd-ssd", "boot_disk_size_gb": 100},
}
DEADLINE = 60.0

_DOCKERFILE = """\
FROM python:3.11-slim
WORKDIR /app
COPY . .
ENTRYPOINT ["python", "/app/task.py"]
CMD ["succeed"]
"""
# What a test wants of the training code is its first argument.
_TASK = """\
import sys
import time
from concurrent.futures import ThreadPoolExecutor

what, *rest = sys.argv[1:]
print("training", what, *rest, flush=True)
if what == "sleep":
    time.sleep(float(rest[0]))
elif what == "fail":
    raise ValueError("the loss is not a number")
elif what == "tune":
    from hypertune import HyperTune

    flags = dict(flag.removeprefix("--").split("=") for flag in rest)
    x = float(flags["x"])
    if x > float(flags.get("fail_above", "inf")):
        raise ValueError(f"{x} is too large")
    tune = HyperTune()
    for step in (1, 2, 3):
        tune.report_hyperparameter_tuning_metric("loss", (x - 3) ** 2 + 3 - step, global_step=step)
    time.sleep(float(flags.get("seconds", 0)))
"""

logging.getLogger("alembic").setLevel(logging.WARNING)


@pytest.fixture(scope="session", autouse=True)
def airflow_database() -> None:
    """Make the metadata database and tell it of the DAG folder, which stays empty."""
    from airflow.dag_processing.bundles.manager import DagBundlesManager
    from airflow.utils.db import initdb
    from airflow.utils.session import create_session

    initdb()
    with create_session() as session:
        DagBundlesManager().sync_bundles_to_db(session=session)


@pytest.fixture(autouse=True)
def connection(monkeypatch: pytest.MonkeyPatch) -> None:
    """Connect Airflow to the demo project."""
    extra = {"project": PROJECT, "is_anonymous": True}
    value = json.dumps({"conn_type": "google_cloud_platform", "extra": extra})
    monkeypatch.setenv("AIRFLOW_CONN_GOOGLE_CLOUD_DEFAULT", value)


class Cloud:
    """
    What a test looks at, and does, behind Airflow's back.

    :param address: Of the emulator.
    :param data_dir: Where the emulator keeps logs.
    """

    IMAGE = IMAGE
    BUCKET = BUCKET
    PROJECT = PROJECT
    REGION = REGION

    def __init__(self, address: str, data_dir: Path) -> None:
        self.address = address
        self.data_dir = data_dir
        channel = grpc.insecure_channel(address)
        jobs, resources = JobServiceClient, PersistentResourceServiceClient
        self.jobs = jobs(transport=jobs.get_transport_class("grpc")(channel=channel))
        self.resources = resources(transport=resources.get_transport_class("grpc")(channel=channel))
        self.close = channel.close

    @staticmethod
    def wait_for(condition: Callable[[], Any], what: str) -> Any:
        """Wait until a condition holds, and give back what it answered."""
        deadline = time.monotonic() + DEADLINE
        while time.monotonic() < deadline:
            if answer := condition():
                return answer
            time.sleep(0.02)
        raise AssertionError(f"{what} did not come true in {DEADLINE:g} s")

    def all_jobs(self) -> list[CustomJob]:
        """Return every job there is."""
        return list(self.jobs.list_custom_jobs(parent=PARENT))

    def tuning_jobs(self) -> list[HyperparameterTuningJob]:
        """Return every tuning job there is, the oldest first, with its trials."""
        listed = self.jobs.list_hyperparameter_tuning_jobs(parent=PARENT)
        names = sorted((job.name for job in listed), key=lambda name: int(name.rpartition("/")[2]))
        return [self.jobs.get_hyperparameter_tuning_job(name=name) for name in names]

    def jobs_in(self, *regions: str) -> list[CustomJob]:
        """Return all jobs, region by region, the oldest first."""
        found: list[CustomJob] = []
        for region in regions:
            listed = self.jobs.list_custom_jobs(parent=f"projects/{PROJECT}/locations/{region}")
            found += sorted(listed, key=lambda job: str(job.create_time))
        return found

    def states_in(self, *regions: str) -> list[str]:
        """Return the states of all jobs, region by region, when none is on its way to its end."""

        def found() -> list[str]:
            return [job.state.name.removeprefix("JOB_STATE_").lower() for job in self.jobs_in(*regions)]

        self.wait_for(lambda: "cancelling" not in found(), "all jobs have ended")
        return found()

    def settled_jobs(self) -> list[Any]:
        """Return all jobs, the oldest first, when none is on its way to its end."""
        moving = {JobState.JOB_STATE_PENDING, JobState.JOB_STATE_CANCELLING}
        self.wait_for(lambda: not moving & {job.state for job in self.all_jobs()}, "no job is on its way")
        return sorted(self.all_jobs(), key=lambda job: str(job.create_time))

    def settled_states(self) -> list[JobState]:
        """Return the states of all jobs, the oldest first, when none is on its way to its end."""
        return [job.state for job in self.settled_jobs()]

    def running_job(self) -> CustomJob:
        """Wait for the one job that runs."""

        def find() -> CustomJob | None:
            jobs = self.all_jobs()
            assert len(jobs) < 2, jobs
            return jobs[0] if jobs and jobs[0].state == JobState.JOB_STATE_RUNNING else None

        job: CustomJob = self.wait_for(find, "a job runs")
        return job

    def occupy(self, resource_id: str = "nightly", seconds: float = 600.0) -> CustomJob:
        """Take all machines of a persistent resource with a job, which ends by itself only after ``seconds``."""
        pool = {
            "machine_spec": POOL["machine_spec"],
            "disk_spec": POOL["disk_spec"],
            "replica_count": 1,
            "container_spec": {"image_uri": IMAGE, "args": ["sleep", f"{seconds:g}"]},
        }
        job: Any = {
            "display_name": "occupies",
            "job_spec": {"worker_pool_specs": [pool, pool], "persistent_resource_id": resource_id},
        }
        self.jobs.create_custom_job(parent=PARENT, custom_job=job)
        return self.running_job()

    def cancel_running_job(self) -> None:
        """Cancel the job that runs, as somebody in the console would."""
        self.jobs.cancel_custom_job(name=self.running_job().name)

    def log(self, job: str) -> str:
        """Return what the first replica of a job printed."""
        path = self.data_dir / "logs" / job.rpartition("/")[2] / "workerpool0-0.log"
        return path.read_text(encoding="utf-8")

    def resource(self, resource_id: str = "nightly") -> PersistentResource | None:
        """Return a persistent resource as it is now, ``None`` if there is none."""
        try:
            return self.resources.get_persistent_resource(name=f"{PARENT}/persistentResources/{resource_id}")
        except NotFound:
            return None

    def start_resource(self, resource_id: str = "nightly", **fields: Any) -> None:
        """Begin to create a persistent resource with two machines."""
        resource: Any = {"resource_pools": [POOL], **fields}
        self.resources.create_persistent_resource(
            parent=PARENT, persistent_resource=resource, persistent_resource_id=resource_id
        )

    def create_resource(self, resource_id: str = "nightly", **fields: Any) -> None:
        """Create a persistent resource and wait until it is not PROVISIONING any more."""
        self.start_resource(resource_id, **fields)
        self.wait_while(resource_id, PersistentResource.State.PROVISIONING)

    def wait_while(self, resource_id: str, state: Any) -> None:
        """Wait until a persistent resource has left a state."""
        self.wait_for(
            lambda: (now := self.resource(resource_id)) is None or now.state != state,
            f"{resource_id} is not {state.name} any more",
        )


@pytest.fixture(scope="session")
def image_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that stands for the image of the training code."""
    folder = tmp_path_factory.mktemp("image")
    (folder / "Dockerfile").write_text(_DOCKERFILE, encoding="utf-8")
    (folder / "task.py").write_text(_TASK, encoding="utf-8")
    return folder


@pytest.fixture
def cloud_at() -> Iterator[Callable[[str, Path], Cloud]]:
    """Connect to an emulator that runs already."""
    opened: list[Cloud] = []

    def connect(address: str, data_dir: Path) -> Cloud:
        opened.append(Cloud(address, data_dir))
        return opened[-1]

    yield connect
    for cloud in opened:
        cloud.close()


@pytest.fixture
def start_cloud(
    image_folder: Path, cloud_at: Callable[[str, Path], Cloud], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., Cloud]]:
    """Start an emulator with some settings, and more names of the one image, and point Airflow to it."""
    with ExitStack() as stack:

        def start(*images: str, **settings: Any) -> Cloud:
            emulator = stack.enter_context(
                VertexEmulator(
                    images=dict.fromkeys((IMAGE, *images), image_folder),
                    buckets=[BUCKET],
                    settings=EmulatorSettings(**settings),
                )
            )
            for name, value in emulator.environment.items():
                monkeypatch.setenv(name, value)
            return cloud_at(emulator.address, emulator.data_dir)

        yield start


@pytest.fixture
def empty_cloud(start_cloud: Callable[..., Cloud]) -> Cloud:
    """An emulator without any persistent resource."""
    return start_cloud()


@pytest.fixture
def relay_to(
    start_relay: Callable[[str], Relay], monkeypatch: pytest.MonkeyPatch
) -> Callable[[Cloud], Relay]:
    """Start a relay between Airflow and an emulator; what the test itself does there goes past it."""

    def start(cloud: Cloud) -> Relay:
        started = start_relay(cloud.address)
        monkeypatch.setenv("VERTEX_AI_EMULATOR_HOST", started.address)
        return started

    return start


@pytest.fixture
def relay(empty_cloud: Cloud, relay_to: Callable[[Cloud], Relay]) -> Relay:
    """A relay between Airflow and ``empty_cloud``."""
    return relay_to(empty_cloud)


@pytest.fixture
def cloud(start_cloud: Callable[..., Cloud]) -> Cloud:
    """An emulator with the persistent resource ``nightly``."""
    started = start_cloud()
    started.create_resource()
    return started
