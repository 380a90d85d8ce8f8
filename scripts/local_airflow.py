# SPDX-License-Identifier: Apache-2.0
"""Airflow's real processes on this machine: SQLite, loopback, a scratch folder, nothing left behind.

Unlike ``airflow standalone`` each process can be started and killed by itself, nothing is written outside
the scratch folder, and the end of the ``with`` block is the end of every process that was started.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING, Any, Self

import psutil
from airflow_api import AirflowApi

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from pathlib import Path
    from types import FrameType

COMPONENTS = {
    "api-server": ("api-server", "--workers", "1"),
    "dag-processor": ("dag-processor",),
    "scheduler": ("scheduler", "--skip-serve-logs"),
    "triggerer": ("triggerer", "--skip-serve-logs"),
}
HEALTH_NAMES = ("metadatabase", "scheduler", "dag_processor", "triggerer")
USER = PASSWORD = "admin"  # noqa: S105 (loopback, and it is printed for whoever wants to look)
START_TIMEOUT = 120.0
STOP_TIMEOUT = 8.0
# Airflow names a process by its host; here all share one, and two triggerers have to be told apart.
HOST_NAME_MODULE = """
import os


def get():
    return os.environ["LOCAL_AIRFLOW_NAME"]
"""


class LocalAirflowError(RuntimeError):
    """Airflow did not start, or one of its processes ended by itself."""


class LocalAirflow:
    """Run Airflow while a ``with`` block lasts.

    :param home: Scratch folder: database, logs, everything that Airflow writes.
    :param dags_folder: Folder whose DAGs are loaded.
    :param environment: Variables for all processes, such as connections.
    :param port: Where the API server listens if that is free; otherwise any free port is taken.
    """

    def __init__(
        self,
        home: Path,
        dags_folder: Path,
        *,
        environment: Mapping[str, str] | None = None,
        port: int = 8080,
    ) -> None:
        self.home = home
        self.log_folder = home / "processes"
        self.url = f"http://127.0.0.1:{free_port(port)}"
        self.api = AirflowApi(self.url, USER, PASSWORD)
        self._dags_folder = dags_folder
        self._environment = environment or {}
        self._settings = self._make_settings()
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._old_handler: Any = None

    def __enter__(self) -> Self:
        """Create the database, start every process and wait until all are healthy."""
        if threading.current_thread() is threading.main_thread():
            self._old_handler = signal.signal(signal.SIGTERM, _exit_on_sigterm)
        try:
            self._prepare()
            for component in COMPONENTS:
                self.start(component)
            self.wait_until_healthy()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        """End every process."""
        self.stop()

    def start(self, component: str, name: str | None = None) -> None:
        """Start a process.

        :param component: One of ``api-server``, ``dag-processor``, ``scheduler``, ``triggerer``.
        :param name: What to call it, also its host name in Airflow's eyes; by default the component.
        """
        name = name or component
        self._processes[name] = self._spawn(name, *COMPONENTS[component])

    def kill(self, name: str) -> None:
        """End a process and all that it started with SIGKILL, as a lost machine would."""
        process = self._processes.pop(name)
        _end([process], grace=0)

    def stop(self) -> None:
        """End all processes: SIGTERM first, SIGKILL for those that are left."""
        with _interrupts_ignored():
            _end(list(self._processes.values()), grace=STOP_TIMEOUT)
            self._processes.clear()
            self.api.close()
            if self._old_handler is not None:
                signal.signal(signal.SIGTERM, self._old_handler)
                self._old_handler = None

    def process_ids(self) -> list[int]:
        """Return the ids of all living processes, those that the components started included."""
        return [member.pid for member in _members(self._processes.values())]

    def wait_until_healthy(self) -> None:
        """Wait until the API server says that every other process has reported.

        :raises LocalAirflowError: When a process ended, or START_TIMEOUT seconds have passed.
        """
        self.wait_for(self._is_healthy, "Airflow is healthy", START_TIMEOUT)

    def wait_for(self, condition: Callable[[], bool], what: str, timeout: float) -> None:
        """Wait until something is true.

        :param condition: Asked several times a second.
        :param what: The condition in words, for the error.
        :param timeout: Seconds to wait at most.
        :raises LocalAirflowError: When a process ended, or the time has passed.
        """
        deadline = time.monotonic() + timeout
        while not condition():
            self.check()
            if time.monotonic() > deadline:
                raise LocalAirflowError(
                    f"gave up after {timeout:.0f} s waiting until {what}; logs: {self.log_folder}"
                )
            time.sleep(0.2)

    def check(self) -> None:
        """Raise LocalAirflowError, with the end of its log, when a process has ended by itself."""
        for name, process in self._processes.items():
            if process.poll() is not None:
                log = self.log_folder / f"{name}.log"
                raise LocalAirflowError(
                    f"{name} ended with code {process.returncode}; {log} ends:\n{tail(log)}"
                )

    def _is_healthy(self) -> bool:
        health = self.api.health()
        return all(health.get(name) == "healthy" for name in HEALTH_NAMES)

    def _prepare(self) -> None:
        self.log_folder.mkdir(parents=True, exist_ok=True)
        (self.home / "tmp").mkdir(exist_ok=True)
        (self.home / "config").mkdir(exist_ok=True)
        (self.home / "config" / "local_airflow_host.py").write_text(HOST_NAME_MODULE)
        (self.home / "passwords.json").write_text(json.dumps({USER: PASSWORD}))
        migrate = self._spawn("db-migrate", "db", "migrate")
        self._processes["db-migrate"] = migrate
        if migrate.wait(START_TIMEOUT):
            self.check()
        del self._processes["db-migrate"]

    def _spawn(self, name: str, *command: str) -> subprocess.Popen[bytes]:
        environment = {**self._settings, "LOCAL_AIRFLOW_NAME": name}
        with (self.log_folder / f"{name}.log").open("ab") as log:
            return subprocess.Popen(  # noqa: S603
                [sys.executable, "-m", "airflow", *command],
                cwd=self.home,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                # Its own session: the terminal's Ctrl-C does not reach it, and by the session all that
                # it starts can be found, also what got its own process group or lost its parent.
                start_new_session=True,
            )

    def _make_settings(self) -> dict[str, str]:
        configuration = {
            "CORE__DAGS_FOLDER": str(self._dags_folder),
            "CORE__LOAD_EXAMPLES": "False",
            "CORE__EXECUTOR": "LocalExecutor",
            "CORE__PARALLELISM": "4",
            "CORE__HOSTNAME_CALLABLE": "local_airflow_host.get",
            "CORE__FERNET_KEY": base64.urlsafe_b64encode(secrets.token_bytes(32)).decode(),
            "CORE__SIMPLE_AUTH_MANAGER_USERS": f"{USER}:admin",
            "CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(self.home / "passwords.json"),
            # The default guesses from api.base_url; a task that cannot reach this never starts.
            "CORE__EXECUTION_API_SERVER_URL": f"{self.url}/execution/",
            "API__BASE_URL": self.url,
            "API__HOST": "127.0.0.1",
            "API__PORT": self.url.rpartition(":")[2],
            "API__SECRET_KEY": secrets.token_hex(32),
            # The scheduler signs the tasks' tokens and the API server checks them: one secret for all.
            "API_AUTH__JWT_SECRET": secrets.token_hex(32),
            "DAG_PROCESSOR__DAG_BUNDLE_STORAGE_PATH": str(self.home / "bundles"),
            "LOGGING__BASE_LOG_FOLDER": str(self.home / "logs"),
            "LOGGING__DAG_PROCESSOR_CHILD_PROCESS_LOG_DIRECTORY": str(self.home / "logs" / "dag_processor"),
            "SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME": "0.3",
            "SCHEDULER__ENABLE_HEALTH_CHECK": "False",
        }
        inherited = {
            name: value
            for name, value in os.environ.items()
            # Settings of an Airflow and of a cloud that the person at this machine works with.
            if not name.startswith(("AIRFLOW", "_AIRFLOW", "GOOGLE_", "CLOUDSDK_"))
        }
        return {
            **inherited,
            "NO_PROXY": "127.0.0.1,localhost",
            "no_proxy": "127.0.0.1,localhost",
            "AIRFLOW_HOME": str(self.home),
            "TMPDIR": str(self.home / "tmp"),
            **{f"AIRFLOW__{name}": value for name, value in configuration.items()},
            **self._environment,
        }


def free_port(preferred: int) -> int:
    """Return a port of the loopback interface that nobody listens on, the preferred one if possible."""
    for port in (preferred, 0):
        with socket.socket() as candidate, contextlib.suppress(OSError):
            candidate.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            candidate.bind(("127.0.0.1", port))
            return int(candidate.getsockname()[1])
    raise LocalAirflowError("no free port on 127.0.0.1")


def tail(path: Path, lines: int = 25) -> str:
    """Return the last lines of a text file."""
    return "\n".join(path.read_text(errors="replace").splitlines()[-lines:])


def _end(processes: list[subprocess.Popen[bytes]], grace: float) -> None:
    """End processes and their whole sessions, in ``grace`` seconds by SIGTERM, then by SIGKILL."""
    deadline = time.monotonic() + grace
    if grace:
        for process in processes:
            process.terminate()
    while _members(processes) and time.monotonic() < deadline:
        time.sleep(0.1)
    while members := _members(processes):
        for member in members:
            with contextlib.suppress(psutil.NoSuchProcess):
                member.kill()
        time.sleep(0.05)
    for process in processes:
        process.wait()


def _members(processes: Iterable[subprocess.Popen[bytes]]) -> list[psutil.Process]:
    """Return the living processes of the sessions that these processes lead."""
    sessions = {process.pid for process in processes}
    members = []
    for candidate in psutil.process_iter():
        with contextlib.suppress(ProcessLookupError, PermissionError, psutil.NoSuchProcess):
            if os.getsid(candidate.pid) in sessions and candidate.status() != psutil.STATUS_ZOMBIE:
                members.append(candidate)
    return members


@contextlib.contextmanager
def _interrupts_ignored() -> Iterator[None]:
    """Let an impatient second Ctrl-C not cut the ending of processes short."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    old = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, old)


def _exit_on_sigterm(signal_number: int, _frame: FrameType | None) -> None:
    """Turn SIGTERM into an exception, so that ``with`` blocks end as they do after Ctrl-C."""
    raise SystemExit(128 + signal_number)
