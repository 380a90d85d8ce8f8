# SPDX-License-Identifier: Apache-2.0
"""``vertex-emulator capacity``, ``set-stock`` and ``preempt``: machines and queues from the command line."""

from __future__ import annotations

import re
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from google.cloud.aiplatform_v1.types import JobState

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.contract.conftest import Cloud


@pytest.fixture(scope="module")
def simulator(module_cloud_with: Callable[..., Cloud]) -> Cloud:
    """An emulator whose jobs run until they are cancelled."""
    return module_cloud_with(executor="simulate", simulated_seconds=3600, spot_restarts=10**6)


def ask(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command to its end."""
    command = [sys.executable, "-m", "airflow_vertex_persistent.emulator.cli", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def rows(text: str) -> list[list[str]]:
    """The cells of all tables, without their heads."""
    return [re.split(r" {2,}", line.strip()) for line in text.splitlines() if re.match(r" *\w+-\w+\d ", line)]


def test_the_table_has_stock_and_queues(simulator: Cloud) -> None:
    """And each job that waits, with its nodes, how long it has waited and how long it would."""
    host = f"--host={simulator.emulator.address}"
    assert ask("capacity", host).stdout == "No machines in use, and none waited for.\n"
    stock = "3, then unlimited after 2 h"
    assert ask("set-stock", "europe-west4/a3-highgpu-8g", stock, host).returncode == 0
    simulator.running(simulator.scarce("FLEX_START", 1, 1))
    first = simulator.scarce("FLEX_START", 1, 3)
    second = simulator.scarce("FLEX_START", max_wait_duration="0s")
    simulator.running(simulator.scarce("STANDARD", region="us-central1"))
    here, there, one, two = rows(ask("capacity", host).stdout)
    assert here[:5] == ["europe-west4", "a3-highgpu-8g", "3", "2", "2"]
    assert re.fullmatch(r"unlimited in 1:59:\d\d", here[5])
    assert there == ["us-central1", "a3-highgpu-8g", "unlimited", "1", "0"]
    for row, job, nodes, limit in ((one, first, "4", "1 day, 0:00:00"), (two, second, "1", "for ever")):
        assert [*row[:4], row[5]] == [*here[:2], job.name.rpartition("/")[2], nodes, limit]
        assert re.fullmatch(r"\d+\.\d s", row[4])


def test_a_spot_job_is_preempted(simulator: Cloud) -> None:
    """By its id; another time it is told that there is nothing to take away."""
    host = f"--host={simulator.emulator.address}"
    job = simulator.running(simulator.scarce("SPOT", region="europe-west9"))
    assert ask("set-stock", "europe-west9/*", "1", host).returncode == 0
    assert ask("preempt", job.name.rpartition("/")[2], host).returncode == 0
    assert ask("set-stock", "europe-west9/*", "0", host).returncode == 0
    simulator.in_state(job, JobState.JOB_STATE_PENDING)
    again = ask("preempt", job.name, host)
    assert again.returncode == 1
    assert "is no SPOT job that has machines" in again.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("start", "--stock=a3-highgpu-8g=8"), "is not of the form REGION/MACHINE_TYPE"),
        (("start", "--quota=*/custom_model_training_nvidia_l4_gpus=many"), "'many' is no whole number"),
        (("set-stock", "*/*", "some"), "stock 'some' is none of"),
    ],
)
def test_what_makes_no_sense_is_one_line(simulator: Cloud, arguments: tuple[str, ...], words: str) -> None:
    """On standard error, without traceback."""
    host = [f"--host={simulator.emulator.address}"] if arguments[0] != "start" else []
    seen = ask(*arguments, *host)
    assert seen.returncode in {1, 2}
    assert words in seen.stderr
    assert "Traceback" not in seen.stderr
