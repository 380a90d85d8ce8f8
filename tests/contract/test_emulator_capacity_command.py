# SPDX-License-Identifier: Apache-2.0
"""``vertex-emulator capacity``, ``set-stock`` and ``preempt``: machines and queues from the command line."""

from __future__ import annotations

import re
import subprocess
import sys
from ast import literal_eval
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from google.cloud.aiplatform_v1.types import JobState

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.contract.conftest import Cloud

GUIDE = (Path(__file__).parents[2] / "docs" / "emulator.rst").read_text(encoding="utf-8")
METRIC = "custom_model_training_preemptible_nvidia_h100_gpus"


@pytest.fixture(scope="module")
def simulator(module_cloud_with: Callable[..., Cloud]) -> Cloud:
    """An emulator whose jobs run until they are cancelled."""
    return module_cloud_with(executor="simulate", simulated_seconds=3600, spot_restarts=10**6)


@pytest.fixture(scope="module")
def spot(module_cloud_with: Callable[..., Cloud]) -> Cloud:
    """One of its own, for a stock that is said of many places."""
    return module_cloud_with(executor="simulate", simulated_seconds=3600, spot_restarts=10**6)


def ask(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command to its end."""
    command = [sys.executable, "-m", "airflow_vertex_persistent.emulator.cli", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def rows(text: str) -> list[list[str]]:
    """The cells of all tables, without their heads."""
    return [re.split(r" {2,}", line.strip()) for line in text.splitlines() if re.match(r" *\w+-\w+\d ", line)]


def test_the_table_has_stock_and_queues(simulator: Cloud) -> None:
    """And each job that waits, with its nodes, how long it has waited and how long it would; as the guide has it."""
    host = f"--host={simulator.emulator.address}"
    assert ask("capacity", host).stdout == "No machines in use, and none waited for.\n"
    stock = "3, then unlimited after 2 h"
    assert ask("set-stock", "europe-west4/a3-highgpu-8g", stock, host).returncode == 0
    simulator.running(simulator.scarce("FLEX_START", 1, 1))
    first = simulator.scarce("FLEX_START", 1, 3)
    second = simulator.scarce("FLEX_START", max_wait_duration="0s")
    simulator.running(simulator.scarce("STANDARD", region="us-central1"))
    shelf = simulator.emulator.control.capacity()[0]
    (shown,) = re.findall(r"^   \[\n.*?^   \]$", GUIDE, re.MULTILINE | re.DOTALL)
    (example,) = literal_eval(shown.strip())
    assert (shelf.keys(), shelf["queue"][0].keys()) == (example.keys(), example["queue"][0].keys())
    here, there, one, two = rows(ask("capacity", host).stdout)
    assert here[:5] == ["europe-west4", "a3-highgpu-8g", "3", "2", "2"]
    assert re.fullmatch(r"unlimited in 1h59m", here[5])
    assert there == ["us-central1", "a3-highgpu-8g", "unlimited", "1", "0"]
    for row, job, nodes, limit in ((one, first, "4", "1d"), (two, second, "1", "for ever")):
        assert [*row[:4], row[5]] == [*here[:2], job.name.rpartition("/")[2], nodes, limit]
        assert re.fullmatch(r"\d+(\.\d)?s", row[4])


def test_a_spot_job_is_preempted(spot: Cloud) -> None:
    """By its id; another time it is told that there is nothing to take away."""
    host = f"--host={spot.emulator.address}"
    job = spot.running(spot.scarce("SPOT", region="europe-west9"))
    assert ask("set-stock", "europe-west9/*", "1", host).returncode == 0
    number = job.name.rpartition("/")[2]
    taken = ask("preempt", number, host)
    assert (taken.returncode, taken.stdout) == (0, f"Job {number} loses 1 x a3-highgpu-8g in europe-west9.\n")
    assert ask("set-stock", "europe-west9/*", "0", host).returncode == 0
    spot.in_state(job, JobState.JOB_STATE_PENDING)
    again = ask("preempt", job.name, host)
    assert again.returncode == 1
    assert "is no SPOT job that has machines" in again.stderr
    nobody = ask("preempt", "123", host)
    assert (nobody.returncode, nobody.stderr) == (1, "vertex-emulator: there is no job '123'\n")


@pytest.fixture(scope="module")
def limited(module_cloud_with: Callable[..., Cloud]) -> Cloud:
    """An emulator with a log that lets each project use one H100 machine a region; anybody may set stock."""
    return module_cloud_with(quota={f"*/{METRIC}": 8, "us-central1/custom_model_training_nvidia_l4_gpus": 4})


def test_a_stock_for_many_places_is_shown(limited: Cloud) -> None:
    """As it was written, before anything of it is used or waited for."""
    host = f"--host={limited.emulator.address}"
    stock = "0, then 8 after 20 s"
    assert ask("set-stock", "us-east1/*", stock, host).stdout == f"us-east1/*: stock {stock}\n"
    assert re.search(rf"^ us-east1/\* +{stock} +[\d.]+s ago *$", ask("capacity", host).stdout, re.MULTILINE)
    rule = next(rule for rule in limited.emulator.control.wildcard_stocks() if rule["where"] == "us-east1/*")
    assert rule["stock"] == stock


@pytest.mark.parametrize(
    ("where", "doubts"),
    [
        ("us-east4/a3-highgpu-8", ["knows no machine type 'a3-highgpu-8'; did you mean a3-highgpu-8g or"]),
        ("x1/y", ["'x1' does not look like a region", "knows no machine type 'y'"]),
        ("us-east4/n1-standard-4", []),
        ("*/g2-standard-8", []),
    ],
)
def test_a_stock_that_looks_mistyped_is_set_and_told(limited: Cloud, where: str, doubts: list[str]) -> None:
    """On standard error; standard output has what is set."""
    seen = ask("set-stock", where, "8", f"--host={limited.emulator.address}")
    assert seen.returncode == 0
    assert seen.stdout.startswith(f"{where}: stock 8")
    lines = seen.stderr.splitlines()
    assert len(lines) == len(doubts)
    for line, words in zip(lines, doubts, strict=True):
        assert words in line


def test_quota_is_shown_with_who_waits_for_it(limited: Cloud) -> None:
    """By metric and region, and the log of a job that waits says what it waits for."""
    host = f"--host={limited.emulator.address}"
    before = [
        ["us-central1", "nvidia_l4_gpus", "4", "0", "0"],
        ["*", "preemptible_nvidia_h100_gpus", "8", "0", "0"],
    ]
    assert quota_rows(ask("capacity", host).stdout) == before
    machine = {
        "machine_type": "a3-highgpu-8g",
        "accelerator_type": "NVIDIA_H100_80GB",
        "accelerator_count": 8,
    }
    job = limited.job(
        limited.pool("import time; time.sleep(600)", machine_spec=machine),
        scheduling={"strategy": "FLEX_START"},
    )
    running = limited.running(limited.create(job))
    waiting = limited.create(job)
    assert waiting.state == JobState.JOB_STATE_QUEUED
    number = waiting.name.rpartition("/")[2]
    *shown, queue = quota_rows(ask("capacity", host).stdout)
    assert shown == [before[0], ["europe-west4", "preemptible_nvidia_h100_gpus", "8", "8", "8"]]
    assert queue[:4] == ["europe-west4", "preemptible_nvidia_h100_gpus", number, "8"]
    said = f"Waiting for quota: 8 of 8 GPUs are in use of aiplatform.googleapis.com/{METRIC}"
    limited.wait_for(lambda: said in limited.log(waiting, "service"), "the line in the log")
    (account,) = (one for one in limited.emulator.control.quota() if one["metric"] == METRIC)
    assert (account["limit"], account["in_use"]) == (8, 8)
    assert [(place["job"], place["gpus"]) for place in account["queue"]] == [(waiting.name, 8)]
    limited.stop(waiting)
    limited.stop(running)


def quota_rows(text: str) -> list[list[str]]:
    """The cells of all rows about GPUs."""
    return [line.split() for line in text.splitlines() if "_gpus" in line]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("start", "--stock=a3-highgpu-8g=8"), "is not of the form REGION/MACHINE_TYPE"),
        (("start", "--quota=*/custom_model_training_nvidia_l4_gpus=many"), "'many' is no whole number"),
        (
            ("start", "--quota=*/custom_model_training_nvidia_l4_gpu=8"),
            "did you mean custom_model_training_nvidia_l4_gpus",
        ),
        (("set-stock", "*/*", "some"), "stock 'some': 'some' is no number of machines to begin with"),
    ],
)
def test_what_makes_no_sense_is_one_line(simulator: Cloud, arguments: tuple[str, ...], words: str) -> None:
    """On standard error, without traceback."""
    host = [f"--host={simulator.emulator.address}"] if arguments[0] != "start" else []
    seen = ask(*arguments, *host)
    assert seen.returncode in {1, 2}
    assert words in seen.stderr
    assert "Traceback" not in seen.stderr
