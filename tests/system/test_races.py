# SPDX-License-Identifier: Apache-2.0
"""A task's process, or the triggerer, is killed while jobs race for machines: one goes on, whoever looks next."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from local_emulator import PROJECT

from airflow_vertex_persistent.names import label_value

if TYPE_CHECKING:
    from collections.abc import Iterator

    from stage import Stage, Training

REGIONS = ("europe-west4", "us-central1", "us-east4")

pytestmark = pytest.mark.timeout(600)

blocking = pytest.mark.parametrize("mode", ["blocking"])
deferrable = pytest.mark.parametrize("mode", ["deferrable"])


def racing(training: Training) -> dict[str, Any]:
    """Return the run's jobs by region: there must never be two in one."""
    found = {}
    filter_ = (
        f'labels.airflow_dag="{training.dag_id}" AND labels.airflow_run="{label_value(training.run_id)}"'
    )
    cloud = training.stage.cloud
    for region in REGIONS:
        parent = f"projects/{PROJECT}/locations/{region}"
        for job in cloud._jobs.list_custom_jobs({"parent": parent, "filter": filter_}):
            assert region not in found
            found[region] = job
    return found


def states(training: Training) -> list[str]:
    """Return the states of the run's jobs, region by region."""
    return [job.state.name.removeprefix("JOB_STATE_") for job in racing(training).values()]


def wait_for(training: Training, *expected: str) -> None:
    """Wait until the run's jobs are in these states."""
    training.stage.wait_for(lambda: states(training) == list(expected), f"the jobs are {expected}")


def wait_until_all_queue(training: Training, try_number: int = 1) -> None:
    """Wait until an attempt watches all its jobs."""
    wait_for(training, *["PENDING"] * 3)
    for job in racing(training).values():
        training.wait_for_log(f"Job {job.name.rpartition('/')[2]} is PENDING", try_number)


@pytest.fixture
def machines(stage: Stage, training: Training) -> Iterator[str]:
    """Return the stock that is the run's own, in the region that will win; there is nothing in it yet."""
    where = (
        f"{REGIONS[1]}/{racing(training)[REGIONS[0]].job_spec.worker_pool_specs[0].machine_spec.machine_type}"
    )
    yield where
    stage.control.set_stock(where, "never")


@pytest.fixture(autouse=True)
def queued(training: Training) -> None:
    """Begin when all jobs queue and are watched."""
    wait_until_all_queue(training)


def check_one_winner(training: Training, attempts: int) -> None:
    """Let the training end, and check that one job has gone on, and no other was ever created."""
    wait_for(training, "CANCELLED", "RUNNING", "CANCELLED")
    training.done.touch()
    training.wait_for_task("success", attempts)
    assert states(training) == ["CANCELLED", "SUCCEEDED", "CANCELLED"]
    assert training.result()["job"] == racing(training)[REGIONS[1]].name
    assert training.result()["candidate"] == 1


@pytest.mark.durability(
    "SIGKILL of the task's process while its jobs race for machines",
    "The retry takes all of them over and succeeds with the one that wins.",
    "One of each candidate; the first to start runs on.",
)
@blocking
def test_race_loses_its_process(stage: Stage, training: Training, machines: str) -> None:
    """The next attempt has the same jobs in the race, and no others."""
    training.kill_process()
    wait_until_all_queue(training, 2)
    stage.control.set_stock(machines, 1)
    check_one_winner(training, 2)


@pytest.mark.durability(
    "SIGKILL of the task's process just when the first of its racing jobs starts",
    "The retry takes the winner over and succeeds.",
    "One of each candidate; the first to start runs on.",
)
@blocking
def test_race_loses_its_process_at_the_start(stage: Stage, training: Training, machines: str) -> None:
    """Whether the others were cancelled before or are now, the same one wins."""
    stage.control.set_stock(machines, 1)
    stage.wait_for(lambda: "RUNNING" in states(training), "one has its machines")
    training.kill_process()
    check_one_winner(training, 2)


@pytest.mark.durability(
    "SIGKILL of the triggerer while the task's jobs race for machines, and a start of it later",
    "Goes on when the triggerer is back, without a retry.",
    "One of each candidate; the first to start runs on.",
)
@deferrable
def test_race_loses_its_triggerer(stage: Stage, training: Training, machines: str) -> None:
    """The triggerer that comes next sees the same race."""
    (triggerer,) = stage.triggerers()
    stage.airflow.kill(triggerer)
    stage.control.set_stock(machines, 1)
    stage.wait_for(lambda: "RUNNING" in states(training), "one has its machines, and nobody sees it")
    stage.start_triggerer()
    check_one_winner(training, 1)
    stage.restore_triggerer()
