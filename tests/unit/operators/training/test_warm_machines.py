# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from unittest.mock import Mock

import pytest

from airflow_vertex_persistent.exceptions import InvalidRequestError, MaxWaitExceededError
from airflow_vertex_persistent.names import CUSTOM_JOBS
from airflow_vertex_persistent.operators.training.execution import Execution
from airflow_vertex_persistent.operators.training.warm_machines import (
    WarmMachines,
    capacity_error,
    read_when_busy,
)
from airflow_vertex_persistent.specs.checks import Problems

BUSY = capacity_error("nightly is busy")


def warm(when_busy: Any, limit: float | None) -> WarmMachines:
    """Return machines with a policy, that nobody looks at."""
    return WarmMachines(when_busy=when_busy, limit=limit, hook=Mock(), kind=CUSTOM_JOBS, log=Mock())


def since(**passed: float) -> Execution:
    """Return an execution that has wanted a job for some time."""
    first_submit = (datetime.now(UTC) - timedelta(**passed)).isoformat()
    return replace(Execution.new(0, "demo-project", "europe-west4"), first_submit=first_submit)


@pytest.mark.parametrize(
    ("when_busy", "given", "limit"),
    [
        ("queue", None, None),
        ("fail", None, 300),
        ("on_demand", None, 300),
        ("queue", 0, None),
        ("fail", "0s", None),
        ("on_demand", timedelta(0), None),
        ("queue", "7200s", 7200),
        ("fail", 20, 20),
        ("on_demand", timedelta(minutes=1), 60),
    ],
)
def test_how_long_a_job_may_wait(when_busy: Any, given: Any, limit: float | None) -> None:
    """0 is for ever, and so is nothing for who queues; who does not waits as long as a job needs to start."""
    problems = Problems("custom job")
    assert read_when_busy(when_busy, given, problems) == limit
    problems.raise_if_any()


@pytest.mark.parametrize(
    ("when_busy", "given", "fields"),
    [
        ("wait", None, ["when_busy"]),
        (None, 10, ["when_busy"]),
        ("queue", "soon", ["max_wait_duration"]),
        ("Queue", -1, ["when_busy", "max_wait_duration"]),
    ],
)
def test_wrong_words(when_busy: Any, given: Any, fields: list[str]) -> None:
    """Each parameter is told with its value."""
    problems = Problems("custom job")
    read_when_busy(when_busy, given, problems)
    with pytest.raises(InvalidRequestError) as caught:
        problems.raise_if_any()
    assert [problem.partition(" = ")[0] for problem in caught.value.problems] == fields


@pytest.mark.parametrize(
    ("limit", "first_submit", "create_time", "deadline"),
    [
        (None, "00:00", "00:00", None),
        (3600.0, "00:00", "00:00", "01:00"),
        (3600.0, "00:00", "00:50", "01:00"),
        (3600.0, "00:00", "00:58", "01:03"),
        (3600.0, "00:00", "09:00", "09:05"),
        (60.0, "00:00", "00:00", "00:01"),
        (60.0, "00:00", "09:00", "09:01"),
    ],
)
def test_the_deadline_of_a_job(
    limit: float | None, first_submit: str, create_time: str, deadline: str | None
) -> None:
    """The limit counts from the first job on, but each job has the time to start."""
    execution = replace(since(), first_submit=f"2026-11-24T{first_submit}:00+00:00")
    job: Any = {"create_time": f"2026-11-24T{create_time}:00+00:00", "persistent_resource_id": "nightly"}
    found = warm("queue", limit).deadline(execution, job)
    assert found == (deadline and f"2026-11-24T{deadline}:00+00:00")


def test_who_fails_does_so() -> None:
    """The error says why, and is one that is worth a retry."""
    step = warm("fail", 300.0).next_step(since(), BUSY, interval=30.0, overdue=False)
    assert step.error is BUSY


def test_who_falls_back_does_so_once() -> None:
    """On demand comes at once, whatever the limit; where that has no machines either, the task fails."""
    machines = warm("on_demand", 300.0)
    step = machines.next_step(since(hours=1), BUSY, interval=30.0, overdue=True)
    assert (step.execution.fallback, step.pause, step.error) == ("on_demand", 0.0, None)
    assert machines.next_step(step.execution, BUSY, interval=30.0, overdue=False).error is BUSY


@pytest.mark.parametrize(
    ("waited", "least", "most"),
    [(0, 30, 33), (300, 30, 33), (1200, 120, 133), (3000, 300, 330), (86_400, 300, 330)],
)
def test_the_pauses_grow(waited: float, least: float, most: float) -> None:
    """Between two tries passes a tenth of what has passed, within limits, and never the same for two tasks."""
    for limit in (None, 1e6):
        execution = since(seconds=waited)
        step = warm("queue", limit).next_step(execution, BUSY, interval=30.0, overdue=False)
        assert (step.execution, step.error) == (execution, None)
        assert least <= step.pause <= most


def test_the_last_pause_ends_with_the_limit() -> None:
    """The last try comes when the time is over, not before and not after it."""
    step = warm("queue", 600.0).next_step(since(seconds=590), BUSY, interval=30.0, overdue=False)
    assert 8 < step.pause <= 10


@pytest.mark.parametrize(("seconds", "overdue"), [(601, False), (590, True)])
def test_the_wait_has_an_end(seconds: float, *, overdue: bool) -> None:
    """Past the limit, or with a job that had waited until its deadline, there is no other try."""
    step = warm("queue", 600.0).next_step(since(seconds=seconds), BUSY, interval=30.0, overdue=overdue)
    assert isinstance(step.error, MaxWaitExceededError)
    assert "600 seconds" in str(step.error)
