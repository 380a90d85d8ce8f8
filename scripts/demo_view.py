# SPDX-License-Identifier: Apache-2.0
"""What the demo shows: a table that moves in a terminal, plain lines anywhere else, and the closing table."""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from rich.live import Live
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airflow_api import AirflowApi
    from demo_cloud import Cloud
    from rich.console import Console

RESOURCE_TASKS = ("create_resource", "delete_resource")
JOB_TASKS = ("tune", "train", "evaluate")
TASKS = ("create_resource", "tune", "delete_resource", "train", "evaluate", "promote_or_keep")
# On the way from one process of Airflow to another: true for a moment, and nothing to learn from.
BETWEEN = ("", "scheduled", "queued")
COLOURS = {
    "success": "green",
    "failed": "red",
    "upstream_failed": "red",
    "up_for_retry": "yellow",
    "running": "cyan",
    "deferred": "cyan",
}


@dataclass
class Row:
    """
    One task as it is now.

    :param state: Airflow's state; empty before the scheduler has looked at it.
    :param wait: What it waits for: a state of the emulated cloud, in words.
    :param wait_since: When that state began, on the monotonic clock.
    :param detail: The last thing that its job has printed.
    :param started: When the task began.
    :param ended: When it ended.
    """

    state: str = ""
    wait: str = ""
    wait_since: float = 0.0
    detail: str = ""
    started: datetime | None = None
    ended: datetime | None = None

    def seconds(self) -> str:
        """Return how long the task has taken, or took."""
        if self.started is None:
            return ""
        return duration(((self.ended or datetime.now(UTC)) - self.started).total_seconds())


class RunView:
    """
    Watches one run and shows it.

    :param console: Where to.
    :param api: Airflow, for the states of tasks.
    :param cloud: The emulator, for what they wait for.
    :param run: The run, as Airflow's API answers it.
    """

    def __init__(self, console: Console, api: AirflowApi, cloud: Cloud, run: dict[str, Any]) -> None:
        self.rows = {task: Row() for task in TASKS}
        self._console = console
        self._api = api
        self._cloud = cloud
        self._dag_id: str = run["dag_id"]
        self._run_id: str = run["dag_run_id"]
        self._started = time.monotonic()

    def looks(self) -> Iterator[None]:
        """Show the run again at each step, until it has ended."""
        live = Live(console=self._console, auto_refresh=False) if self._console.is_terminal else None
        with live or contextlib.nullcontext():
            ended = False
            while not ended:
                # Asked first: the rows that are read after the end are the last ones.
                ended = self._api.dag_run(self._dag_id, self._run_id)["state"] in {"success", "failed"}
                instances = self._api.task_instances(self._dag_id, self._run_id)
                for task in TASKS:
                    self._look(task, instances[task])
                if live:
                    live.update(self._table(), refresh=True)
                yield

    def _look(self, task: str, instance: dict[str, Any]) -> None:
        row = self.rows[task]
        before = (row.state, row.wait)
        row.state = instance["state"] or ""
        row.started, row.ended = _time(instance["start_date"]), _time(instance["end_date"])
        wait, row.detail = (
            self._waits_for(task, instance) if row.state in {"running", "deferred"} else ("", "")
        )
        if wait != row.wait:
            row.wait, row.wait_since = wait, time.monotonic()
        if not self._console.is_terminal and row.state not in BETWEEN and (row.state, row.wait) != before:
            elapsed = duration(time.monotonic() - self._started)
            self._console.print(f"{elapsed:>10}  {task:16}  {row.state:10}  {row.wait}".rstrip())

    def _waits_for(self, task: str, instance: dict[str, Any]) -> tuple[str, str]:
        """Return what a task waits for, and the last line of its job."""
        fields = instance["rendered_fields"]
        # Airflow has the fields a moment after it says that the task runs.
        if task not in (*RESOURCE_TASKS, *JOB_TASKS) or "region" not in fields:
            return "", ""
        if task in RESOURCE_TASKS:
            resource = fields["persistent_resource_id"]
            return (
                f"persistent resource {resource} {self._cloud.resource_state(fields['region'], resource)}",
                "",
            )
        job = self._cloud.job(fields["region"], f"{self._dag_id}-{task}-{self._run_id}")
        return (f"job {job.id} {job.state}", job.last_line) if job else ("", "")

    def _table(self) -> Table:
        elapsed = duration(time.monotonic() - self._started)
        table = Table(title=f"{self._run_id}  {elapsed}", title_justify="left", box=None, pad_edge=False)
        table.add_column("Task", min_width=16)
        table.add_column("State", min_width=16)
        table.add_column("Waits for", min_width=48)
        table.add_column("Time", justify="right", min_width=6)
        for task, row in self.rows.items():
            wait = Text(row.wait and f"{row.wait} {duration(time.monotonic() - row.wait_since)}")
            if row.detail:
                wait.append(f"\n{row.detail}", style="dim")
            table.add_row(task, coloured(row.state), wait, row.seconds())
        return table


def closing_table(rows: dict[str, Row], results: dict[str, Any]) -> Table:
    """
    Return the table of what each task did.

    :param rows: The tasks.
    :param results: What the tasks handed over, by task.
    """
    table = Table(title="What each task did", title_justify="left")
    for column in ("Task", "State", "Job"):
        table.add_column(column)
    table.add_column("Queued", justify="right")
    table.add_column("Ran", justify="right")
    for task, row in rows.items():
        job, queued, ran = "-", "-", row.seconds() or "-"
        if task in JOB_TASKS and (result := results.get(task)):
            job = result["job"].rpartition("/")[2]
            queued, ran = duration(result["queued_seconds"]), duration(result["running_seconds"])
        table.add_row(task, coloured(row.state), job, queued, ran)
    return table


def coloured(state: str) -> Text:
    """Return a state in its colour."""
    return Text(state, style=COLOURS.get(state, ""))


def _time(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None


def duration(seconds: float) -> str:
    """Return a duration for people: ``42 s``, ``3 min 5 s``."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
