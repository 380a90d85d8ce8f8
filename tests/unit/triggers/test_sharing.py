# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import aclosing
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest
from google.api_core.exceptions import DeadlineExceeded, ServiceUnavailable
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from airflow_vertex_persistent.exceptions import PermissionDeniedError
from airflow_vertex_persistent.states import NOT_ENDED_FILTER
from airflow_vertex_persistent.triggers.sharing import READS_PER_MINUTE, SharedLooks
from airflow_vertex_persistent.triggers.sources import JobSource
from airflow_vertex_persistent.triggers.training_job import TrainingJobTrigger

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping

    from airflow_vertex_persistent.names import Identity, ResourceName
    from airflow_vertex_persistent.triggers.base import VertexTrigger
    from airflow_vertex_persistent.triggers.sharing import Look, Source

    RunTimeless = Callable[[Coroutine[Any, Any, Any]], Any]

INTERVAL = 10.0
RUNNING = {"state": "JOB_STATE_RUNNING"}
REGION, ELSEWHERE = "europe-west4", "us-central1"


class FakeSource:
    """
    A service with jobs in memory.

    :param moving: Numbers of the jobs that its list gives.
    :param reads_of_list: How many calls the list takes.
    """

    hook: Any = "the hook"
    regions = (REGION,)

    def __init__(self, moving: set[int] | None = None, reads_of_list: int = 1) -> None:
        self.reads = 0
        self.moving = moving or set()
        self.present = set(self.moving)
        self.reads_of_list = reads_of_list
        self.error: Exception | None = None
        self.seconds_of_list = 0.0
        self.asked: list[tuple[float, set[str]]] = []

    async def read_moving(self, found: dict[Identity, Mapping[str, Any] | None]) -> Mapping[str, Exception]:
        """Read what the list gives."""
        self.reads += self.reads_of_list
        await asyncio.sleep(self.seconds_of_list)
        found |= {job(number).name.identity: RUNNING for number in self.moving}
        return {} if self.error is None else {REGION: self.error}

    async def read(
        self, asked: Mapping[Identity, VertexTrigger], found: dict[Identity, Mapping[str, Any] | None]
    ) -> Mapping[str, Exception]:
        """Read those that are there."""
        self.reads += 1
        self.asked.append((now(), {identity[2] for identity in asked if identity not in found}))
        found |= {identity: RUNNING for identity in asked if int(identity[2]) in self.present}
        return {}


class RegionsHook:
    """
    Jobs of one installation, of which each region tells in its own way. The key of each is its number.

    :param moving: The regions of those that are on their way, by number.
    :param ended: The regions of the others.
    """

    def __init__(self, moving: dict[int, str], ended: dict[int, str]) -> None:
        self.moving, self.ended = moving, ended
        self.errors: dict[str, Exception] = {}
        self.seconds: dict[str, float] = {}

    async def snapshot_page(
        self, _: str, region: str, kind: str, filter_: str, __: str
    ) -> tuple[list[dict[str, str]], str]:
        """Return a list that has one page."""
        await self._answer(region)
        jobs = dict.fromkeys(self.moving, "RUNNING") | dict.fromkeys(self.ended, "SUCCEEDED")
        places = self.moving | self.ended
        return [
            {"job": job(number, region).job, "state": f"JOB_STATE_{state}"}
            for number, state in jobs.items()
            if places[number] == region
            and (number in self.moving if NOT_ENDED_FILTER in filter_ else f'="{number}"' in filter_)
        ], ""

    async def snapshot(self, name: ResourceName) -> dict[str, str]:
        """Return what is in every answer of a region."""
        await self._answer(name.region)
        return {"job": str(name), "state": "JOB_STATE_RUNNING"}

    async def _answer(self, region: str) -> None:
        await asyncio.sleep(self.seconds.get(region, 0.0))
        if region in self.errors:
            raise self.errors[region]


def regions_source(hook: RegionsHook) -> JobSource:
    """Return where the jobs of two regions are read."""
    asked: Any = hook
    return JobSource(asked, "1", "customJobs", (REGION, ELSEWHERE), "ours")


def now() -> float:
    """Return the time in the test's world."""
    return asyncio.get_running_loop().time()


def job(number: int, region: str = REGION, key: str | None = None) -> TrainingJobTrigger:
    """Return the trigger of a job."""
    return TrainingJobTrigger(
        job=f"projects/1/locations/{region}/customJobs/{number}",
        cancel_on_kill=True,
        execution_key=key,
        region=region,
        gcp_conn_id="google_cloud_default",
        impersonation_chain=None,
        poll_interval=INTERVAL,
        max_outage=3600.0,
    )


