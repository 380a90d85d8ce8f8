# SPDX-License-Identifier: Apache-2.0
"""
A task, its process or the triggerer is stopped while jobs race for machines: one goes on, or none.

All runs begin at once; a test waits for its own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from local_emulator import PROJECT

from airflow_vertex_persistent.names import ResourceName, job_console_url, label_value

if TYPE_CHECKING:
    from collections.abc import Iterator

    from stage import Stage, Training

REGIONS = ("europe-west4", "us-central1", "us-east4")

WITHOUT_REPLY = "race_create_without_reply_deferrable"
# The tasks that die among their creates.
DIE = ("race_first_name", "race_last_name", WITHOUT_REPLY)
# Longer than it takes to kill who waits.
SLOW = 300.0

pytestmark = pytest.mark.timeout(600)

blocking = pytest.mark.parametrize("mode", ["blocking"])
deferrable = pytest.mark.parametrize("mode", ["deferrable"])


def races(training: Training) -> list[dict[str, Any]]:
    """Return the jobs of each execution of the task by region, the newest last: there must never be two in one."""
    found: dict[str, dict[str, Any]] = {}
    filter_ = (
        f'labels.airflow_dag="{training.dag_id}" AND labels.airflow_run="{label_value(training.run_id)}"'
    )
    cloud = training.stage.cloud
    for region in REGIONS:
        parent = f"projects/{PROJECT}/locations/{region}"
        for job in cloud._jobs.list_custom_jobs({"parent": parent, "filter": filter_}):
            jobs = found.setdefault(job.labels["airflow_execution"], {})
            assert region not in jobs
            jobs[region] = job
    return sorted(found.values(), key=lambda jobs: max(str(job.create_time) for job in jobs.values()))


def racing(training: Training) -> dict[str, Any]:
    """Return the jobs of the newest execution by region."""
    return [{}, *races(training)][-1]


def states(training: Training) -> list[str]:
    """Return the states of those jobs, region by region."""
    return [job.state.name.removeprefix("JOB_STATE_") for job in racing(training).values()]


def wait_for(training: Training, *expected: str) -> None:
    """Wait until the run's jobs are in these states."""
    training.stage.wait_for(lambda: states(training) == list(expected), f"the jobs are {expected}")


def queueing(training: Training) -> list[str]:
    """Return what an attempt says of its jobs when it watches them in the queue."""
    return [f"Job {job.name.rpartition('/')[2]} is PENDING" for job in racing(training).values()]


def wait_until_all_queue(training: Training, try_number: int = 1) -> None:
    """Wait until an attempt watches all its jobs."""
    wait_for(training, *["PENDING"] * 3)
    for text in queueing(training):
        training.wait_for_log(text, try_number)


def machines_of(training: Training) -> str:
    """Return the stock of the run, in the region that is to win; there is nothing in it at first."""
    machine = racing(training)[REGIONS[0]].job_spec.worker_pool_specs[0].machine_spec.machine_type
    return f"{REGIONS[1]}/{machine}"


@pytest.fixture(scope="module")
def runs(stage: Stage, dags: list[str]) -> dict[str, Training]:
    """Start a run for each test, and kill the one that does not kill itself between its creates."""
    begun = {}
    if WITHOUT_REPLY in dags:
        # The only one that creates anything now, and this is its second job.
        stage.control.add_fault("CreateCustomJob", "slow_reply", skip=1, seconds=SLOW)
        begun[WITHOUT_REPLY] = stage.begin(WITHOUT_REPLY)
        stage.wait_for_fault("slow_reply")
        assert states(begun[WITHOUT_REPLY]) == ["PENDING"] * 2
        begun[WITHOUT_REPLY].kill_process()
    return begun | {dag_id: stage.begin(dag_id) for dag_id in dags if dag_id not in begun}


@pytest.fixture(scope="module")
def all_race_again(stage: Stage, runs: dict[str, Training]) -> Iterator[None]:
    """Wait until every task that died among its creates has all its jobs, and let the machines come."""
    died = [training for dag_id, training in runs.items() if dag_id.startswith(DIE)]
    for training in died:
        wait_until_all_queue(training, 2)
    where = machines_of(died[0])
    stage.control.set_stock(where, len(died))
    yield
    stage.control.set_stock(where, "never")


@pytest.fixture
def machines(stage: Stage, training: Training) -> Iterator[str]:
    """Begin when all jobs queue and are watched, and return the stock that no other run has."""
    wait_until_all_queue(training)
    where = machines_of(training)
    yield where
    stage.control.set_stock(where, "never")


def check_one_winner(training: Training, attempts: int) -> None:
    """Let the training end, and check that one job has gone on, and no other was ever created."""
    wait_for(training, "CANCELLED", "RUNNING", "CANCELLED")
    page = job_console_url(ResourceName.parse(racing(training)[REGIONS[1]].name))
    training.stage.wait_for(
        lambda: training.result("_link_TrainingJobLink") == page, "the button opens the winner"
    )
    training.done.touch()
    training.wait_for_task("success", attempts)
    assert states(training) == ["CANCELLED", "SUCCEEDED", "CANCELLED"]
    assert training.result()["job"] == racing(training)[REGIONS[1]].name
    assert training.result()["candidate"] == 1


