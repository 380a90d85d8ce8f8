# SPDX-License-Identifier: Apache-2.0
"""How often the trials of tuning jobs are read, which takes a call for each job."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest
from google.api_core.exceptions import ServiceUnavailable

from airflow_vertex_persistent.triggers.sharing import READS_PER_MINUTE, SharedLooks
from airflow_vertex_persistent.triggers.sources import TuningJobSource
from airflow_vertex_persistent.triggers.tuning_job import TuningJobTrigger

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from airflow_vertex_persistent.names import ResourceName
    from airflow_vertex_persistent.triggers.sharing import Look

    RunTimeless = Callable[[Coroutine[Any, Any, Any]], Any]

INTERVAL = 10.0
REGION = "europe-west4"


class TuningHook:
    """
    Tuning jobs in memory, all in one state, and when each call came.

    :param count: How many there are; their numbers begin at 0.
    """

    def __init__(self, count: int, state: str = "RUNNING") -> None:
        self.state = f"JOB_STATE_{state}"
        self.jobs = [job(number).job for number in range(count)]
        self.error: Exception | None = None
        self.lists: list[float] = []
        self.gets: list[tuple[float, str]] = []

    async def snapshot_page(self, *_: str) -> tuple[list[dict[str, str]], str]:
        """Return all of them on one page, without trials."""
        self.lists.append(now())
        return [{"job": name, "state": self.state} for name in self.jobs], ""

    async def tuning_snapshot(self, name: ResourceName) -> dict[str, Any]:
        """Return one of them with its trials."""
        self.gets.append((now(), str(name)))
        if self.error is not None:
            raise self.error
        return {"job": str(name), "state": self.state, "tuning": {}}

    @property
    def rounds(self) -> dict[float, list[str]]:
        """Whose trials were read, by the time of the round."""
        return {at: [name for when, name in self.gets if when == at] for at, _ in self.gets}


def now() -> float:
    """Return the time in the test's world."""
    return asyncio.get_running_loop().time()


def job(number: int, *, labelled: bool = True) -> TuningJobTrigger:
    """Return the trigger of a job."""
    return TuningJobTrigger(
        job=f"projects/1/locations/{REGION}/hyperparameterTuningJobs/{number}",
        cancel_on_kill=True,
        execution_key=str(number) if labelled else None,
        installation="ours" if labelled else None,
        region=REGION,
        gcp_conn_id="google_cloud_default",
        impersonation_chain=None,
        poll_interval=INTERVAL,
        max_outage=3600.0,
    )


async def watch(hook: TuningHook, minutes: float, triggers: list[TuningJobTrigger]) -> list[Look]:
    """Let triggers ask for their jobs in each round, for a while, and return what they saw."""
    seen: list[Look] = []
    asked: Any = hook
    source = triggers[0].source(asked)
    assert isinstance(source, TuningJobSource)
    async with aclosing(SharedLooks(source, INTERVAL).looks()) as looks:  # type: ignore[type-var]
        async for look in looks:
            if now() > minutes * 60:
                break
            seen.append(look)
            for trigger in triggers:
                look.ask(trigger)
    assert source.reads == len(hook.lists) + len(hook.gets)
    return seen


def test_trials_are_read_once_a_minute(run_timeless: RunTimeless) -> None:
    """Each job's, for the first time a minute after it was seen to run; triggers of one job share the call."""
    hook = TuningHook(2)
    seen = run_timeless(watch(hook, 30, [job(0), job(1), job(1)]))
    assert set(map(tuple, hook.rounds.values())) == {tuple(hook.jobs)}
    times = [0.0, *hook.rounds]
    assert all(60 <= later - earlier <= 60 + 2 * INTERVAL for earlier, later in pairwise(times))
    with_trials = ["tuning" in look.found[job(1).name.identity] for look in seen]
    assert sum(with_trials) == len(hook.rounds)


def test_so_many_trials_are_read_in_a_round(run_timeless: RunTimeless) -> None:
    """Those of twenty jobs, of more in turn, so that no job's are left out."""
    hook = TuningHook(50)
    run_timeless(watch(hook, 10, [job(number) for number in range(50)]))
    assert max(map(len, hook.rounds.values())) == 20
    counts = [sum(name == one for _, name in hook.gets) for one in hook.jobs]
    assert min(counts) >= max(counts) - 1 >= 5


def test_trials_keep_to_the_budget(run_timeless: RunTimeless) -> None:
    """However many jobs there are, their trials are read within what the loop may spend, and each in its turn."""
    hook, minutes = TuningHook(300), 30
    run_timeless(watch(hook, minutes, [job(number) for number in range(300)]))
    assert len(hook.lists) + len(hook.gets) <= READS_PER_MINUTE * (minutes + 1)
    counts = [sum(name == one for _, name in hook.gets) for one in hook.jobs]
    assert min(counts) >= max(counts) - 1 >= 5


@pytest.mark.parametrize("state", ["PENDING", "SUCCEEDED", "CANCELLING"])
def test_trials_of_what_does_not_run_are_not_read(run_timeless: RunTimeless, state: str) -> None:
    """There are none yet, or the trigger itself reads them at the end."""
    hook = TuningHook(1, state)
    run_timeless(watch(hook, 5, [job(0)]))
    assert hook.gets == []


def test_trials_that_are_not_answered_are_no_outage(run_timeless: RunTimeless) -> None:
    """The job itself has been read: its watch goes on, and its trials are read again after a minute."""
    hook = TuningHook(1)
    hook.error = ServiceUnavailable("away")
    seen = run_timeless(watch(hook, 10, [job(0)]))
    assert len(hook.rounds) >= 8
    assert all(look.found[job(0).name.identity]["state"] == hook.state for look in seen)
    assert all(look.outage(REGION) is None for look in seen)


def test_what_has_been_read_with_its_trials_is_not_read_again(run_timeless: RunTimeless) -> None:
    """A job without a label is read by itself in each round, once."""
    hook = TuningHook(1)
    run_timeless(watch(hook, 10, [job(0, labelled=False)]))
    assert not hook.lists
    assert len(hook.gets) > 40
    assert set(map(len, hook.rounds.values())) == {1}
