# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import os
import re
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from airflow_vertex_persistent.exceptions import ServiceUnreachableError, VertexTrainingError

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


@pytest.fixture
def emulator_process(
    image_folder: Path,
    cloud_at: Callable[[str, Path], Cloud],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[tuple[Cloud, subprocess.Popen[str]]]:
    """An emulator as a process of its own, with the persistent resource ``nightly``."""
    command = [sys.executable, "-m", "airflow_vertex_persistent.emulator.cli", "start"]
    command += ["--port=0", "--storage-port=0", f"--data-dir={tmp_path / 'cloud'}"]
    command += [f"--image=europe-west4-docker.pkg.dev/acme/training/small:1={image_folder}"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        for name, value in re.findall(r"(\w+_EMULATOR_HOST)=([^\s;]+)", process.stdout.readline()):
            monkeypatch.setenv(name, value)
        cloud = cloud_at(os.environ["VERTEX_AI_EMULATOR_HOST"], tmp_path / "cloud")
        cloud.create_resource()
        yield cloud, process
    finally:
        process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


def test_an_emulator_that_is_killed(
    emulator_process: tuple[Cloud, subprocess.Popen[str]],
    train: Make,
    run_dag: Callable[[], Run],
    meanwhile: Meanwhile,
    *,
    deferrable: bool,
) -> None:
    """A service that goes away for good ends the task after max_outage, with a clear error and no hang."""
    cloud, process = emulator_process

    def kill() -> None:
        cloud.running_job()
        process.kill()

    train("sleep", "30", max_outage=1.5, deferrable=deferrable)
    with meanwhile(kill):
        error = run_dag().error()
    assert type(error) is ServiceUnreachableError
    for part in ("Vertex AI gave no answer about projects/", "/customJobs/", "for max_outage", "Next step:"):
        assert part in str(error)


def test_an_outage_is_waited_out(
    empty_cloud: Cloud, relay: Relay, train: Make, run_dag: Callable[[], Run], *, deferrable: bool
) -> None:
    """Looks that fail while the service is away do not end the task, which ends as if nothing had been."""
    empty_cloud.create_resource()
    relay.refuse("GetCustomJob", times=4)
    train("sleep", "0.5", max_outage=60, deferrable=deferrable)
    assert run_dag().result()["state"] == "JOB_STATE_SUCCEEDED"
    assert relay.count("GetCustomJob") > 4


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
    assert "Permission denied on customJobs.get" in str(error)
    assert relay.count("GetCustomJob") == 1


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
