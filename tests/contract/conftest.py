# SPDX-License-Identifier: Apache-2.0
"""A running emulator, and the real Google clients that talk to it."""

from __future__ import annotations

import json
import time
from contextlib import ExitStack, contextmanager
from itertools import count
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from google.cloud.aiplatform_v1.services.job_service import JobServiceClient
from google.cloud.aiplatform_v1.services.job_service.transports.grpc import JobServiceGrpcTransport
from google.cloud.aiplatform_v1.services.persistent_resource_service import PersistentResourceServiceClient
from google.cloud.aiplatform_v1.services.persistent_resource_service.transports.grpc import (
    PersistentResourceServiceGrpcTransport,
)
from google.cloud.aiplatform_v1.types import (
    CustomJob,
    HyperparameterTuningJob,
    JobState,
    PersistentResource,
    StudySpec,
)

from airflow_vertex_persistent.emulator import EmulatorSettings, VertexEmulator

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.conftest import Relay

IMAGE = "europe-west4-docker.pkg.dev/acme/training/emulator-test:1"
BUCKET = "emulator-bucket"
PROJECT = "demo-project"
PARENT = f"projects/{PROJECT}/locations/europe-west4"
MACHINE = "n1-standard-4"
DEADLINE = 30.0

_ENDED = {
    JobState.JOB_STATE_SUCCEEDED,
    JobState.JOB_STATE_FAILED,
    JobState.JOB_STATE_CANCELLED,
    JobState.JOB_STATE_EXPIRED,
}
_H100 = {"machine_type": "a3-highgpu-8g", "accelerator_type": "NVIDIA_H100_80GB", "accelerator_count": 8}
_REGIONS = count(10)
_DOCKERFILE = """\
FROM python:3.11-slim
ENV FROM_IMAGE=yes
WORKDIR /app
COPY . .
ENTRYPOINT ["python", "/app/task.py"]
CMD ["from-cmd"]
"""
_TASK = """\
import sys
print("arguments:", *sys.argv[1:])
"""


