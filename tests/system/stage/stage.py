# SPDX-License-Identifier: Apache-2.0
"""An Airflow of real processes whose tasks and processes are stopped, and the emulator that they train on."""

from __future__ import annotations

import contextlib
import json
import secrets
import signal
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

import psutil
from local_emulator import PROJECT
from modes import TUNING
from processes import is_alive

from airflow_vertex_persistent.names import label_value

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from demo_cloud import Cloud
    from local_airflow import LocalAirflow

    from airflow_vertex_persistent.emulator import EmulatorControl

REGION = "europe-west4"
PARENT = f"projects/{PROJECT}/locations/{REGION}"
# Seconds for one thing to happen, on a slow machine.
DEADLINE = 120.0


@dataclass
class Stage:
    """
    The running processes.

    :param airflow: Its DAGs are those beside this module.
    :param cloud: The emulator, with the persistent resource ``nightly``.
    :param control: Orders faults of the emulator.
    :param done: Folder in which a training looks for the file that lets it end.
    """

    airflow: LocalAirflow
    cloud: Cloud
    control: EmulatorControl
    done: Path

    def begin(self, dag_id: str) -> Training:
        """Start a run of a DAG."""
        run_id = self.airflow.api.trigger(dag_id, {})
        return Training(self, dag_id, run_id, self.done / f"{dag_id}-{run_id}")

    def clear(self) -> None:
        """Undo what failed tests have left: faults, no triggerer, and runs that keep the workers from all others."""
        self.control.clear_faults()
        self.restore_triggerer()
        for run in self.unended_runs():
            path = f"/dags/{run['dag_id']}/dagRuns/{run['dag_run_id']}"
            self.airflow.api.call("PATCH", path, json={"state": "failed"})
        # A run has its teardown tasks to do, and a task hears of its end with its next heartbeat.
        self.wait_for(lambda: not self.unended_runs() and not self.task_processes(), "all runs have ended")

    def unended_runs(self) -> list[dict[str, Any]]:
        """Return the runs of all DAGs that have not ended."""
        query = {"state": ["queued", "running"], "limit": 100}
        return list(self.airflow.api.call("GET", "/dags/~/dagRuns", params=query).json()["dag_runs"])

    def task_processes(self, task_instance_id: str = "") -> list[psutil.Process]:
        """
        Return the processes that run tasks.

        :param task_instance_id: Only that of this task, in whose title the id stands. Default: of all.
        """
        found = []
        for number in self.airflow.processes.ids():
            with contextlib.suppress(psutil.NoSuchProcess):
                process = psutil.Process(number)
                title = " ".join(process.cmdline())
                # The executor's own processes are called "airflow worker -- LocalExecutor: ...".
                if f"airflow worker -- {task_instance_id}" in title and "LocalExecutor" not in title:
                    found.append(process)
        return found

    def wait_for(self, condition: Callable[[], bool], what: str) -> None:
        """Wait until something is true."""
        self.airflow.processes.wait_for(condition, what, DEADLINE)

    def wait_for_fault(self, kind: str) -> None:
        """Wait until faults of a kind have hit all calls that they are for."""

        def used_up() -> bool:
            faults = [fault for fault in self.control.faults() if fault["kind"] == kind]
            return bool(faults) and all(fault["used"] == fault["times"] for fault in faults)

        self.wait_for(used_up, f"{kind} has hit all its calls")

    def triggerers(self) -> list[str]:
        """Return the names of the triggerers that run."""
        return [name for name in self.airflow.processes.names() if name.startswith("triggerer")]

    def start_triggerer(self) -> str:
        """Start a triggerer under a name that no other had, and return that."""
        name = f"triggerer-{secrets.token_hex(4)}"
        self.airflow.start("triggerer", name)
        return name

    def wait_for_triggerer(self, name: str) -> None:
        """Wait until Airflow knows that a triggerer is alive."""
        query = {"job_type": "TriggererJob", "job_state": "running", "is_alive": True, "hostname": name}

        def alive() -> bool:
            return bool(self.airflow.api.call("GET", "/jobs", params=query).json()["jobs"])

        self.wait_for(alive, f"{name} is alive")

    def restore_triggerer(self) -> None:
        """See to it that there is one triggerer."""
        for name in self.triggerers():
            if not self.airflow.processes.ids(name):
                self.airflow.kill(name)  # it has ended by itself, which nobody may have noted
        first, *others = self.triggerers() or [self.start_triggerer()]
        for name in others:
            self.airflow.kill(name)
        self.airflow.processes.signal(first, signal.SIGCONT)
        self.wait_for_triggerer(first)

    def sweep(self) -> list[str]:
        """Run the DAG that cancels orphaned jobs, and return what it cancelled."""
        api = self.airflow.api
        run_id = api.trigger("sweep", {})
        self.wait_for(lambda: api.dag_run("sweep", run_id)["state"] == "success", "the sweep is done")
        return list(api.xcom("sweep", run_id, "sweep")["cancelled"])


