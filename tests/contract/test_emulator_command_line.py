# SPDX-License-Identifier: Apache-2.0
"""The vertex-emulator command as a real process: start, look, stop, and be killed."""

from __future__ import annotations

import os
import pty
import re
import signal
import socket
import subprocess
import sys
import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

import grpc
import psutil
import pytest
from google.cloud.aiplatform_v1.services.job_service import JobServiceClient
from google.cloud.aiplatform_v1.services.job_service.transports.grpc import JobServiceGrpcTransport
from google.cloud.aiplatform_v1.types import CustomJob, JobState, PersistentResource

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.contract.conftest import Cloud

MODULE = "airflow_vertex_persistent.emulator.cli"
ALL = [("vertex-emulator-everywhere", "1")]
PARENT = "projects/demo-project/locations/europe-west4"


def command(*arguments: str) -> list[str]:
    """The command line of the command."""
    return [sys.executable, "-m", MODULE, *arguments]


def ask(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command to its end."""
    return subprocess.run(command(*arguments), capture_output=True, text=True, timeout=60, check=False)


def shown(columns: int, *arguments: str) -> list[str]:
    """The lines of a command in a terminal that is so wide, without their colours."""
    ours, its = pty.openpty()
    with os.fdopen(ours, "rb", 0) as screen:
        env = os.environ | {"COLUMNS": str(columns), "TERM": "xterm"}
        subprocess.run(command(*arguments), stdout=its, timeout=60, check=True, env=env)
        os.close(its)
        text = b""
        with suppress(OSError):  # a terminal that nobody writes to any more
            while some := screen.read(65536):
                text += some
    return re.sub(r"\x1b\[[\d;]*m", "", text.decode()).splitlines()


def free_port() -> int:
    """A port that nobody uses."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def started(folder: Path, *arguments: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A running emulator and its ready line."""
    process = subprocess.Popen(
        command("start", "--port=0", "--storage-port=0", f"--data-dir={folder}", *arguments),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdout
    guard = threading.Timer(60, process.kill)
    guard.start()
    try:
        line = process.stdout.readline()
        guard.cancel()
        yield process, line
    finally:
        guard.cancel()
        process.kill()
        process.wait()
        process.stdout.close()


def address(ready: str) -> str:
    """The gRPC address in a ready line."""
    match = re.search(r"VERTEX_AI_EMULATOR_HOST=(\S+?)(;|\s)", ready)
    assert match, ready
    return match[1]


def start_sleeper(channel: grpc.Channel, image: str) -> Any:
    """Create a job whose replica has a child in a session of its own."""
    code = (
        "import os, subprocess, sys, time\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'], start_new_session=True)\n"
        "print(os.getpid(), child.pid); time.sleep(600)"
    )
    client = JobServiceClient(transport=JobServiceGrpcTransport(channel=channel))
    pool = {
        "machine_spec": {"machine_type": "n1-standard-4"},
        "replica_count": 1,
        "container_spec": {"image_uri": image, "command": ["python", "-c", code]},
    }
    job = {"display_name": "sleeper", "job_spec": {"worker_pool_specs": [pool]}}
    return client.create_custom_job(parent=PARENT, custom_job=CustomJob(job))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_nothing_outlives_the_emulator(
    cloud: Cloud, tmp_path: Path, image_folder: Path, number: signal.Signals
) -> None:
    """SIGTERM and Ctrl-C end all jobs and exit with 0; even after SIGKILL no replica and no server is left."""
    with started(tmp_path, f"--image={cloud.IMAGE}={image_folder}") as (process, ready):
        with grpc.insecure_channel(address(ready)) as channel:
            job = start_sleeper(channel, cloud.IMAGE)
            log = tmp_path / "logs" / job.name.split("/")[-1] / "workerpool0-0.log"
            text = cloud.wait_for(
                lambda: log.exists() and log.read_text(encoding="utf-8"), "the replica's start"
            )
            family = [psutil.Process(int(pid)) for pid in text.split()[1:]]
            family += psutil.Process(process.pid).children(recursive=True)
            process.send_signal(number)
            status = process.wait(timeout=30)
        assert status == (-signal.SIGKILL if number == signal.SIGKILL else 0)
        assert len(family) >= 5  # replica, its child, storage and watchdog
        cloud.wait_for(
            lambda: not [one for one in family if one.is_running() and one.status() != psutil.STATUS_ZOMBIE],
            "the end of all processes",
        )


def test_the_ready_line_can_be_pasted(tmp_path: Path) -> None:
    """It exports both variables to a shell, and buckets have been created by then."""
    with started(tmp_path, "--bucket=nightly-models") as (_, ready):
        script = f"{ready.strip()}; echo $VERTEX_AI_EMULATOR_HOST $STORAGE_EMULATOR_HOST"
        shell = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True)
        vertex, storage = shell.stdout.split()
        assert re.fullmatch(r"127\.0\.0\.1:\d+", vertex)
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+", storage)
        assert (tmp_path / "storage" / "nightly-models").is_dir()


def test_jobs_shows_a_table(cloud: Cloud) -> None:
    """The table has id, name, state and place of each job, in any project and region."""
    job = cloud.ended(
        cloud.create(
            cloud.job(cloud.pool("print('hello')"), display_name="a [bold] name"),
            parent="projects/some-project/locations/us-central1",
        )
    )
    seen = ask("jobs", f"--host={cloud.emulator.address}")
    assert seen.returncode == 0
    line = next(line for line in seen.stdout.splitlines() if job.name.split("/")[-1] in line)
    for word in ("a [bold] name", "SUCCEEDED", "on demand", "n1-standard-4 us-central1"):
        assert word in line


def test_jobs_takes_one_line_a_job(cloud: Cloud) -> None:
    """In a terminal of 80 columns, with the candidate of the job; what is too long of its display name is cut."""
    name = "digits-of-tonight-" * 7
    job = cloud.ended(
        cloud.create(cloud.job(cloud.pool("1"), display_name=name, labels={"airflow_candidate": "2"}))
    )
    host = f"--host={cloud.emulator.address}"
    for columns in (80, 140):
        lines = shown(columns, "jobs", host)
        assert len(lines) == 2 + len(
            list(cloud.jobs.list_custom_jobs(parent="projects/-/locations/-", metadata=ALL))
        )
        assert max(map(len, lines)) <= columns
        line = next(line for line in lines if job.name.split("/")[-1] in line)
        assert re.search(r" n1-standard-4 europe-west4 +2( |$)", line)
    assert re.search(r" (digits-of-tonight-)+\S*…$", line)


def test_a_job_is_cancelled(cloud: Cloud) -> None:
    """By its id or its name, with the call that every client has; one that has ended stays as it is."""
    host = f"--host={cloud.emulator.address}"
    before = cloud.emulator.control.call_counts()["CancelCustomJob"]
    for part in (-1, 0):
        job = cloud.running(cloud.create(cloud.job(cloud.pool("import time; time.sleep(600)"))))
        name = job.name.split("/")[-1] if part else job.name
        seen = ask("cancel", name, host)
        assert (seen.returncode, seen.stderr) == (0, "")
        assert re.fullmatch(rf"Job {job.name.split('/')[-1]} is CANCELL(ING|ED)\.\n", seen.stdout)
        assert cloud.ended(job).state == JobState.JOB_STATE_CANCELLED
        assert ask("cancel", name, host).stdout.endswith("is CANCELLED.\n")
    assert cloud.emulator.control.call_counts()["CancelCustomJob"] == before + 4


def test_logs_prints_all_replicas(cloud: Cloud) -> None:
    """Lines of replicas and service, by id and by full name."""
    job = cloud.run(cloud.pool("print('hello [red]you[/red]')"))
    for name in (job.name, job.name.split("/")[-1]):
        seen = ask("logs", name, f"--host={cloud.emulator.address}")
        assert seen.returncode == 0
        lines = seen.stdout.splitlines()
        assert any(re.search(r"workerpool0-0 +hello \[red\]you\[/red\]$", line) for line in lines)
        assert lines[-1].endswith("Job completed successfully.")


def test_logs_follows_a_job_to_its_end(cloud: Cloud) -> None:
    """With -f each line comes once, as soon as it is there, and the command ends with the job."""
    code = "import pathlib, sys, time\nprint('up')\nwhile not pathlib.Path('go').exists(): time.sleep(0.02)\nprint('done')"
    flag = cloud.emulator._images[cloud.IMAGE] / "go"
    job = cloud.create(cloud.job(cloud.pool(code)))
    with subprocess.Popen(
        command("logs", "-f", job.name, f"--host={cloud.emulator.address}"), stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout
        guard = threading.Timer(60, process.kill)
        guard.start()
        lines = []
        for line in process.stdout:
            lines.append(line.strip())
            if line.strip().endswith(" up"):
                flag.touch()
        guard.cancel()
        assert process.wait() == 0
    flag.unlink()
    assert lines[-1].endswith("Job completed successfully.")
    assert [line.split()[-1] for line in lines if "workerpool0-0" in line] == ["up", "done"]
    assert len(lines) == len(set(lines))


def test_faults_are_ordered_listed_and_cleared(cloud: Cloud) -> None:
    """The list names each fault with what it has done; afterwards there are none."""
    cloud.emulator.control.clear_faults()
    host = f"--host={cloud.emulator.address}"
    for arguments in (
        ("add", "GetCustomJob", "internal", "--times=3", "--skip=1", "--text=broken [on] purpose", host),
        ("add", "CreateCustomJob", "slow_reply", "--seconds=0.5", host),
    ):
        assert ask("fault", *arguments).returncode == 0
    lines = ask("fault", "list", host).stdout.splitlines()
    rows = [[cell.strip() for cell in line.strip("│").split("│")] for line in lines if "│" in line]
    assert rows == [
        ["GetCustomJob", "internal", "1", "3", "0", "0", "broken [on] purpose"],
        ["CreateCustomJob", "slow_reply", "0", "1", "0", "0.5", ""],
    ]
    assert ask("fault", "clear", host).returncode == 0
    assert ask("fault", "list", host).stdout == "No faults.\n"


@pytest.mark.parametrize(
    ("call", "asked"),
    [("ListCustomJobs", ("jobs",)), ("ListLogEntries", ("logs", "1"))],
    ids=["jobs", "logs"],
)
def test_an_ordered_refusal_is_told(cloud: Cloud, call: str, asked: tuple[str, ...]) -> None:
    """A fault that hits the command itself is told in its own words, and by whom."""
    host = f"--host={cloud.emulator.address}"
    assert ask("fault", "add", call, "permission_denied", "--text=not you", host).returncode == 0
    seen = ask(*asked, host)
    cloud.emulator.control.clear_faults()
    assert seen.returncode == 1
    assert f"the emulator at {cloud.emulator.address} answers: not you" in seen.stderr


def test_a_persistent_resource_can_be_broken(cloud: Cloud) -> None:
    """It is in ERROR, with the text that was given."""
    resource = cloud.resource("broken-by-hand")
    host = f"--host={cloud.emulator.address}"
    seen = ask("fail-resource", resource.name, "--text=out of order in {region}", host)
    assert (seen.returncode, seen.stdout, seen.stderr) == (0, "", "")
    broken = cloud.resources.get_persistent_resource(name=resource.name)
    assert broken.state == PersistentResource.State.ERROR
    assert broken.error.message == "out of order in europe-west4"
    again = ask("fail-resource", resource.name, host)
    assert again.returncode == 1
    assert "is ERROR, not RUNNING" in again.stderr


def test_errors_are_one_line(cloud: Cloud, tmp_path: Path) -> None:
    """No emulator, a port in use, a missing folder, a malformed mapping, an unknown job: told without traceback."""
    nobody, taken = f"127.0.0.1:{free_port()}", cloud.emulator.address.split(":")[1]
    storage = cloud.emulator.storage_address.rpartition(":")[2]
    start = ("start", f"--data-dir={tmp_path}")
    for arguments, words in (
        (("jobs", f"--host={nobody}"), f"no emulator answers at {nobody}"),
        (("logs", "1", f"--host={nobody}"), f"no emulator answers at {nobody}"),
        (("logs", "1", f"--host={cloud.emulator.address}"), "job 1 is not known"),
        (("cancel", "1", f"--host={cloud.emulator.address}"), "there is no job '1'"),
        (("cancel", "1", f"--host={nobody}"), f"no emulator answers at {nobody}"),
        (("fault", "list", f"--host={nobody}"), f"no emulator answers at {nobody}"),
        (
            ("fault", "add", "GetJob", "quota", f"--host={cloud.emulator.address}"),
            "method 'GetJob' is not one of",
        ),
        (
            ("fault", "add", "GetCustomJob", "bad", f"--host={cloud.emulator.address}"),
            "kind 'bad' is not one of",
        ),
        (
            ("fail-resource", "nightly", f"--host={cloud.emulator.address}"),
            "Invalid resource name: 'nightly'",
        ),
        ((*start, f"--port={taken}", "--storage-port=0"), f"port {taken} is in use"),
        ((*start, "--port=0", f"--storage-port={storage}"), f"port {storage} is in use"),
        ((*start, "--stock=x1/y=8", "--port=0", f"--storage-port={storage}"), "knows no machine type 'y'"),
        ((*start, "--image=uri=/no/such/folder"), "folder /no/such/folder of image uri does not exist"),
        ((*start, f"--image=uri={tmp_path}"), "has no Dockerfile"),
        ((*start, "--image=uri"), "'uri' is not of the form URI=FOLDER"),
        ((*start, "--bucket=Not_a_bucket"), "no bucket name"),
        ((*start, "--provisioning-seconds=-1"), "use 0 or more"),
        ((*start, "--busy-policy=maybe"), "invalid choice"),
        (("start", "--data-dir=/proc/no"), "/proc/no"),
    ):
        seen = ask(*arguments)
        assert seen.returncode in {1, 2}, arguments
        assert words in seen.stderr, seen.stderr
        assert "Traceback" not in seen.stderr
        assert seen.stdout == ""


def test_help_names_every_setting() -> None:
    """Each setting is an option with its default."""
    text = ask("start", "--help").stdout
    for option in ("--busy-policy", "--provisioning-seconds", "--resource-error", "--full-create-response"):
        assert option in text