async def see(
    source: Source, count: int, act: Callable[[int, Look], None] | None = None
) -> list[tuple[float, Look]]:
    """Return the first looks of a loop with their times; ``act`` does something after each."""
    seen: list[tuple[float, Look]] = []
    async with aclosing(SharedLooks(source, INTERVAL).looks()) as looks:  # type: ignore[type-var]
        async for look in looks:
            seen.append((now(), look))
            if act is not None:
                act(len(seen), look)
            if len(seen) == count:
                break
    return seen


def test_rounds_come_at_the_interval(run_timeless: RunTimeless) -> None:
    """Round after round gives all that is on its way, an interval apart and at most a tenth more."""
    seen = run_timeless(see(FakeSource({1, 2}), 4))
    assert [len(look.found) for _, look in seen] == [2, 2, 2, 2]
    assert all(look.whole for _, look in seen)
    times = [time for time, _ in seen]
    pauses = [later - earlier for earlier, later in pairwise(times)]
    assert all(INTERVAL <= pause <= INTERVAL * 1.1 for pause in pauses)


def test_what_left_the_list_is_read_in_the_same_round(run_timeless: RunTimeless) -> None:
    """A job that is asked for and not in the list any more is read by itself, at once and together with others."""
    source = FakeSource({1, 2, 3})

    def act(_: int, look: Look) -> None:
        for number in (1, 2, 3):
            look.ask(job(number))
        source.moving = {3}

    first, second = run_timeless(see(source, 2, act))
    assert first[1].turns == set()
    assert second[1].found.keys() == {job(number).name.identity for number in (1, 2, 3)}
    assert [asked for _, asked in source.asked] == [{"1", "2"}]


def test_what_is_not_there_is_looked_for_alone(run_timeless: RunTimeless) -> None:
    """A job that was asked for and is nowhere is its own trigger's to look for."""
    (_, _), (_, look) = run_timeless(see(FakeSource(), 2, lambda _, look: look.ask(job(7))))
    assert look.turns == {job(7).name.identity}
    assert look.found == {}


@pytest.mark.parametrize("error", [None, PermissionDeniedError("not you")])
def test_each_comes_to_its_turn(run_timeless: RunTimeless, error: Exception | None) -> None:
    """However many are not found, or not allowed to be listed, fifty look alone in a round, and each in its turn."""
    source = FakeSource()
    source.error = error
    turns: list[set[Identity]] = []

    def act(_: int, look: Look) -> None:
        turns.append(set(look.turns))
        for number in range(120):
            look.ask(job(number))

    seen = run_timeless(see(source, 7, act))
    assert [len(turn) for turn in turns] == [0, 50, 50, 50, 50, 50, 50]
    # In twice as many rounds as it takes for all, each has had two turns and some a third.
    count = Counter(identity for turn in turns for identity in turn)
    assert set(count.values()) == {2, 3}
    minutes = (seen[-1][0] - seen[0][0]) / 60
    assert source.reads + sum(map(len, turns[:-1])) <= READS_PER_MINUTE * (minutes + 1)


def test_what_was_read_before_an_error_counts(run_timeless: RunTimeless) -> None:
    """An error on a later page takes nothing away from those that stood on earlier ones."""
    source = FakeSource({1})
    source.error = ServiceUnavailable("away")
    ((_, look),) = run_timeless(see(source, 1))
    assert look.found.keys() == {job(1).name.identity}
    assert look.errors == {REGION: source.error}


def test_newcomers_are_read_without_the_others(run_timeless: RunTimeless) -> None:
    """A round ahead of time reads what is new, however many are there already."""
    source = FakeSource()
    source.present = set(range(100))

    def act(count: int, look: Look) -> None:
        for number in range(1, 100):
            look.ask(job(number))
        look.ask(job(0), hurry=count == 1)

    run_timeless(see(source, 2, act))
    assert [asked for _, asked in source.asked] == [{"0"}]


def test_newcomers_do_not_wait_for_the_next_round(run_timeless: RunTimeless) -> None:
    """Those who hurry are gathered for a second and read together, ahead of the next whole round."""
    source = FakeSource()
    source.present = {1, 2}

    def act(count: int, look: Look) -> None:
        if count == 1:
            look.ask(job(1), hurry=True)
            asyncio.get_running_loop().call_later(0.5, lambda: look.ask(job(2), hurry=True))

    (began, _), (hurried, partial), (later, whole) = run_timeless(see(source, 3, act))
    assert (partial.whole, whole.whole) == (False, True)
    assert partial.found.keys() == {job(1).name.identity, job(2).name.identity}
    assert hurried - began == pytest.approx(1.0)
    assert INTERVAL <= later - began <= INTERVAL * 1.1