def state(job: Any) -> str:
    """Return the state of a job in one word."""
    return str(job.state.name).removeprefix("JOB_STATE_")


@dataclass
class Training:
    """
    One run of a DAG with the task ``train``.

    :param done: The file that ends the training, once it is there.
    """

    stage: Stage
    dag_id: str
    run_id: str
    done: Path

    def task(self) -> dict[str, Any]:
        """Return the task instance as it is now."""
        return self.stage.airflow.api.task_instances(self.dag_id, self.run_id)["train"]

    def log(self, try_number: int = 1) -> str:
        """Return the log of an attempt, its triggers' included, as the processes write it."""
        folder = self.stage.airflow.home / "logs" / f"dag_id={self.dag_id}" / f"run_id={self.run_id}"
        files = sorted((folder / "task_id=train").glob(f"attempt={try_number}.log*"))
        return "".join(file.read_text(encoding="utf-8") for file in files)

    def result(self, key: str = "return_value") -> Any:
        """Return what the task has handed over."""
        return self.stage.airflow.api.xcom(self.dag_id, self.run_id, "train", key)

    @property
    def tunes(self) -> bool:
        """Whether its jobs are tuning jobs, of two trials each."""
        return f"_{TUNING}_" in self.dag_id

    def jobs(self) -> list[Any]:
        """Return the run's jobs, the oldest first: tuning jobs without their trials."""
        filter_ = f'labels.airflow_dag="{self.dag_id}" AND labels.airflow_run="{label_value(self.run_id)}"'
        jobs = self.stage.cloud._jobs
        list_ = jobs.list_hyperparameter_tuning_jobs if self.tunes else jobs.list_custom_jobs
        return sorted(list_({"parent": PARENT, "filter": filter_}), key=lambda job: str(job.create_time))

    def trial_states(self) -> list[str]:
        """Return the states of the custom jobs that are trials of the run, whichever tuning job is theirs."""
        name = f"{self.dag_id}-train-{self.run_id}_trial_"
        jobs = self.stage.cloud._jobs.list_custom_jobs({"parent": PARENT})
        return [state(job) for job in jobs if job.display_name.startswith(name)]

    def states(self) -> list[str]:
        """Return the states of the jobs, the oldest first."""
        return [state(job) for job in self.jobs()]

    def wait_for_jobs(self, *states: str) -> None:
        """Wait until the jobs are in these states."""
        self.stage.wait_for(lambda: self.states() == list(states), f"the jobs of {self.dag_id} are {states}")

    def wait_for_task(self, state: str, try_number: int = 1) -> None:
        """Wait until the task is in a state."""

        def reached() -> bool:
            task = self.task()
            return (task["state"], task["try_number"]) == (state, try_number)

        self.stage.wait_for(reached, f"attempt {try_number} of {self.dag_id} is {state}")

    def wait_for_log(self, text: str, try_number: int = 1) -> None:
        """Wait until the log of an attempt says something."""
        what = f"attempt {try_number} of {self.dag_id} says {text!r}"
        self.stage.wait_for(lambda: text in self.log(try_number), what)

    def wait_until_watched(self, try_number: int = 1) -> None:
        """Wait until an attempt watches the job that runs: before that, nobody can stop it."""
        self.stage.wait_for(lambda: self.states()[-1:] == ["RUNNING"], f"a job of {self.dag_id} runs")
        job = self.jobs()[-1]
        self.wait_for_log(f" {job.name.rpartition('/')[2]} is RUNNING", try_number)

    def let_end(self, try_number: int = 1) -> None:
        """
        Let the training end, when an attempt watches it.

        A scheduler fails a task that goes on before it has noted that the task was deferred
        (apache/airflow#72716), so that has to be waited for.
        """
        self.wait_until_watched(try_number)
        if self.task()["state"] == "deferred":
            key = f"dag_id='{self.dag_id}', task_id='train', run_id='{self.run_id}', try_number={try_number}"
            noted = f"Received executor event with state success for task instance TaskInstanceKey({key}"
            log = self.stage.airflow.processes.log_path("scheduler")
            self.stage.wait_for(lambda: noted in log.read_text(), f"the deferral of {self.dag_id} is noted")
        self.done.touch()

    def triggerer(self) -> str | None:
        """Return the name of the triggerer that the task's trigger is given to."""
        job = self.task()["triggerer_job"]
        return None if job is None else str(job["hostname"])

    def attempt_start(self, try_number: int) -> datetime:
        """Return when an attempt began to write its log."""
        return datetime.fromisoformat(json.loads(self.log(try_number).partition("\n")[0])["timestamp"])

    def check_one_job(self, *, attempts: int = 1) -> Any:
        """Check that this attempt has succeeded, with the one job that was ever created for the run; return that."""
        self.wait_for_task("success", attempts)
        (job,) = self.jobs()
        assert self.states() == ["SUCCEEDED"]
        assert self.result()["job"] == job.name
        assert self.trial_states() == ["SUCCEEDED"] * (2 if self.tunes else 0)
        self.check_best_trial(job.name)
        return job

    def check_best_trial(self, job: str) -> None:
        """Check that the task has handed over the better trial of its job, if that is a tuning job."""
        if not self.tunes:
            return
        trials = self.stage.cloud._jobs.get_hyperparameter_tuning_job(name=job).trials
        result = self.result()
        assert result["trial_counts"] == {"succeeded": 2, "infeasible": 0, "running": 0, "total": 2}
        best = result["best_trial"]
        assert (best["parameters"], best["metrics"]) == ({"x": 2}, {"x": 2.0})
        assert {trial.id: trial.custom_job for trial in trials}[best["id"]] == best["custom_job"]

    def act(self, method: str, path: str, **body: Any) -> None:
        """Do what a button of Airflow's pages does."""
        self.stage.airflow.api.call(method, f"/dags/{self.dag_id}/{path}", json=body)

    def mark_as_failed(self) -> None:
        """Mark the task as failed."""
        self.act("PATCH", f"dagRuns/{self.run_id}/taskInstances/train", new_state="failed")

    def clear(self) -> None:
        """Clear the task."""
        body = {"dry_run": False, "only_failed": False, "dag_run_id": self.run_id, "task_ids": ["train"]}
        self.act("POST", "clearTaskInstances", **body)

    def process(self) -> psutil.Process:
        """Return the process that runs the task."""
        (found,) = self.stage.task_processes(self.task()["id"])
        return found

    def kill_process(self) -> None:
        """Kill the process that runs the task, as a machine without memory would."""
        process = self.process()
        process.kill()
        self.stage.wait_for(lambda: not is_alive(process), f"the process of {self.dag_id} is gone")

    def lose_worker(self) -> None:
        """Kill the process that runs the task, and the one that tells Airflow of it, as a lost machine would."""
        process = self.process()
        for one in (process.parent(), process):
            one.kill()

    def evict_worker(self) -> None:
        """Tell the worker to stop and kill it when the task has heard it, as the end of a pod would."""
        self.process().parent().send_signal(signal.SIGTERM)
        self.wait_for_log("The job goes on")
        self.lose_worker()