class Cloud:
    """The real clients of one emulator, and what tests do with them again and again."""

    IMAGE = IMAGE
    BUCKET = BUCKET
    PARENT = PARENT

    def __init__(self, channel: grpc.Channel, data_dir: Path, emulator: VertexEmulator | None = None) -> None:
        self._emulator = emulator
        self._data_dir = data_dir
        self.channel = channel
        self.jobs = JobServiceClient(transport=JobServiceGrpcTransport(channel=channel))
        self.resources = PersistentResourceServiceClient(
            transport=PersistentResourceServiceGrpcTransport(channel=channel)
        )

    @property
    def emulator(self) -> VertexEmulator:
        """The emulator, when it runs in this process."""
        assert self._emulator
        return self._emulator

    @staticmethod
    def wait_for(condition: Callable[[], Any], what: str = "the condition") -> Any:
        """Wait until a condition holds, and give back what it answered."""
        deadline = time.monotonic() + DEADLINE
        while time.monotonic() < deadline:
            if answer := condition():
                return answer
            time.sleep(0.02)
        pytest.fail(f"{what} did not come true in {DEADLINE:g} s")

    @staticmethod
    def pool(code: str | None = None, **fields: Any) -> dict[str, Any]:
        """One worker pool that runs a piece of Python; other fields replace the usual ones."""
        container = fields.pop("container_spec", {"image_uri": IMAGE})
        if code is not None:
            container |= {"command": ["python", "-c", code]}
        return {
            "machine_spec": {"machine_type": MACHINE},
            "replica_count": 1,
            "container_spec": container,
            **fields,
        }

    @staticmethod
    def job(
        *pools: dict[str, Any], display_name: str = "job", labels: Any = None, **spec: Any
    ) -> dict[str, Any]:
        """A custom job of some worker pools; other fields go into its job_spec."""
        return {
            "display_name": display_name,
            "labels": labels or {},
            "job_spec": {"worker_pool_specs": list(pools), **spec},
        }

    def create(self, job: dict[str, Any], parent: str = PARENT) -> CustomJob:
        """Create a job."""
        return self.jobs.create_custom_job(parent=parent, custom_job=CustomJob(job))

    def scarce(
        self,
        strategy: str,
        *nodes: int,
        region: str = "europe-west4",
        project: str = PROJECT,
        **scheduling: Any,
    ) -> CustomJob:
        """Create a job of machines with eight H100 each, with some nodes in each worker pool (1)."""
        pools = [self.pool(machine_spec=_H100, replica_count=number) for number in nodes or (1,)]
        job = self.job(*pools, scheduling={"strategy": strategy, **scheduling})
        return self.create(job, f"projects/{project}/locations/{region}")

    def get(self, job: CustomJob) -> CustomJob:
        """Get a job as it is now."""
        return self.jobs.get_custom_job(name=job.name)

    def in_state(self, job: CustomJob, *states: int) -> CustomJob:
        """Wait until a job is in one of some states."""
        found: CustomJob = self.wait_for(
            lambda: now if (now := self.get(job)).state in states else None, f"{job.name} in {states}"
        )
        return found

    @staticmethod
    def waited(job: CustomJob) -> float:
        """Seconds until a job ran, or ended without having run."""
        raw = CustomJob.pb(job)
        end = raw.start_time if raw.HasField("start_time") else raw.end_time
        return float((end.ToDatetime() - raw.create_time.ToDatetime()).total_seconds())

    def running(self, job: CustomJob) -> CustomJob:
        """Wait until a job runs."""
        return self.in_state(job, JobState.JOB_STATE_RUNNING)

    def ended(self, job: CustomJob) -> CustomJob:
        """Wait until a job has ended."""
        return self.in_state(job, *_ENDED)

    def run(self, *pools: dict[str, Any], **spec: Any) -> CustomJob:
        """Create a job and wait until it has ended."""
        return self.ended(self.create(self.job(*pools, **spec)))

    def stop(self, job: CustomJob) -> CustomJob:
        """Cancel a job and wait for its end."""
        self.jobs.cancel_custom_job(name=job.name)
        return self.ended(job)

    def log(self, job: CustomJob | HyperparameterTuningJob, task: str = "workerpool0-0") -> list[str]:
        """The lines that a replica printed, without their times."""
        path = self._data_dir / "logs" / job.name.rpartition("/")[2] / f"{task}.log"
        if not path.exists():
            return []
        return [line.partition(" ")[2] for line in path.read_text(encoding="utf-8").splitlines()]

    def resource(self, resource_id: str, *pools: dict[str, Any], **fields: Any) -> PersistentResource:
        """Create a persistent resource and wait until it has left PROVISIONING."""
        name = f"{PARENT}/persistentResources/{resource_id}"
        pools = pools or ({"machine_spec": {"machine_type": MACHINE}, "replica_count": 1},)
        self.resources.create_persistent_resource(
            parent=PARENT,
            persistent_resource=PersistentResource({"resource_pools": list(pools), **fields}),
            persistent_resource_id=resource_id,
        )
        return self.resource_in_state(name, PersistentResource.State.RUNNING, PersistentResource.State.ERROR)

    def resource_in_state(self, name: str, *states: int) -> PersistentResource:
        """Wait until a persistent resource is in one of some states."""
        found: PersistentResource = self.wait_for(
            lambda: (
                now if (now := self.resources.get_persistent_resource(name=name)).state in states else None
            ),
            f"{name} in {states}",
        )
        return found


class Tuning:
    """What tests do with tuning jobs again and again."""

    def __init__(self, cloud: Cloud) -> None:
        self.cloud = cloud

    def job(self, code: str, **fields: Any) -> dict[str, Any]:
        """
        A tuning job over one number, x, with the metric loss, whose trials run a piece of Python.

        Fields of the study and of the trials' spec replace the usual ones as well.
        """
        study = {
            "metrics": [{"metric_id": "loss", "goal": "MINIMIZE"}],
            "parameters": [{"parameter_id": "x", "double_value_spec": {"max_value": 10}}],
        }
        study |= {name: fields.pop(name) for name in StudySpec.meta.fields if name in fields}
        job = {"display_name": "tuning", "max_trial_count": 1, "parallel_trial_count": 1, "study_spec": study}
        own = {"display_name", "labels", "max_trial_count", "parallel_trial_count", "max_failed_trial_count"}
        job |= {name: fields.pop(name) for name in own & fields.keys()}
        pools = fields.pop("worker_pool_specs", [self.cloud.pool(code)])
        return {**job, "trial_job_spec": {"worker_pool_specs": pools, **fields}}

    def create(self, code: str = "", parent: str = PARENT, **fields: Any) -> HyperparameterTuningJob:
        """Create a tuning job."""
        return self.cloud.jobs.create_hyperparameter_tuning_job(
            parent=parent, hyperparameter_tuning_job=HyperparameterTuningJob(self.job(code, **fields))
        )

    def get(self, job: HyperparameterTuningJob) -> HyperparameterTuningJob:
        """Get a job as it is now."""
        return self.cloud.jobs.get_hyperparameter_tuning_job(name=job.name)

    def when(
        self, job: HyperparameterTuningJob, condition: Callable[[HyperparameterTuningJob], Any]
    ) -> HyperparameterTuningJob:
        """Wait until something is true of a job."""
        found: HyperparameterTuningJob = self.cloud.wait_for(
            lambda: now if condition(now := self.get(job)) else None, f"what is awaited of {job.name}"
        )
        return found

    def ended(self, job: HyperparameterTuningJob) -> HyperparameterTuningJob:
        """Wait until a job has ended."""
        return self.when(job, lambda now: now.state in _ENDED)

    def run(self, code: str = "", **fields: Any) -> HyperparameterTuningJob:
        """Create a job and wait until it has ended."""
        return self.ended(self.create(code, **fields))

    def stop(self, job: HyperparameterTuningJob) -> HyperparameterTuningJob:
        """Cancel a job and wait for its end."""
        self.cloud.jobs.cancel_hyperparameter_tuning_job(name=job.name)
        return self.ended(job)

    def jobs_of(self, job: HyperparameterTuningJob) -> list[CustomJob]:
        """Get the custom jobs of a job's trials."""
        return [self.cloud.jobs.get_custom_job(name=trial.custom_job) for trial in job.trials]


