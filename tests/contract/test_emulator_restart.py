# SPDX-License-Identifier: Apache-2.0
"""The same data folder, another emulator: what a stop or a kill leaves, and what becomes of it."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

import grpc
import psutil
import pytest
from google.cloud.aiplatform_v1.types import JobState, PersistentResource
from google.longrunning.operations_pb2 import GetOperationRequest, Operation
from processes import is_alive

from airflow_vertex_persistent.emulator import EmulatorControl

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.contract.conftest import Cloud, Tuning

State = PersistentResource.State
SLEEP = "import os, time; print(os.getpid(), flush=True); time.sleep(600)"
POOL = {"machine_spec": {"machine_type": "n1-standard-4"}, "replica_count": 1}
DEAF = "import signal, time; signal.signal(15, signal.SIG_IGN); print('deaf', flush=True); time.sleep(600)"


class Machine:
    """Starts emulators with one data folder and one pair of ports, one after the other."""

    def __init__(self, folder: Path, image: str, connect: Callable[[str, Path], Cloud]) -> None:
        self.folder = folder
        self._image = image
        self._connect = connect
        with socket.socket() as one, socket.socket() as two:
            for probe in (one, two):
                probe.bind(("127.0.0.1", 0))
            self._port, self._storage_port = one.getsockname()[1], two.getsockname()[1]
        self.address = f"127.0.0.1:{self._port}"

    @contextmanager
    def emulator(self, *options: str, end: signal.Signals = signal.SIGKILL) -> Iterator[Cloud]:
        """Run an emulator during the block, and end it with a signal."""
        command = [sys.executable, "-m", "airflow_vertex_persistent.emulator.cli", "start"]
        command += [f"--port={self._port}", f"--storage-port={self._storage_port}", f"--image={self._image}"]
        process = subprocess.Popen(
            [*command, f"--data-dir={self.folder}", "--bucket=emulator-bucket", *options],
            stdout=subprocess.PIPE,
            text=True,
        )
        guard = threading.Timer(60, process.kill)
        guard.start()
        try:
            assert process.stdout
            assert "VERTEX_AI_EMULATOR_HOST" in process.stdout.readline()
            guard.cancel()
            yield self._connect(self.address, self.folder)
            process.send_signal(end)
            process.wait(timeout=30)
        finally:
            guard.cancel()
            process.kill()
            process.communicate()


@pytest.fixture
def machine(cloud: Cloud, tmp_path: Path, image_folder: Path) -> Iterator[Machine]:
    """A place for one emulator after the other; closes the clients in the end."""
    channels = []

    def connect(address: str, folder: Path) -> Cloud:
        channels.append(grpc.insecure_channel(address))
        return type(cloud)(channels[-1], folder)

    yield Machine(tmp_path, f"{cloud.IMAGE}={image_folder}", connect)
    for channel in channels:
        channel.close()


def finished(cloud: Cloud, name: str) -> Operation:
    """Wait until an operation is done."""
    request = GetOperationRequest(name=name)
    cloud.wait_for(lambda: cloud.resources.get_operation(request).done, name)
    return cloud.resources.get_operation(request)


def test_a_kill_is_a_lost_worker(machine: Machine) -> None:
    """Running jobs have failed, cancelled ones are cancelled, ended ones and logs stay, waiting ones run."""
    with machine.emulator("--stop-grace-seconds=60") as cloud:
        done = cloud.run(cloud.pool("print('hello')"))
        cloud.resource("nightly")
        running = cloud.create(cloud.job(cloud.pool(SLEEP), persistent_resource_id="nightly"))
        waiting = cloud.create(cloud.job(cloud.pool("print('at last')"), persistent_resource_id="nightly"))
        deaf = cloud.create(cloud.job(cloud.pool(DEAF)))
        replica = psutil.Process(int(cloud.wait_for(lambda: cloud.log(running))[0]))
        cloud.wait_for(lambda: cloud.log(deaf) == ["deaf"])
        cloud.jobs.cancel_custom_job(name=deaf.name)
        assert cloud.get(deaf).state == JobState.JOB_STATE_CANCELLING
        assert cloud.get(waiting).state == JobState.JOB_STATE_PENDING
    with machine.emulator() as cloud:
        assert not is_alive(replica)
        assert cloud.get(done) == done
        assert cloud.log(done) == ["hello"]
        lost, cancelled = cloud.get(running), cloud.get(deaf)
        assert [lost.state, lost.error.code] == [JobState.JOB_STATE_FAILED, 13]
        assert lost.error.message == "Internal error occurred for the current attempt"
        assert "end_time" in lost
        assert [cancelled.state, cancelled.error.code] == [JobState.JOB_STATE_CANCELLED, 1]
        assert cloud.ended(waiting).state == JobState.JOB_STATE_SUCCEEDED
        assert cloud.log(waiting) == ["at last"]
        listed = [job.name for job in cloud.jobs.list_custom_jobs(parent=cloud.PARENT)]
        assert listed == [deaf.name, waiting.name, running.name, done.name]
        assert cloud.create(cloud.job(cloud.pool("print('new')"))).name not in listed


def test_what_resources_were_at_goes_on_after_a_kill(machine: Machine) -> None:
    """Creation, update, reboot and delete come to their end, and so do their operations."""
    slow = [f"--resource-{what}-seconds=60" for what in ("update", "reboot", "teardown")]
    quick = ("--allow-plain-update", "--resource-provisioning-seconds=0")
    with machine.emulator("--allow-plain-update", *slow) as cloud:
        updated, rebooted, deleted = (cloud.resource(name) for name in ("updated", "rebooted", "deleted"))
        updated.resource_pools[0].replica_count = 2
        wanted = {"persistent_resource": updated, "update_mask": {"paths": ["resource_pools.replica_count"]}}
        going = [
            cloud.resources.update_persistent_resource(wanted),
            cloud.resources.reboot_persistent_resource(name=rebooted.name),
        ]
        cloud.resources.delete_persistent_resource(name=deleted.name)
        shown = cloud.resources.get_persistent_resource(name=updated.name)
        assert [shown.state, shown.resource_pools[0].replica_count] == [State.UPDATING, 1]
    with machine.emulator(*slow, "--resource-provisioning-seconds=60") as cloud:
        created = cloud.resources.create_persistent_resource(
            parent=cloud.PARENT,
            persistent_resource=PersistentResource({"resource_pools": [POOL]}),
            persistent_resource_id="created",
        )
        going.append(created)
        states = {
            one.display_name: one.state
            for one in cloud.resources.list_persistent_resources(parent=cloud.PARENT)
        }
        assert states == {
            "created": State.PROVISIONING,
            "deleted": State.STOPPING,
            "rebooted": State.REBOOTING,
            "updated": State.UPDATING,
        }
    with machine.emulator(*quick) as cloud:
        for operation in going:
            assert finished(cloud, operation.operation.name).WhichOneof("result") == "response"
        left = list(cloud.resources.list_persistent_resources(parent=cloud.PARENT))
        assert {one.display_name: one.state for one in left if one.state != State.STOPPING} == dict.fromkeys(
            ("created", "rebooted", "updated"), State.RUNNING
        )
        assert cloud.resources.get_persistent_resource(name=updated.name).resource_pools[0].replica_count == 2
        pair = [cloud.pool("print('hello')"), cloud.pool(SLEEP)]
        assert cloud.run(*pair, persistent_resource_id="updated").state == JobState.JOB_STATE_SUCCEEDED


def test_a_stop_ends_all_jobs(machine: Machine) -> None:
    """After SIGTERM, jobs are cancelled, and resources are there at the next start."""
    with machine.emulator(end=signal.SIGTERM) as cloud:
        cloud.resource("nightly")
        job = cloud.running(cloud.create(cloud.job(cloud.pool(SLEEP), persistent_resource_id="nightly")))
    with machine.emulator() as cloud:
        assert cloud.get(job).state == JobState.JOB_STATE_CANCELLED
        assert cloud.run(cloud.pool("print('hello')"), persistent_resource_id="nightly").state
        name = f"{cloud.PARENT}/persistentResources/nightly"
        assert cloud.resources.get_persistent_resource(name=name).state == State.RUNNING


def test_an_error_that_was_to_come_later_comes_after_a_kill(machine: Machine) -> None:
    """No job stays FAILED without an error."""
    with machine.emulator("--error-delay-seconds=60") as cloud:
        job = cloud.run(cloud.pool("raise SystemExit(3)"))
        assert "error" not in job
    with machine.emulator() as cloud:
        assert cloud.get(job).error.message == "Internal error occurred for the current attempt"


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM])
def test_who_waits_for_machines_goes_on_waiting(machine: Machine, end: signal.Signals) -> None:
    """In the old order and no longer than before; who waited too long meanwhile has failed."""
    simulate = ("--executor=simulate", "--simulated-seconds=3600")
    with machine.emulator(*simulate, "--stock=*/*=0", end=end) as cloud:
        big, small = (cloud.scarce("FLEX_START", *nodes) for nodes in ((1, 2), (1,)))
        late = cloud.scarce("FLEX_START", max_wait_duration="2s")
        brief = cloud.scarce("FLEX_START", max_wait_duration="3600s")
        queued = [job.name for job in (big, small, late, brief)]
    control = EmulatorControl(machine.address)
    with machine.emulator(*simulate, "--stock=*/*=2") as cloud, control:
        assert [place["job"] for place in control.capacity()[0]["queue"]][:2] == queued[:2]
        ended = cloud.ended(late)
        assert ended.state == JobState.JOB_STATE_FAILED
        assert "max_wait_duration of 2 seconds" in ended.error.message
        places = control.capacity()[0]["queue"]
        assert [place["job"] for place in places] == [big.name, small.name, brief.name]
        assert places[2]["waited"] > 1
        control.set_stock("*/*", 3)
        cloud.running(big)
        assert cloud.get(small).state == JobState.JOB_STATE_PENDING
        cloud.stop(big)
        cloud.running(small)
        cloud.running(brief)


REPORT = """
import json, os, time
with open(os.environ["CLOUD_ML_HP_METRIC_FILE"], "w") as file:
    line = {"timestamp": time.time(), "trial": os.environ["CLOUD_ML_TRIAL_ID"], "loss": "1", "global_step": "0"}
    file.write(json.dumps(line))
