# SPDX-License-Identifier: Apache-2.0
"""A sensor that begins in the triggerer needs no worker to wait for a job's machines, only to say what went wrong."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from airflow_vertex_persistent.names import ResourceName, job_console_url

if TYPE_CHECKING:
    from stage import Stage

DAG_ID = "waits_for_machines"
STOCK = "europe-west4/g2-standard-16"
FROM_START_TO_END = ["whole_result", "its_job", "template"]

pytestmark = pytest.mark.timeout(600)


class Wait:
    """A run of the DAG whose sensors begin in the triggerer."""

    def __init__(self, stage: Stage) -> None:
        self.api = stage.airflow.api
        self._stage = stage
        self.run_id = self.api.trigger(DAG_ID, {})
        self.job = ""

    def tasks(self) -> dict[str, dict[str, Any]]:
        """Return the task instances as they are now."""
        return self.api.task_instances(DAG_ID, self.run_id)

    def wait_for(self, state: str, *tasks: str) -> None:
        """Wait until tasks are in a state."""

        def reached() -> bool:
            found = self.tasks()
            return all(found[task]["state"] == state for task in tasks)

        self._stage.wait_for(reached, f"{tasks} are {state}")

    def xcom(self, task: str, key: str = "return_value", map_index: int = -1) -> Any:
        """Return what a task has handed over."""
        path = f"/dags/{DAG_ID}/dagRuns/{self.run_id}/taskInstances/{task}/xcomEntries/{key}"
        return self.api.call("GET", path, params={"map_index": map_index}).json()["value"]

    def mapped_states(self, task: str) -> list[str]:
        """Return the states of the instances of a mapped task."""
        path = f"/dags/{DAG_ID}/dagRuns/{self.run_id}/taskInstances/{task}/listMapped"
        return [instance["state"] for instance in self.api.call("GET", path).json()["task_instances"]]

    def log(self, task: str, *, worker: bool, attempt: str = "*") -> str:
        """Return what was written by workers, or by triggerers."""
        folder = self._stage.airflow.home / "logs" / f"dag_id={DAG_ID}" / f"run_id={self.run_id}"
        files = sorted((folder / f"task_id={task}").rglob(f"attempt={attempt}.log*"))
        chosen = [file for file in files if (".trigger." in file.name) is not worker]
        return "".join(file.read_text(encoding="utf-8") for file in chosen)


@pytest.fixture(scope="module")
def waiting(stage: Stage) -> Wait:
    """A run whose sensors have begun to wait: there are no machines yet."""
    wait = Wait(stage)
    wait.wait_for("deferred", *FROM_START_TO_END, "with_outlet", "mapped")
    wait.job = wait.xcom("submit", "job")
    queues = f"Job {ResourceName.parse(wait.job).id} is PENDING"
    for task in (*FROM_START_TO_END, "with_outlet"):
        stage.wait_for(lambda task=task: queues in wait.log(task, worker=False), f"{task} waits")  # type: ignore[misc]
    return wait


@pytest.fixture(scope="module")
def ended(stage: Stage, waiting: Wait) -> Wait:
    """The same run, when the machines have come."""
    for task in FROM_START_TO_END:
        assert waiting.xcom(task, "_link_TrainingJobLink") == job_console_url(ResourceName.parse(waiting.job))
        assert waiting.log(task, worker=True) == ""
    stage.control.set_stock(STOCK, 3)
    waiting.wait_for("success", *FROM_START_TO_END, "with_outlet", "mapped", "tell")
    return waiting


@pytest.mark.parametrize("task", FROM_START_TO_END)
def test_no_worker_has_seen_it(ended: Wait, task: str) -> None:
    """However the job is named, the task begins and ends in the triggerer, with the whole result."""
    assert ended.log(task, worker=True) == ""
    result = ended.xcom(task)
    assert (result["job"], result["state"]) == (ended.job, "JOB_STATE_RUNNING")
    assert result["queued_seconds"] > 0
    assert {key: ended.xcom(task, key) for key in result} == result
    assert ended.tasks()[task]["try_number"] == 1


def test_what_comes_after_it_has_its_values(ended: Wait) -> None:
    """Values of the result reach the next task as usual."""
    result = ended.xcom("whole_result")
    assert ended.xcom("tell") == [result["job"], result["queued_seconds"]]


def test_its_assets_are_noted(ended: Wait) -> None:
    """A task with outlets ends on a worker, and its asset has an event."""
    assert ended.log("with_outlet", worker=True) != ""
    assert ended.xcom("with_outlet")["job"] == ended.job
    (event,) = ended.api.call("GET", "/assets/events", params={"source_dag_id": DAG_ID}).json()[
        "asset_events"
    ]
    assert event["source_task_id"] == "with_outlet"


def test_a_mapped_one(ended: Wait) -> None:
    """A mapped task begins on a worker and waits all the same."""
    assert ended.log("mapped", worker=True) != ""


def test_in_a_mapped_task_group(stage: Stage, ended: Wait) -> None:
    """There each sensor waits for the job of its own instance, without a worker."""
    done = ["success", "success"]
    stage.wait_for(lambda: ended.mapped_states("group.sense") == done, "both instances have their machines")
    assert ended.log("group.sense", worker=True) == ""
    jobs = [ended.xcom("group.submit", "job", index) for index in (0, 1)]
    assert [ended.xcom("group.sense", "job", index) for index in (0, 1)] == jobs
    assert len({ended.job, *jobs}) == 3


@pytest.mark.parametrize(
    ("task", "error"),
    [
        ("in_vain", "MaxWaitExceededError"),
        ("too_long", "The wait for the job's machines took longer than timeout, 2 s"),
        ("broken_template", "ZeroDivisionError"),
        ("wrong_name", "job = 'nope': write a custom job's full name"),
    ],
)
def test_a_worker_tells_what_went_wrong(waiting: Wait, task: str, error: str) -> None:
    """A wait in vain or for too long, a template or a value that is wrong: each ends as it ends elsewhere."""
    waiting.wait_for("failed", task)
    assert error in waiting.log(task, worker=True)
    assert waiting.tasks()[task]["try_number"] == 1


def test_soft_fail(waiting: Wait) -> None:
    """A wait for too long is skipped where that was asked for; the wrong value of the test above is not."""
    waiting.wait_for("skipped", "too_long_softly")


def test_silent_fail(stage: Stage, waiting: Wait) -> None:
    """A wait in vain goes on where that was asked for."""
    task = "in_vain_silently"
    stage.wait_for(lambda: "waiting all the same" in waiting.log(task, worker=True), "it was in vain")
    waiting.wait_for("deferred", task)


def test_a_retry_begins_in_the_triggerer_again(waiting: Wait) -> None:
    """What ``execution_timeout`` ends is tried again, and a worker only hears that it was in vain again."""
    waiting.wait_for("failed", "too_long_twice")
    assert waiting.tasks()["too_long_twice"]["try_number"] == 2
    for attempt in ("1", "2"):
        log = waiting.log("too_long_twice", worker=True, attempt=attempt)
        assert "The wait for the job's machines took longer than execution_timeout, 2 s" in log
        assert "DEFERRED" not in log
