# SPDX-License-Identifier: Apache-2.0
"""What becomes of a training job when its task is stopped, or a process of Airflow is lost."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import psutil
import pytest
from demo_cloud import Cloud
from local_airflow import LocalAirflow
from local_emulator import PROJECT, start_emulator
from processes import Processes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

pytestmark = pytest.mark.timeout(600)

PARENT = f"projects/{PROJECT}/locations/europe-west4"
IMAGE = "europe-west4-docker.pkg.dev/acme/training/patient:1"
# Seconds for one thing to happen, on a slow machine.
DEADLINE = 90.0
# Long enough to be deferred before it has passed.
EXECUTION_TIMEOUT = 20

_DOCKERFILE = 'ENTRYPOINT ["python", "train.py"]\n'
# The test says when the training is done.
_TRAIN = """\
import sys
import time
from pathlib import Path

while not Path(sys.argv[1]).exists():
    time.sleep(0.1)
"""
# One DAG for each test, and one more.
_DAGS = """\
from datetime import timedelta

from airflow.sdk import DAG

from airflow_vertex_persistent.operators.custom_job import PersistentResourceCustomJobOperator

for dag_id, options in {{
    "marked": {{"deferrable": True}},
    "cleared": {{"deferrable": True}},
    "bystander": {{"deferrable": True}},
    "lost_worker": {{"deferrable": False, "retries": 1, "retry_delay": timedelta(0)}},
    "lost_triggerer": {{"deferrable": True}},
    "timed_out": {{"deferrable": True, "execution_timeout": timedelta(seconds={timeout})}},
}}.items():
    with DAG(dag_id, schedule=None, is_paused_upon_creation=False):
        PersistentResourceCustomJobOperator(
            task_id="train",
            region="europe-west4",
            persistent_resource_id="nightly",
            container_uri="{image}",
            args=["{{{{ params.done }}}}"],
            params={{"done": "{done}/" + dag_id}},
            machine_type="n1-standard-4",
            poll_interval=0.5,
            **options,
        )
"""
_CONFIGURATION = {
    # A lost triggerer is noticed, and a timeout looked for, within seconds.
    "TRIGGERER__JOB_HEARTBEAT_SEC": "1",
    "TRIGGERER__TRIGGERER_HEALTH_CHECK_THRESHOLD": "8",
    "SCHEDULER__TRIGGER_TIMEOUT_CHECK_INTERVAL": "1",
}


@dataclass
class Training:
    """
    One run of a DAG with the task ``train``.

    :param done: The file that ends the training, once it is there.
    """

    airflow: LocalAirflow
    cloud: Cloud
    dag_id: str
    run_id: str
    done: Path

    def wait_for(self, condition: Callable[[], bool], what: str) -> None:
        """Wait until something is true."""
        self.airflow.processes.wait_for(condition, what, DEADLINE)

    def task(self) -> dict[str, Any]:
        """Return the task instance as it is now."""
        return self.airflow.api.task_instances(self.dag_id, self.run_id)["train"]

    def jobs(self) -> list[Any]:
        """Return the jobs of the DAG, the oldest first."""
        filter_ = f'labels.airflow_dag="{self.dag_id}"'
        request = {"parent": PARENT, "filter": filter_}
        return sorted(self.cloud._jobs.list_custom_jobs(request), key=lambda job: str(job.create_time))

    def states(self) -> list[str]:
        """Return the states of the jobs, the oldest first."""
        return [job.state.name.removeprefix("JOB_STATE_") for job in self.jobs()]

    def wait_for_job(self, *states: str) -> None:
        """Wait until the jobs are in these states."""
        self.wait_for(lambda: self.states() == list(states), f"the jobs of {self.dag_id} are {states}")

    def wait_for_task(self, state: str, try_number: int = 1) -> None:
        """Wait until the task is in a state."""
        wanted = (state, try_number)

        def reached() -> bool:
            task = self.task()
            return (task["state"], task["try_number"]) == wanted

        self.wait_for(reached, f"try {try_number} of {self.dag_id} is {state}")

    def wait_for_trigger(self) -> None:
        """Wait until the triggerer watches the job: before that, it has nothing to stop."""
        self.wait_for_task("deferred")
        watched = f"Job {self.jobs()[0].name.rpartition('/')[2]} is RUNNING"
        log = self.airflow.api.log
        self.wait_for(
            lambda: watched in log(self.dag_id, self.run_id, "train", 1), f"the log says {watched!r}"
        )

    def act(self, method: str, path: str, **body: Any) -> None:
        """Do what a button of Airflow's pages does."""
        self.airflow.api._call(method, f"/dags/{self.dag_id}/{path}", json=body)


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Training]]:
    """Start a run of a DAG whose training does not end by itself, and wait until its job runs."""
    scratch = tmp_path_factory.mktemp("stops")
    for folder, name, text in (
        ("image", "Dockerfile", _DOCKERFILE),
        ("image", "train.py", _TRAIN),
        ("dags", "stops.py", _DAGS.format(timeout=EXECUTION_TIMEOUT, image=IMAGE, done=scratch / "done")),
        ("done", "README", "A file for each training that may end."),
    ):
        (scratch / folder).mkdir(exist_ok=True)
        (scratch / folder / name).write_text(text, encoding="utf-8")
    with Processes(scratch / "processes") as processes:
        environment = start_emulator(
            processes, scratch / "cloud", images={IMAGE: scratch / "image"}, buckets=[], settings={}
        )
        environment |= {f"AIRFLOW__{name}": value for name, value in _CONFIGURATION.items()}
        cloud = Cloud(environment["VERTEX_AI_EMULATOR_HOST"], PROJECT, scratch / "cloud")
        pool: Any = {
            "machine_spec": {"machine_type": "n1-standard-4"},
            "replica_count": 6,
            "disk_spec": {"boot_disk_type": "pd-ssd", "boot_disk_size_gb": 100},
        }
        resource: Any = {"resource_pools": [pool]}
        cloud._resources.create_persistent_resource(
            parent=PARENT, persistent_resource=resource, persistent_resource_id="nightly"
        )
        with LocalAirflow(scratch / "airflow", scratch / "dags", environment=environment, port=0) as airflow:
            airflow.processes.wait_for(lambda: len(airflow.api.dags()) == 6, "the DAGs are read", DEADLINE)
            airflow.processes.wait_for(
                lambda: cloud.resource_state("europe-west4", "nightly") == "RUNNING", "nightly runs", DEADLINE
            )

            def run(dag_id: str) -> Training:
                run_id = airflow.api.trigger(dag_id, {})
                training = Training(airflow, cloud, dag_id, run_id, scratch / "done" / dag_id)
                training.wait_for_job("RUNNING")
                return training

            yield run
        cloud.close()