"""


def test_a_kill_loses_a_tuning_job_that_runs(machine: Machine, tuning: Tuning) -> None:
    """And its trials, also the one that waits; what is being cancelled is cancelled."""
    with machine.emulator("--stop-grace-seconds=60") as cloud:
        tuning = type(tuning)(cloud)
        cloud.resource("nightly")
        job = tuning.create(
            SLEEP, persistent_resource_id="nightly", parallel_trial_count=2, max_trial_count=2
        )
        tuning.when(job, lambda now: [one.state.name for one in now.trials] == ["ACTIVE", "REQUESTED"])
        deaf = tuning.create(DEAF)
        tuning.when(deaf, lambda now: now.trials and cloud.log(tuning.jobs_of(now)[0]) == ["deaf"])
        cloud.jobs.cancel_hyperparameter_tuning_job(name=deaf.name)
        assert tuning.get(deaf).state == JobState.JOB_STATE_CANCELLING
    with machine.emulator() as cloud:
        tuning = type(tuning)(cloud)
        lost, cancelled = tuning.get(job), tuning.get(deaf)
        assert [lost.state, lost.error.code] == [JobState.JOB_STATE_FAILED, 13]
        assert [cancelled.state, cancelled.error.code] == [JobState.JOB_STATE_CANCELLED, 1]
        assert [one.state.name for one in (*lost.trials, *cancelled.trials)] == ["INFEASIBLE"] * 3
        assert [run.state for run in tuning.jobs_of(lost)] == [JobState.JOB_STATE_FAILED] * 2
        assert [run.state for run in tuning.jobs_of(cancelled)] == [JobState.JOB_STATE_CANCELLED]


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM])
def test_a_tuning_job_that_waits_goes_on_waiting(
    machine: Machine, tuning: Tuning, end: signal.Signals
) -> None:
    """With the same trials, as if nothing had happened, and those that are still to come; what ran has ended."""
    h100 = {"machine_type": "a3-highgpu-8g", "accelerator_type": "NVIDIA_H100_80GB", "accelerator_count": 8}
    with machine.emulator("--stock=*/a3-highgpu-8g=0", end=end) as cloud:
        tuning = type(tuning)(cloud)
        job = tuning.create(
            worker_pool_specs=[cloud.pool(REPORT, machine_spec=h100)],
            scheduling={"strategy": "FLEX_START"},
            parallel_trial_count=2,
            max_trial_count=3,
        )
        waiting = tuning.when(job, lambda now: len(now.trials) == 2)
        running = tuning.create(SLEEP)
        tuning.when(running, lambda now: now.state == JobState.JOB_STATE_RUNNING)
    with machine.emulator("--stock=*/a3-highgpu-8g=1", "--tuning-seed=1") as cloud:
        tuning = type(tuning)(cloud)
        ended = tuning.ended(job)
        assert ended.state == JobState.JOB_STATE_SUCCEEDED
        assert [one.custom_job for one in ended.trials[:2]] == [one.custom_job for one in waiting.trials]
        assert [one.parameters for one in ended.trials[:2]] == [one.parameters for one in waiting.trials]
        assert [one.state.name for one in ended.trials] == ["SUCCEEDED"] * 3
        stopped = tuning.get(running)
        assert stopped.error.message == (
            "The emulator was stopped."
            if end == signal.SIGTERM
            else "Internal error occurred for the current attempt"
        )
        assert tuning.jobs_of(stopped)[0].state == stopped.state