@pytest.fixture(scope="session")
def image_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that stands for an image."""
    folder = tmp_path_factory.mktemp("image")
    (folder / "Dockerfile").write_text(_DOCKERFILE, encoding="utf-8")
    (folder / "task.py").write_text(_TASK, encoding="utf-8")
    return folder


@contextmanager
def _cloud(emulator: VertexEmulator) -> Iterator[Cloud]:
    with grpc.insecure_channel(emulator.address) as channel:
        yield Cloud(channel, emulator.data_dir, emulator)


@pytest.fixture(scope="module")
def emulator(image_folder: Path) -> Iterator[VertexEmulator]:
    """An emulator with default settings, one per module."""
    with VertexEmulator(images={IMAGE: image_folder}, buckets=[BUCKET]) as running:
        yield running


@pytest.fixture(scope="module")
def cloud(emulator: VertexEmulator) -> Iterator[Cloud]:
    """The real clients of the module's emulator."""
    with _cloud(emulator) as clients:
        yield clients


@pytest.fixture(scope="module")
def tuning(cloud: Cloud) -> Tuning:
    """Tuning jobs on the module's emulator."""
    return Tuning(cloud)


@pytest.fixture
def region() -> str:
    """A region of the test's own: nobody else queues there."""
    return f"europe-west{next(_REGIONS)}"


@pytest.fixture
def relay(cloud: Cloud, start_relay: Callable[[str], Relay], monkeypatch: pytest.MonkeyPatch) -> Relay:
    """The way from our hooks and triggers to the module's emulator; what the test itself does goes past it."""
    started = start_relay(cloud.emulator.address)
    extra = {"project": PROJECT, "is_anonymous": True}
    connection = json.dumps({"conn_type": "google_cloud_platform", "extra": extra})
    monkeypatch.setenv("AIRFLOW_CONN_GOOGLE_CLOUD_DEFAULT", connection)
    monkeypatch.setenv("VERTEX_AI_EMULATOR_HOST", started.address)
    return started


@contextmanager
def _clouds(image_folder: Path) -> Iterator[Callable[..., Cloud]]:
    with ExitStack() as stack:

        def start(**settings: Any) -> Cloud:
            emulator = stack.enter_context(
                VertexEmulator(
                    images={IMAGE: image_folder}, buckets=[BUCKET], settings=EmulatorSettings(**settings)
                )
            )
            return stack.enter_context(_cloud(emulator))

        yield start


@pytest.fixture
def cloud_with(image_folder: Path) -> Iterator[Callable[..., Cloud]]:
    """Start an emulator with other settings, e.g. ``cloud_with(busy_policy="fail")``."""
    with _clouds(image_folder) as start:
        yield start


@pytest.fixture
def tuning_with(cloud_with: Callable[..., Cloud]) -> Callable[..., Tuning]:
    """Have tuning jobs on an emulator with other settings."""
    return lambda **settings: Tuning(cloud_with(**settings))


@pytest.fixture(scope="module")
def module_cloud_with(image_folder: Path) -> Iterator[Callable[..., Cloud]]:
    """Start an emulator with other settings for all tests of a module."""
    with _clouds(image_folder) as start:
        yield start