@pytest.mark.parametrize("error", [ServiceUnavailable("away"), PermissionDeniedError("not you")])
def test_an_error_is_handed_on(run_timeless: RunTimeless, error: Exception) -> None:
    """The loop goes on after an error of the service, and everybody hears of it; what may pass makes pauses grow."""
    source = FakeSource({1})
    source.error = error

    def act(count: int, _: Look) -> None:
        if count == 4:
            source.error = None

    seen = run_timeless(see(source, 5, act))
    assert [look.errors.get(REGION) for _, look in seen] == [error] * 4 + [None]
    times = [time for time, _ in seen]
    pauses = [later - earlier for earlier, later in pairwise(times)]
    expected = (20, 40, 60, 60) if isinstance(error, ServiceUnavailable) else (10, 10, 10, 10)
    for pause, least in zip(pauses, expected, strict=True):
        assert least <= pause <= least * 1.1


def test_a_region_that_is_away_hides_no_other(run_timeless: RunTimeless) -> None:
    """
    What has ended in a region that answers is found while another one is away, at the usual interval; the outage is
    that of those in the other one.
    """
    hook = RegionsHook({2: ELSEWHERE}, {1: REGION})
    hook.errors[ELSEWHERE] = ServiceUnavailable("away")

    def act(_: int, look: Look) -> None:
        for number, region in ((1, REGION), (2, ELSEWHERE)):
            look.ask(job(number, region, str(number)))

    seen = run_timeless(see(regions_source(hook), 4, act))
    ended = job(1).name.identity
    assert [look.found.keys() for _, look in seen[1:]] == [{ended}] * 3
    for _, look in seen:
        assert (look.outage(REGION), look.outage(ELSEWHERE)) == (None, hook.errors[ELSEWHERE])
        assert not look.turns
    times = [time for time, _ in seen]
    assert all(INTERVAL <= later - earlier <= INTERVAL * 1.1 for earlier, later in pairwise(times))


@pytest.mark.parametrize("key", ["2", None])
def test_regions_are_read_at_once(run_timeless: RunTimeless, key: str | None) -> None:
    """One that is slow to answer delays nothing but the round; one that does not is asked once in a round."""
    hook = RegionsHook({}, {1: REGION, 2: ELSEWHERE})
    hook.seconds = {REGION: 20.0, ELSEWHERE: 30.0}
    source = regions_source(hook)

    def act(count: int, look: Look) -> None:
        look.ask(job(1, REGION, "1"))
        look.ask(job(2, ELSEWHERE, key))
        if count == 2:
            hook.errors[ELSEWHERE] = DeadlineExceeded("too late")

    (first, _), (second, both), (third, one) = run_timeless(see(source, 3, act))
    # What is on its way, and then what is not; each time as long as the slowest; paid for after that.
    assert first == pytest.approx(30.0)
    assert second - first == pytest.approx(60.0, abs=3)
    assert both.found.keys() == {job(1).name.identity, job(2, ELSEWHERE).name.identity}
    assert third - second == pytest.approx(50.0, abs=3)
    assert one.found.keys() == {job(1).name.identity}


def test_our_own_errors_propagate(run_timeless: RunTimeless) -> None:
    """A bug ends the loop, with its traceback, whichever region it is met in."""
    hook = RegionsHook({}, {})
    hook.errors[ELSEWHERE] = ZeroDivisionError("bug")
    with pytest.raises(ZeroDivisionError, match="bug"):
        run_timeless(see(regions_source(hook), 1))


def test_a_slow_start_is_not_made_up_for(run_timeless: RunTimeless) -> None:
    """The reads of the first round are paid for from its end: when they began, nobody knows."""
    source = FakeSource({1}, reads_of_list=50)
    source.seconds_of_list = 20.0

    def act(_: int, __: Look) -> None:
        source.seconds_of_list = 0.0

    (first, _), (second, _), (third, _) = run_timeless(see(source, 3, act))
    assert first == pytest.approx(20.0)
    assert second - first == pytest.approx(50 * 60 / READS_PER_MINUTE)
    assert third - second == pytest.approx(50 * 60 / READS_PER_MINUTE)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(reads=st.integers(1, 300), newcomers=st.lists(st.integers(1, 40), max_size=20))
def test_the_budget_is_kept(run_timeless: RunTimeless, reads: int, newcomers: list[int]) -> None:
    """However long the list is and however many hurry, a loop's reads stay within its budget on average."""
    source = FakeSource(set(), reads_of_list=reads)

    def act(_: int, look: Look) -> None:
        if newcomers:
            look.ask(job(newcomers.pop()), hurry=True)

    seen = run_timeless(see(source, 30, act))
    minutes = (seen[-1][0] - seen[0][0]) / 60
    # The last round has just been spent, and newcomers may have spent a minute's budget in advance.
    assert source.reads <= READS_PER_MINUTE * (minutes + 1) + reads + 1
