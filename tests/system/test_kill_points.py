# SPDX-License-Identifier: Apache-2.0
"""
A task's process is killed at every step of its first attempt: the next one ends with the one job that there is.

All runs begin at once; a test waits for the end of its own and looks at what became of it.
"""

from __future__ import annotations

import pytest
from modes import TUNING, WAYS, modes
from stage import Stage, Training

from airflow_vertex_persistent.links import TrainingJobLink

pytestmark = pytest.mark.timeout(600)

# Longer than it takes to kill who waits.
SLOW = 300.0
# What happens to tasks that wait for their job, those first that Airflow is slow to miss.
LOSSES = {
    f"{name}_{mode}": happen
    for name, happen in (
        ("worker_told_to_stop", Training.evict_worker),
        ("worker_lost", Training.lose_worker),
        ("process_killed", Training.kill_process),
    )
    for mode in ("blocking", f"{TUNING}_blocking")
}
# What is killed when the training has ended.
AT_THE_END = ("event_not_handled", "result_not_reported")


def begin_slow(stage: Stage, dags: list[str], kind: str) -> dict[str, Training]:
    """Start runs, and wait until the emulator is slow with the create of each."""
    if not dags:
        return {}
    tuning = [dag for dag in dags if f"_{TUNING}_" in dag]
    for method, times in (
        ("CreateCustomJob", len(dags) - len(tuning)),
        ("CreateHyperparameterTuningJob", len(tuning)),
    ):
        if times:
            stage.control.add_fault(method, kind, times=times, seconds=SLOW)
    begun = {dag_id: stage.begin(dag_id) for dag_id in dags}
    stage.wait_for_fault(kind)
    return begun


def last_attempt(dag_id: str) -> int:
    """Return the attempt of a run's task that watches its training until that ends."""
    return 1 if dag_id.startswith(AT_THE_END) else 2


def let_all_end(stage: Stage, begun: dict[str, Training]) -> None:
    """Let trainings end as they come to be watched: some attempts have a worker only when others have ended."""
    left = dict(begun)

    def watched() -> list[str]:
        return [dag_id for dag_id, run in left.items() if " is RUNNING" in run.log(last_attempt(dag_id))]

    while left:
        stage.wait_for(lambda: bool(watched()), f"one of {', '.join(left)} is watched")
        for dag_id in watched():
            left.pop(dag_id).let_end(last_attempt(dag_id))


@pytest.fixture(scope="module")
def runs(stage: Stage, dags: list[str]) -> dict[str, Training]:
    """Start a run for each test, kill what does not kill itself, and let trainings end that are waited for again."""
    not_there = begin_slow(stage, [dag for dag in dags if "create_not_there_yet" in dag], "slow_request")
    no_reply = begin_slow(stage, [dag for dag in dags if "create_without_reply" in dag], "slow_reply")
    # None before all: the next attempt's create has to find no fault left.
    for training in not_there.values():
        assert training.jobs() == []
    for training in no_reply.values():
        training.wait_for_jobs("RUNNING")
    begun = not_there | no_reply
    for training in begun.values():
        training.kill_process()
    # Those first whose attempts have to be on a worker before anything can happen to them.
    begun |= {dag_id: stage.begin(dag_id) for dag_id in LOSSES if dag_id in dags}
    begun |= {dag_id: stage.begin(dag_id) for dag_id in dags if dag_id not in begun}
    for dag_id, happen in LOSSES.items():
        if dag_id in begun:
            begun[dag_id].wait_until_watched()
            happen(begun[dag_id])
    let_all_end(stage, begun)
    return begun


@pytest.mark.durability(
    "SIGKILL of the task's process when its key is stored and the create has not reached Vertex AI",
    "The retry finds no job with the key and succeeds.",
    "One, created by the retry.",
    tuning=True,
)
@modes(*WAYS, tuning="deferrable")
def test_create_not_there_yet(training: Training) -> None:
    """A create that was still on its way when the task was killed never happens, and the retry creates the job."""
    job = training.check_one_job(attempts=2)
    assert job.create_time > training.attempt_start(2)


