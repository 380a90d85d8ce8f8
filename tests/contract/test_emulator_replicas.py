# SPDX-License-Identifier: Apache-2.0
"""What replicas see, how they run together, and that nothing of them survives a job."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import pytest
from google.cloud.aiplatform_v1.types import JobState

if TYPE_CHECKING:
    from tests.contract.conftest import Cloud

PRINT_ENVIRONMENT = "import json, os; print(json.dumps(dict(os.environ)))"
# A child in the same session, one that left it, and one whose parent is gone: the last is init's child.
SPAWN = """
import subprocess, sys, time
sleep = [sys.executable, "-c", "import signal, time; signal.signal(15, signal.SIG_IGN); time.sleep(600)"]
one = subprocess.Popen(sleep)
two = subprocess.Popen(sleep, start_new_session=True)
orphan = "import subprocess, sys; p = subprocess.Popen(sys.argv[1:], start_new_session=True); print(p.pid)"
three = subprocess.run([sys.executable, "-c", orphan, *sleep], capture_output=False)
print(one.pid, two.pid, flush=True)
"""


def alive(pid: int) -> bool:
    """Whether a process still runs."""
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def environment(cloud: Cloud, **kwargs: Any) -> dict[str, str]:
    """Run a job that prints its environment."""
    job = cloud.run(cloud.pool(PRINT_ENVIRONMENT), **kwargs)
    found: dict[str, str] = json.loads(cloud.log(job)[0])
    return found


def test_a_replica_sees_what_vertex_ai_sets(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    """Project number, job id, region and CLUSTER_SPEC are there, and nothing of the emulator's own environment."""
    monkeypatch.setenv("SECRET_OF_THE_USER", "42")
    job = cloud.run(cloud.pool(PRINT_ENVIRONMENT))
    seen = json.loads(cloud.log(job)[0])
    assert seen["CLOUD_ML_PROJECT_ID"] == job.name.split("/")[1]
    assert seen["CLOUD_ML_JOB_ID"] == job.name.split("/")[-1]
    assert seen["CLOUD_ML_REGION"] == "europe-west4"
    assert seen["STORAGE_EMULATOR_HOST"] == cloud.emulator.storage_address
    assert seen["FROM_IMAGE"] == "yes"
    spec = json.loads(seen["CLUSTER_SPEC"])
    assert list(spec["cluster"]) == ["workerpool0"]
    assert spec["task"] == {"type": "workerpool0", "index": 0}
    assert spec["environment"] == "cloud"
    assert spec["job"]["workerPoolSpecs"][0]["machineSpec"] == {"machineType": "n1-standard-4"}
    assert "TF_CONFIG" not in seen
    assert "AIP_MODEL_DIR" not in seen
    assert "SECRET_OF_THE_USER" not in seen
    assert Path(seen["HOME"]) == cloud.emulator.data_dir / "home"


def test_output_folders_follow_from_base_output_directory(cloud: Cloud) -> None:
    """AIP_* folders are below base_output_directory and end with a slash, with or without one in the request."""
    for uri in ("gs://emulator-bucket/night", "gs://emulator-bucket/night/"):
        seen = environment(cloud, base_output_directory={"output_uri_prefix": uri})
        assert seen["AIP_MODEL_DIR"] == "gs://emulator-bucket/night/model/"
        assert seen["AIP_CHECKPOINT_DIR"] == "gs://emulator-bucket/night/checkpoints/"
        assert seen["AIP_TENSORBOARD_LOG_DIR"] == "gs://emulator-bucket/night/logs/"


def test_references_in_args_and_env_are_expanded(cloud: Cloud) -> None:
    """$(NAME) is filled in from the container's environment; escapes and unknown names stay."""
    container = {
        "image_uri": cloud.IMAGE,
        "args": ["--out=$(AIP_MODEL_DIR)", "$(ONE) $$(ONE) $(NOBODY)", "$(TWO)", "/gcs/emulator-bucket/x"],
        "env": [{"name": "ONE", "value": "1"}, {"name": "TWO", "value": "$(ONE)2"}],
    }
    job = cloud.run(
        cloud.pool(container_spec=container),
        base_output_directory={"output_uri_prefix": "gs://emulator-bucket/n"},
    )
    bucket = cloud.emulator.data_dir / "storage" / "emulator-bucket"
    assert cloud.log(job) == [
        f"arguments: --out=gs://emulator-bucket/n/model/ 1 $(ONE) $(NOBODY) 12 {bucket}/x"
    ]


