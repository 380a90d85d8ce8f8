# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import os
import re
import subprocess
import sys
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from airflow_vertex_persistent.emulator import EmulatorControl
from airflow_vertex_persistent.exceptions import (
    JobInterruptedError,
    PermissionDeniedError,
    ServiceUnreachableError,
    VertexTrainingError,
)
from airflow_vertex_persistent.retry import TrainingRetryPolicy

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path

    from airflow_vertex_persistent.operators.base import VertexOperator
    from tests.conftest import Relay
    from tests.integration.conftest import Cloud
    from tests.integration.operators.conftest import Run

    Make = Callable[..., VertexOperator]
    Meanwhile = Callable[[Callable[[], object]], AbstractContextManager[None]]


class EmulatorProcess:
    """
    An emulator as a process of its own, which can be killed and come back.

    :param options: Of ``vertex-emulator start``.
    """

    def __init__(self, *options: str) -> None:
        self._command = [sys.executable, "-m", "airflow_vertex_persistent.emulator.cli", "start", *options]
        self._process: subprocess.Popen[str] | None = None

    def start(self, port: int = 0, storage_port: int = 0) -> dict[str, str]:
        """Start it and return the variables that lead to it."""
        ports = [f"--port={port}", f"--storage-port={storage_port}"]
        self._process = subprocess.Popen([*self._command, *ports], stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        return dict(re.findall(r"(\w+_EMULATOR_HOST)=([^\s;]+)", self._process.stdout.readline()))

    def kill(self) -> None:
        """End it with SIGKILL."""
        if self._process is not None and self._process.stdout is not None:
            self._process.kill()
            self._process.wait()
            self._process.stdout.close()

    def restart(self) -> None:
        """Kill it and start it again where Airflow is pointed to."""
        self.kill()
        addresses = (os.environ[f"{name}_EMULATOR_HOST"] for name in ("VERTEX_AI", "STORAGE"))
        self.start(*(int(address.rpartition(":")[2]) for address in addresses))


@pytest.fixture
def emulator(
    image_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[EmulatorProcess]:
    """A running emulator process that Airflow is pointed to."""
    image = f"europe-west4-docker.pkg.dev/acme/training/small:1={image_folder}"
    process = EmulatorProcess(f"--data-dir={tmp_path / 'cloud'}", f"--image={image}")
    try:
        for name, value in process.start().items():
            monkeypatch.setenv(name, value)
        yield process
    finally:
        process.kill()


@pytest.fixture
def its_cloud(emulator: EmulatorProcess, cloud_at: Callable[[str, Path], Cloud], tmp_path: Path) -> Cloud:
    """The way to that emulator, with the persistent resource ``nightly``."""
    assert emulator is not None
    cloud = cloud_at(os.environ["VERTEX_AI_EMULATOR_HOST"], tmp_path / "cloud")
    cloud.create_resource()
    return cloud


@pytest.mark.durability(
    "Vertex AI goes away for good while the task waits",
    "Fails with ``ServiceUnreachableError`` after ``max_outage``.",
    "Nobody can tell.",
)
def test_an_emulator_that_is_killed(
    emulator: EmulatorProcess,
    its_cloud: Cloud,
    train: Make,
    run_dag: Callable[[], Run],
    meanwhile: Meanwhile,
    *,
    deferrable: bool,
) -> None:
    """A service that goes away for good ends the task after max_outage, with a clear error and no hang."""

    def kill() -> None:
        its_cloud.running_job()
        with EmulatorControl(os.environ["VERTEX_AI_EMULATOR_HOST"]) as control:
            its_cloud.wait_for(lambda: control.call_counts()["GetCustomJob"], "the task watches its job")
        emulator.kill()

    train("sleep", "600", max_outage=1.5, deferrable=deferrable)
    with meanwhile(kill):
        error = run_dag().error()
    assert type(error) is ServiceUnreachableError
    for part in ("Vertex AI gave no answer about projects/", "/customJobs/", "for max_outage", "Next step:"):
        assert part in str(error)


@pytest.mark.durability(
    "Vertex AI loses the job while the task waits",
    "Fails with ``JobInterruptedError``; the retry starts anew and succeeds.",
    "Has failed; another takes its place.",
)
def test_a_service_that_loses_a_job(
    emulator: EmulatorProcess,
    its_cloud: Cloud,
    train: Make,
    run_dag: Callable[[], Run],
    meanwhile: Meanwhile,
    *,
    deferrable: bool,
) -> None:
    """A job that the service could not go on with is replaced at a retry, and never runs beside another."""

    def crash() -> None:
        its_cloud.running_job()
        emulator.restart()

    train(
        "sleep",
        "{{ 60 if ti.try_number == 1 else 0.1 }}",
        retries=1,
        retry_policy=TrainingRetryPolicy(service_delay=timedelta(0)),
        deferrable=deferrable,
    )
    with meanwhile(crash):
        run = run_dag()
    (error,) = run.errors["train"]
    assert type(error) is JobInterruptedError
    lost, done = sorted(its_cloud.all_jobs(), key=lambda job: job.name)
    assert lost.name in str(error)
    assert run.result()["job"] == done.name
    assert (lost.state.name, done.state.name) == ("JOB_STATE_FAILED", "JOB_STATE_SUCCEEDED")


@pytest.mark.durability(
    "Vertex AI loses the job while the task waits",
    "Fails with ``JobInterruptedError``; the retry starts anew and succeeds.",
    "Has failed; another takes its place.",
    tuning=True,
)
def test_a_service_that_loses_a_tuning_job(
    emulator: EmulatorProcess,
    its_cloud: Cloud,
    tune: Make,
    run_dag: Callable[[], Run],
    meanwhile: Meanwhile,
    *,
    deferrable: bool,
) -> None:
    """A tuning job that the service could not go on with is replaced, with all its trials."""

    def crash() -> None:
        its_cloud.wait_for(
            lambda: [job.state.name for job in its_cloud.tuning_jobs()] == ["JOB_STATE_RUNNING"], "it runs"
        )
        emulator.restart()

    tune(
        "--seconds={{ 60 if ti.try_number == 1 else 0 }}",
        max_trial_count=2,
        retries=1,
        retry_policy=TrainingRetryPolicy(service_delay=timedelta(0)),
        deferrable=deferrable,
    )
    with meanwhile(crash):
        run = run_dag()
    (error,) = run.errors["train"]
    assert type(error) is JobInterruptedError
    lost, done = its_cloud.tuning_jobs()
    assert lost.name in str(error)
    assert run.result()["job"] == done.name
    assert run.result()["best_trial"]["custom_job"] in {trial.custom_job for trial in done.trials}
    assert (lost.state.name, done.state.name) == ("JOB_STATE_FAILED", "JOB_STATE_SUCCEEDED")
    assert all("end_time" in job for job in its_cloud.all_jobs())


@pytest.mark.durability(
    "Vertex AI gives no answer for less than ``max_outage`` while the task waits",
    "Goes on, without a retry.",
    "One: it runs on.",
)
def test_an_outage_is_waited_out(
    empty_cloud: Cloud, relay: Relay, train: Make, run_dag: Callable[[], Run], *, deferrable: bool
) -> None:
    """Looks that fail while the service is away do not end the task, which ends as if nothing had been."""
    empty_cloud.create_resource()
    relay.refuse("GetCustomJob", times=4)
    train("sleep", "0.5", max_outage=60, deferrable=deferrable)
    assert run_dag().result()["state"] == "JOB_STATE_SUCCEEDED"
    assert relay.count("GetCustomJob") > 4


@pytest.mark.durability(
    "Somebody deletes the job while the task waits",
    "Fails with ``VertexTrainingError`` at once.",
    "Is gone.",
)
def test_a_job_that_is_gone(
    empty_cloud: Cloud, relay: Relay, train: Make, run_dag: Callable[[], Run], *, deferrable: bool
) -> None:
    """A job that somebody deleted ends the task at once, however long an outage may be."""
    empty_cloud.create_resource()
    relay.refuse("GetCustomJob", code="NOT_FOUND", times=1000)
    train("succeed", deferrable=deferrable)
    error = run_dag().error()
    assert type(error) is VertexTrainingError
    for part in ("Vertex AI refused to answer about projects/", "/customJobs/", "404 away", "Next step:"):
        assert part in str(error)
    assert relay.count("GetCustomJob") == 1


@pytest.mark.durability(
    "The connection's account loses the permission to read the job while the task waits",
    "Fails with ``PermissionDeniedError`` at once, in each attempt.",
    "Runs on, until the last attempt cancels it.",
)
def test_a_permission_that_is_missing(
    empty_cloud: Cloud, relay: Relay, train: Make, run_dag: Callable[[], Run], *, deferrable: bool
) -> None:
    """A watch that is not allowed to look ends at once with the service's reason."""
    empty_cloud.create_resource()
    relay.refuse(
        "GetCustomJob", code="PERMISSION_DENIED", text="Permission denied on customJobs.get", times=1000
    )
    train("succeed", deferrable=deferrable)
    error = run_dag().error()
    assert type(error) is PermissionDeniedError
    assert "Permission denied on customJobs.get" in str(error)
    assert relay.count("GetCustomJob") == 1


@pytest.mark.durability(
    "Vertex AI answers no create for ``max_outage``",
    "Fails with ``ServiceUnreachableError``.",
    "None.",
)
def test_a_create_without_an_answer(
    empty_cloud: Cloud, relay: Relay, train: Make, run_dag: Callable[[], Run], *, deferrable: bool
) -> None:
    """A create that the service does not answer for max_outage ends the task with an error that says so."""
    empty_cloud.create_resource()
    relay.refuse("CreateCustomJob", times=1000)
    train("succeed", max_outage=1, deferrable=deferrable)
    error = run_dag().error()
    assert type(error) is ServiceUnreachableError
    assert "created no job for max_outage" in str(error)
    assert empty_cloud.all_jobs() == []


@pytest.mark.durability(
    "The project's quota forbids the job",
    "Fails with ``QuotaExceededError``.",
    "None.",
)
def test_a_quota_that_is_used_up(
    empty_cloud: Cloud, relay: Relay, train: Make, run_dag: Callable[[], Run], *, deferrable: bool
) -> None:
    """A create that the project's quota forbids has an error of its own kind."""
    empty_cloud.create_resource()
    text = "The following quota metrics exceed quota limits: aiplatform.googleapis.com/custom_model_training_cpus"
    relay.refuse("CreateCustomJob", code="RESOURCE_EXHAUSTED", text=text)
    train("succeed", deferrable=deferrable)
    error = run_dag().error()
    assert type(error).__name__ == "QuotaExceededError"
    assert text in str(error)