@pytest.mark.durability(
    "SIGKILL of the task's process when Vertex AI has created the job and not replied",
    "The retry takes the job over and succeeds.",
    "One: it runs on.",
    tuning=True,
)
@modes(*WAYS, tuning="blocking")
def test_create_without_reply(training: Training) -> None:
    """A job whose name the killed task never heard is found by its key."""
    check_taken_over(training)


@pytest.mark.durability(
    "SIGKILL of the task's process after the reply to the create, before the job's name is stored",
    "The retry takes the job over and succeeds.",
    "One: it runs on.",
    tuning=True,
)
@modes(*WAYS, tuning="deferrable")
def test_name_not_kept(training: Training) -> None:
    """A job whose name the killed task could not store is found by its key."""
    check_taken_over(training)


@pytest.mark.durability(
    "SIGKILL of the task's process when the job's name is stored, before the console link",
    "The retry takes the job over and succeeds.",
    "One: it runs on.",
    tuning=True,
)
@modes(*WAYS, tuning="deferrable")
def test_name_kept(training: Training) -> None:
    """A task that was killed before it had a link has one after its retry."""
    check_taken_over(training)


@pytest.mark.durability(
    "SIGKILL of the task's process when the console link is stored, before it waits or defers",
    "The retry takes the job over and succeeds.",
    "One: it runs on.",
    tuning=True,
)
@modes(*WAYS, tuning="deferrable")
def test_not_waiting_yet(training: Training) -> None:
    """A job that nobody had begun to wait for is taken over."""
    check_taken_over(training)


@pytest.mark.durability(
    "SIGKILL of the task's process while it waits on its worker",
    "The retry takes the job over and succeeds.",
    "One: it runs on.",
    tuning=True,
)
@modes("blocking", tuning="blocking")
def test_process_killed(training: Training) -> None:
    """A task that was killed while it waited goes on waiting for the same job."""
    check_taken_over(training)


@pytest.mark.durability(
    "SIGKILL of the whole worker while the task waits on it",
    "The retry, once Airflow misses the heartbeats, takes the job over and succeeds.",
    "One: it runs on.",
    tuning=True,
)
@modes("blocking", tuning="blocking")
def test_worker_lost(training: Training) -> None:
    """A task whose machine is gone goes on waiting for the same job, on another one."""
    check_taken_over(training)


@pytest.mark.durability(
    "SIGTERM to the worker while the task waits on it, and SIGKILL later, as when a pod is evicted",
    "The retry, once Airflow misses the heartbeats, takes the job over and succeeds.",
    "One: it runs on.",
    tuning=True,
)
@modes("blocking", tuning="blocking")
def test_worker_told_to_stop(training: Training) -> None:
    """A worker that is told to stop leaves the job to the retry."""
    check_taken_over(training)
    assert "The job goes on" in training.log(1)
    assert "Cancelling" not in training.log(1)


@pytest.mark.durability(
    "SIGKILL of the task's process when the triggerer has told of the end, before the task goes on",
    "The retry returns the result of the job that has succeeded.",
    "One: it is not run again.",
    tuning=True,
)
@modes("deferrable", tuning="deferrable")
def test_event_not_handled(training: Training) -> None:
    """What the triggerer saw is not lost with the process that should have made a result of it."""
    check_taken_over(training)


@pytest.mark.durability(
    "SIGKILL of the task's process when it has its result, before Airflow has it",
    "The retry returns the result of the job that has succeeded.",
    "One: it is not run again.",
    tuning=True,
)
@modes(*WAYS, tuning="deferrable")
def test_result_not_reported(training: Training) -> None:
    """A result that never reached Airflow is read again from the job."""
    check_taken_over(training)


def check_taken_over(training: Training) -> None:
    """Check that the second attempt found the first one's job, and the task ended with its result and link."""
    job = training.check_one_job(attempts=2)
    assert job.create_time < training.attempt_start(2)
    assert f"Job of this task: {job.name}" in training.log(2)
    api, key = training.stage.airflow.api, TrainingJobLink().xcom_key
    assert job.name.rpartition("/")[2] in api.xcom(training.dag_id, training.run_id, "train", key)
