# SPDX-License-Identifier: Apache-2.0
"""
Airflow's real processes on this machine: loopback, a scratch folder, nothing left behind.

Unlike ``airflow standalone`` each process can be started and killed by itself, nothing is written outside
the scratch folder, and the end of the ``with`` block is the end of every process that was started.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import secrets
import sys
from typing import TYPE_CHECKING, Self

from airflow_api import AirflowApi
from processes import Processes, free_port

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

COMPONENTS = {
    "api-server": ("api-server", "--workers", "1"),
    "dag-processor": ("dag-processor",),
    "scheduler": ("scheduler", "--skip-serve-logs"),
    "triggerer": ("triggerer", "--skip-serve-logs"),
}
USER = PASSWORD = "admin"  # noqa: S105 (loopback only, and printed for whoever wants to look)
START_TIMEOUT = 120.0
# Airflow names a process by its host; here all share one, and two triggerers have to be told apart.
HOST_NAME_MODULE = """
import os


def get():
    return os.environ["LOCAL_AIRFLOW_NAME"]
"""


class LocalAirflow:
    """
    Run Airflow while a ``with`` block lasts.

    :param home: Scratch folder: database, logs, everything that Airflow writes.
    :param dags_folder: Folder whose DAGs are loaded. All are paused at first.
    :param environment: Variables for all processes, such as connections.
    :param port: Where the API server listens if that is free; otherwise any free port is taken.
    :param database: SQLAlchemy address of an empty database; by default SQLite in the scratch folder.
    :param components: What to start at the beginning; by default one of each.
    """

    def __init__(
        self,
        home: Path,
        dags_folder: Path,
        *,
        environment: Mapping[str, str] | None = None,
        port: int = 8080,
        database: str | None = None,
        components: Sequence[str] = tuple(COMPONENTS),
    ) -> None:
        self.home = home
        self.url = f"http://127.0.0.1:{free_port(port)}"
        self.api = AirflowApi(self.url, USER, PASSWORD)
        self.processes = Processes(home / "processes")
        self._started = contextlib.ExitStack()
        self._components = components
        self.environment = {**_settings(home, dags_folder, self.url), **(environment or {})}
        self.database = database or f"sqlite:///{home / 'airflow.db'}"
        self.environment["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"] = self.database

    def __enter__(self) -> Self:
        """Create the database, start the processes and wait until all are healthy."""
        with contextlib.ExitStack() as stack:
            stack.callback(self.api.close)
            stack.enter_context(self.processes)
            self._prepare()
            for component in self._components:
                self.start(component)
            self.processes.wait_for(self._is_healthy, "Airflow is healthy", START_TIMEOUT)
            self._started = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        """End every process."""
        self._started.close()

    def start(self, component: str, name: str | None = None, *options: str) -> None:
        """
        Start a process.

        :param component: One of ``api-server``, ``dag-processor``, ``scheduler``, ``triggerer``.
        :param name: What to call it, also its host name in Airflow's eyes; by default the component.
        :param options: More of the component's command line, such as ``--capacity``, ``1000``.
        """
        self._run(name or component, *COMPONENTS[component], *options)

    def kill(self, name: str) -> None:
        """End a process and all that it started with SIGKILL, as a lost machine would."""
        self.processes.kill(name)

    def _is_healthy(self) -> bool:
        health = self.api.health()
        # The API server itself shows its health by answering, and by the database that it reaches.
        names = {"metadatabase", *self._components} - {"api-server"}
        return all(health.get(name.replace("-", "_")) == "healthy" for name in names)

    def _prepare(self) -> None:
        for folder in ("config", "tmp"):
            (self.home / folder).mkdir(parents=True)
        (self.home / "config" / "local_airflow_host.py").write_text(HOST_NAME_MODULE)
        (self.home / "passwords.json").write_text(json.dumps({USER: PASSWORD}))
        self._run("db-migrate", "db", "migrate")
        self.processes.finish("db-migrate", START_TIMEOUT)

    def _run(self, name: str, *arguments: str) -> None:
        command = [sys.executable, "-m", "airflow", *arguments]
        environment = {**self.environment, "LOCAL_AIRFLOW_NAME": name}
        self.processes.start(name, command, environment, self.home)


def clean_environment() -> dict[str, str]:
    """Return our environment without what belongs to another Airflow or to a cloud project."""
    mine = ("AIRFLOW", "_AIRFLOW", "GOOGLE_", "CLOUDSDK_")
    loopback = {"NO_PROXY": "127.0.0.1,localhost", "no_proxy": "127.0.0.1,localhost"}
    return {name: value for name, value in os.environ.items() if not name.startswith(mine)} | loopback


def _settings(home: Path, dags_folder: Path, url: str) -> dict[str, str]:
    configuration = {
        "CORE__DAGS_FOLDER": str(dags_folder),
        "CORE__LOAD_EXAMPLES": "False",
        "CORE__EXECUTOR": "LocalExecutor",
        "CORE__PARALLELISM": "4",
        "CORE__HOSTNAME_CALLABLE": "local_airflow_host.get",
        "CORE__FERNET_KEY": base64.urlsafe_b64encode(secrets.token_bytes(32)).decode(),
        "CORE__SIMPLE_AUTH_MANAGER_USERS": f"{USER}:admin",
        "CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(home / "passwords.json"),
        # Where tasks and the scheduler's workers find the API server.
        "CORE__EXECUTION_API_SERVER_URL": f"{url}/execution/",
        # A worker that gives up the first call of an attempt and makes it again is told that the attempt is already
        # running, and loses it: on a busy machine the default of 5 s is too few.
        "WORKERS__EXECUTION_API_TIMEOUT": "60",
        "API__BASE_URL": url,
        "API__HOST": "127.0.0.1",
        "API__PORT": url.rpartition(":")[2],
        "API__SECRET_KEY": secrets.token_hex(32),
        # The scheduler signs the tasks' tokens and the API server checks them: one secret for all.
        "API_AUTH__JWT_SECRET": secrets.token_hex(32),
        "DAG_PROCESSOR__DAG_BUNDLE_STORAGE_PATH": str(home / "bundles"),
        "LOGGING__BASE_LOG_FOLDER": str(home / "logs"),
        "LOGGING__DAG_PROCESSOR_CHILD_PROCESS_LOG_DIRECTORY": str(home / "logs" / "dag_processor"),
        # A run of the demo takes a minute: a second between two looks would be felt.
        "SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME": "0.3",
        "SCHEDULER__ENABLE_HEALTH_CHECK": "False",
    }
    return {
        **clean_environment(),
        "AIRFLOW_HOME": str(home),
        "TMPDIR": str(home / "tmp"),
        **{f"AIRFLOW__{name}": value for name, value in configuration.items()},
    }