def check_found(training: Training, number: int) -> None:
    """Check that the second attempt has found the jobs of so many candidates, created the others, and one wins."""
    check_one_winner(training, 2)
    retry = training.attempt_start(2)
    assert [job.create_time < retry for job in racing(training).values()] == [n < number for n in range(3)]


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
def test_race_loses_its_triggerer(stage: Stage, training: Training, machines: str, triggerer: str) -> None:
    """The triggerer that comes next sees the same race."""
    stage.airflow.kill(triggerer)
    stage.control.set_stock(machines, 1)
    stage.wait_for(lambda: "RUNNING" in states(training), "one has its machines, and nobody sees it")
    stage.start_triggerer()
    check_one_winner(training, 1)


@pytest.mark.durability(
    "SIGKILL of the task's process after the reply to the first create of its racing jobs, before the name is stored",
    "The retry takes that job over, creates the others and succeeds with the one that wins.",
    "One of each candidate; the first to start runs on.",
)
@pytest.mark.usefixtures("all_race_again")
@deferrable
def test_race_first_name_not_kept(training: Training) -> None:
    """A job whose name the killed task could not store is in the race, and has no double."""
    check_found(training, 1)


@pytest.mark.durability(
    "SIGKILL of the task's process between the creates of its racing jobs",
    "The retry takes over what there is, creates the others and succeeds with the one that wins.",
    "One of each candidate; the first to start runs on.",
)
@pytest.mark.usefixtures("all_race_again")
@deferrable
def test_race_first_name_kept(training: Training) -> None:
    """A race that was half begun is begun in full."""
    check_found(training, 1)


@pytest.mark.durability(
    "SIGKILL of the task's process when Vertex AI has created the second of its racing jobs and not replied",
    "The retry takes both over, creates the third and succeeds with the one that wins.",
    "One of each candidate; the first to start runs on.",
)
@pytest.mark.usefixtures("all_race_again")
@deferrable
def test_race_create_without_reply(training: Training) -> None:
    """A job whose name the killed task never heard is in the race, and has no double."""
    check_found(training, 2)


@pytest.mark.durability(
    "SIGKILL of the task's process after the reply to the last create of its racing jobs, before the name is stored",
    "The retry takes all of them over and succeeds with the one that wins.",
    "One of each candidate; the first to start runs on.",
)
@pytest.mark.usefixtures("all_race_again")
@deferrable
def test_race_last_name_not_kept(training: Training) -> None:
    """The last job whose name the killed task could not store has no double either."""
    check_found(training, 3)


@pytest.mark.durability(
    "SIGKILL of the task's process when the names of all its racing jobs are stored, before it waits or defers",
    "The retry takes all of them over and succeeds with the one that wins.",
    "One of each candidate; the first to start runs on.",
)
@pytest.mark.usefixtures("all_race_again")
@deferrable
def test_race_last_name_kept(training: Training) -> None:
    """Jobs that nobody had begun to wait for are taken over."""
    check_found(training, 3)


@pytest.mark.durability(
    "Marked as failed while its jobs race for machines, as it runs or is deferred",
    "Is failed, without a retry.",
    "All are cancelled.",
)
def test_race_marked_as_failed(training: Training) -> None:
    """Marking a task as failed leaves none of its jobs in a queue."""
    wait_until_all_queue(training)
    training.mark_as_failed()
    wait_for(training, *["CANCELLED"] * 3)
    assert training.task()["state"] == "failed"


@pytest.mark.durability(
    "Cleared while its jobs race for machines and it is deferred",
    "Starts anew and succeeds with the job that wins the new race.",
    "All are cancelled; one of each candidate takes their place.",
)
@deferrable
def test_race_cleared(stage: Stage, training: Training, machines: str) -> None:
    """Clearing a task ends its race, and another one begins."""
    training.clear()
    stage.wait_for(lambda: len(races(training)) == 2, "another race has begun")
    assert [job.state.name for job in races(training)[0].values()] == ["JOB_STATE_CANCELLED"] * 3
    wait_until_all_queue(training, 2)
    stage.control.set_stock(machines, 1)
    check_one_winner(training, 2)


@pytest.mark.durability(
    "Longer than ``execution_timeout`` while its jobs race for machines, as it runs or is deferred",
    "Fails with that error.",
    "All are cancelled.",
)
def test_race_timeout(training: Training) -> None:
    """A race that takes longer than the task's execution_timeout ends without a winner."""
    training.wait_for_task("failed")
    wait_for(training, *["CANCELLED"] * 3)
    assert all(text in training.log() for text in queueing(training))
    assert "its task ran longer than execution_timeout" in training.log()
