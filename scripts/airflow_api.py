# SPDX-License-Identifier: Apache-2.0
"""A few calls of Airflow's public REST API (v2), as the demo and the system tests need them."""

from __future__ import annotations

import time
from typing import Any
from uuid import uuid4

import httpx

_TRIES = 10
_PAUSE = 1.0


class AirflowApi:
    """
    Talks to one API server as one user.

    :param url: Address of the API server, ``http://127.0.0.1:8080``.
    :param user: A user of the simple auth manager.
    :param password: That user's password.
    """

    def __init__(self, url: str, user: str, password: str) -> None:
        self._user = user
        self._password = password
        # Loopback only: a proxy that the environment names must not get to see this.
        self._http = httpx.Client(base_url=url, timeout=90, trust_env=False)

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def health(self) -> dict[str, str | None]:
        """Return the state of each component, by name; empty while the API server does not answer."""
        try:
            answer = self._http.get("/api/v2/monitor/health")
        except httpx.TransportError:
            return {}
        if answer.is_error:
            return {}
        return {name: part["status"] for name, part in answer.json().items() if part}

    def unpause(self, dag_id: str) -> None:
        """Let the scheduler start runs of a DAG."""
        self.call("PATCH", f"/dags/{dag_id}", json={"is_paused": False})

    def dags(self) -> list[str]:
        """Return the ids of the DAGs that the DAG processor has read so far."""
        return [dag["dag_id"] for dag in self.call("GET", "/dags").json()["dags"]]

    def import_errors(self) -> list[str]:
        """Return what went wrong while DAG files were read."""
        return [error["stack_trace"] for error in self.call("GET", "/importErrors").json()["import_errors"]]

    def trigger(self, dag_id: str, conf: dict[str, Any]) -> str:
        """Start a run by hand and return its id."""
        run_id = f"manual__{uuid4()}"
        body = {"logical_date": None, "conf": conf, "dag_run_id": run_id}
        try:
            self.call("POST", f"/dags/{dag_id}/dagRuns", json=body)
        except httpx.HTTPStatusError as error:
            # The id is new: it was an earlier try that has started it.
            if error.response.status_code != httpx.codes.CONFLICT:
                raise
        return run_id

    def dag_runs(self, dag_id: str) -> list[dict[str, Any]]:
        """Return the runs of a DAG, the oldest first."""
        runs = self.call("GET", f"/dags/{dag_id}/dagRuns", params={"order_by": "id"}).json()["dag_runs"]
        return list(runs)

    def dag_run(self, dag_id: str, run_id: str) -> dict[str, Any]:
        """Return one run."""
        return dict(self.call("GET", f"/dags/{dag_id}/dagRuns/{run_id}").json())

    def task_instances(self, dag_id: str, run_id: str) -> dict[str, dict[str, Any]]:
        """Return the task instances of a run by task id."""
        answer = self.call("GET", f"/dags/{dag_id}/dagRuns/{run_id}/taskInstances").json()
        return {instance["task_id"]: instance for instance in answer["task_instances"]}

    def count_task_instances(self, dag_id: str, run_id: str, state: str) -> int:
        """Return how many task instances of a run are in a state; lists hold at most a hundred of them."""
        path = f"/dags/{dag_id}/dagRuns/{run_id}/taskInstances"
        return int(self.call("GET", path, params={"state": state, "limit": 1}).json()["total_entries"])

    def xcom(self, dag_id: str, run_id: str, task_id: str, key: str = "return_value") -> Any:
        """Return what a task has handed over, or None when it has not."""
        path = f"/dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}/xcomEntries/{key}"
        try:
            return self.call("GET", path).json()["value"]
        except httpx.HTTPStatusError as error:
            if error.response.status_code == httpx.codes.NOT_FOUND:
                return None
            raise

    def log(self, dag_id: str, run_id: str, task_id: str, try_number: int) -> str:
        """Return the log of one try of a task, errors included."""
        path = f"/dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}/logs/{try_number}"
        text = []
        for line in self.call("GET", path).json()["content"]:
            # Airflow's pages fold lines by these marks.
            if not line["event"].startswith(("::group::", "::endgroup::")):
                text.append(f"{line.get('level', ''):8}{line['event']}")
            errors = line.get("error_detail") or ()
            text.extend(f"{'':8}{error['exc_type']}: {error['exc_value']}" for error in errors)
        return "\n".join(text)

    def call(self, method: str, path: str, **content: Any) -> httpx.Response:
        """
        Return the answer to any call.

        An error of the server's own is tried again: where its database is an SQLite file, that was locked when it
        was to note the action, and nothing has happened yet. While it waited for the file it did nothing else; the
        pause before the next try lets whoever holds the file finish.
        """
        if "Authorization" not in self._http.headers:
            login = {"username": self._user, "password": self._password}
            token = self._http.post("/auth/token", json=login).raise_for_status().json()["access_token"]
            self._http.headers["Authorization"] = f"Bearer {token}"
        answer = self._http.request(method, f"/api/v2{path}", **content)
        for _ in range(_TRIES - 1):
            if not answer.is_server_error:
                break
            time.sleep(_PAUSE)
            answer = self._http.request(method, f"/api/v2{path}", **content)
        return answer.raise_for_status()