def test_several_pools_run_at_once_and_can_talk(cloud: Cloud) -> None:
    """All replicas run together, find each other through CLUSTER_SPEC, and skipped pools keep their index."""
    server = """
import json, os, socket
spec = json.loads(os.environ["CLUSTER_SPEC"])
host, port = spec["cluster"]["workerpool0"][0].split(":")
with socket.create_server((host, int(port))) as listening:
    peers = []
    for _ in range(3):
        connection, _ = listening.accept()
        with connection:
            peers.append(connection.makefile().readline().strip())
print(sorted(peers))
print(json.dumps({k: json.loads(os.environ[k]) for k in ("CLUSTER_SPEC", "TF_CONFIG")}))
"""
    client = """
import json, os, socket, time
spec = json.loads(os.environ["CLUSTER_SPEC"])
host, port = spec["cluster"]["workerpool0"][0].split(":")
while True:
    try:
        connection = socket.create_connection((host, int(port)))
        break
    except OSError:
        time.sleep(0.02)
role = json.loads(os.environ["TF_CONFIG"])["task"]
connection.sendall(f"{spec['task']['type']}-{spec['task']['index']} {role['type']}-{role['index']}\\n".encode())
connection.close()
time.sleep(600)
"""
    workers, evaluator = cloud.pool(client, replica_count=2), cloud.pool(client)
    job = cloud.run(cloud.pool(server), workers, {}, evaluator)
    assert job.state == JobState.JOB_STATE_SUCCEEDED
    peers, configuration = cloud.log(job)
    assert peers == "['workerpool1-0 worker-0', 'workerpool1-1 worker-1', 'workerpool3-0 evaluator-0']"
    found = json.loads(configuration)
    spec, tf_config = found["CLUSTER_SPEC"]["cluster"], found["TF_CONFIG"]
    assert {pool: len(addresses) for pool, addresses in spec.items()} == {
        "workerpool0": 1,
        "workerpool1": 2,
        "workerpool3": 1,
    }
    assert len({address for addresses in spec.values() for address in addresses}) == 4
    assert {role: len(addresses) for role, addresses in tf_config["cluster"].items()} == {
        "chief": 1,
        "worker": 2,
    }
    assert tf_config["task"] == {"type": "chief", "index": 0, "cloud": job.name.split("/")[-1]}


def test_a_worker_that_fails_fails_the_job(cloud: Cloud) -> None:
    """The error names the worker, and the primary is stopped."""
    job = cloud.run(cloud.pool("import time; time.sleep(600)"), cloud.pool("raise SystemExit(7)"))
    assert job.state == JobState.JOB_STATE_FAILED
    assert "The replica workerpool1-0 exited with a non-zero status of 7." in job.error.message


@pytest.mark.parametrize("ending", ["cancelled", "finished", "timed out"])
def test_no_process_survives_its_job(cloud: Cloud, ending: str) -> None:
    """Children, daemons in their own session and orphans that ignore SIGTERM are gone when the job has ended."""
    code = SPAWN + ("" if ending == "finished" else "time.sleep(600)")
    timeout = {"timeout": "5s"} if ending == "timed out" else {}
    job = cloud.create(cloud.job(cloud.pool(code), scheduling=timeout))
    cloud.wait_for(lambda: len(cloud.log(job)) == 2, "the processes' start")
    pids = [int(word) for line in cloud.log(job) for word in line.split()]
    assert len(pids) == 3
    if ending == "cancelled":
        assert any(alive(pid) for pid in pids)
        cloud.stop(job)
    cloud.ended(job)
    assert [pid for pid in pids if alive(pid)] == []


def test_a_replica_may_clean_up_on_sigterm(cloud: Cloud) -> None:
    """A cancelled replica gets SIGTERM and time to write something."""
    code = """
import signal, sys, time
def stop(*_):
    print("saved"); sys.exit(0)
signal.signal(signal.SIGTERM, stop)
print("up"); time.sleep(600)
"""
    job = cloud.create(cloud.job(cloud.pool(code)))
    cloud.wait_for(lambda: cloud.log(job) == ["up"])
    assert cloud.stop(job).state == JobState.JOB_STATE_CANCELLED
    assert cloud.log(job) == ["up", "saved"]