def kill_worker(training: Training) -> None:
    """Kill the process that runs the task, which carries the task instance's id in its title."""
    title = f"airflow worker -- {training.task()['id']}"
    processes = map(psutil.Process, training.airflow.processes.ids())
    (worker,) = [process for process in processes if title in " ".join(process.cmdline())]
    worker.kill()


def test_marked_as_failed_while_deferred(start: Callable[[str], Training]) -> None:
    """Marking a deferred task as failed cancels its job."""
    training = start("marked")
    training.wait_for_trigger()
    training.act("PATCH", f"dagRuns/{training.run_id}/taskInstances/train", new_state="failed")
    training.wait_for_job("CANCELLED")
    assert training.task()["state"] == "failed"


def test_cleared_while_deferred(start: Callable[[str], Training]) -> None:
    """Clearing a deferred task cancels its job, and the task goes on with a new one."""
    training = start("cleared")
    training.wait_for_trigger()
    # SQLite gives the id of the last trigger, once it is deleted, to the next: let it be another one's.
    start("bystander").wait_for_trigger()
    training.act(
        "POST",
        "clearTaskInstances",
        dry_run=False,
        only_failed=False,
        dag_run_id=training.run_id,
        task_ids=["train"],
    )
    training.wait_for_job("CANCELLED", "RUNNING")
    training.done.touch()
    training.wait_for_task("success", try_number=2)
    old, new = training.jobs()
    assert training.states() == ["CANCELLED", "SUCCEEDED"]
    assert old.labels["airflow_execution"] != new.labels["airflow_execution"]
    result = training.airflow.api.xcom(training.dag_id, training.run_id, "train")
    assert result["job"] == new.name


def test_a_lost_worker(start: Callable[[str], Training]) -> None:
    """The retry of a task whose process was killed takes the running job over."""
    training = start("lost_worker")
    (job,) = training.jobs()
    # Its name is stored a moment after it was created; the retry must find it either way.
    training.wait_for_task("running")
    kill_worker(training)
    training.wait_for_task("running", try_number=2)
    training.done.touch()
    training.wait_for_task("success", try_number=2)
    assert training.states() == ["SUCCEEDED"]
    result = training.airflow.api.xcom(training.dag_id, training.run_id, "train")
    assert result["job"] == job.name


def test_a_lost_triggerer(start: Callable[[str], Training]) -> None:
    """A triggerer that is killed and started again goes on with the job that its task waited for."""
    training = start("lost_triggerer")
    training.wait_for_trigger()
    (job,) = training.jobs()
    training.airflow.kill("triggerer")
    training.airflow.start("triggerer")
    training.done.touch()
    training.wait_for_task("success")
    assert training.states() == ["SUCCEEDED"]
    result = training.airflow.api.xcom(training.dag_id, training.run_id, "train")
    assert result["job"] == job.name


def test_an_execution_timeout_while_deferred(start: Callable[[str], Training]) -> None:
    """A task that ran longer than its execution_timeout while it was deferred fails, and its job is cancelled."""
    training = start("timed_out")
    training.wait_for_trigger()
    training.wait_for_task("failed")
    training.wait_for_job("CANCELLED")
    assert "execution_timeout" in training.airflow.api.log(training.dag_id, training.run_id, "train", 1)
