# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Self

import pytest
from google.api_core.exceptions import Forbidden, NotFound, ServiceUnavailable
from heard import Heard

from airflow_vertex_persistent.states import NOT_ENDED_FILTER, job_phase
from airflow_vertex_persistent.triggers.race import RaceTrigger
from airflow_vertex_persistent.triggers.sharing import SharedLooks

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from airflow_vertex_persistent.names import ResourceName
    from airflow_vertex_persistent.states import JobSnapshot

    RunTimeless = Callable[[Coroutine[Any, Any, Any]], Any]
    Life = dict[float, str]

ONE, TWO, THREE = "europe-west4", "us-central1", "us-east4"
INTERVAL, MAX_OUTAGE, DAY = 30.0, 60.0, 86_400.0
STOCKOUT = "Resources are insufficient in region: R. Try a different region or use a different accelerator."
AWAY = ServiceUnavailable("away")
FOR_EVER = (0.0, DAY)
# More than a race that is looked at every half minute can need, less than one needs that does not pause.
MOST_READS = 1000


def now() -> float:
    """Return the time in the test's world."""
    return asyncio.get_running_loop().time()


def moment(second: float | None) -> str | None:
    """Return a second as the service tells it."""
    return (
        None
        if second is None
        else (datetime(2026, 11, 22, tzinfo=UTC) + timedelta(seconds=second)).isoformat()
    )


class RegionsHook:
    """
    A service with one job in each region, which lives as it is told.

    :param lives: From which second on the job of a region is in which state.
    """

    def __init__(self, lives: dict[str, Life]) -> None:
        self.lives = lives
        self.reads: list[str] = []
        self.gets: list[str] = []
        self.cancels: list[tuple[float, str]] = []
        # What reads of a region, or cancellations there, are answered with, from one second to another.
        self.read_errors: dict[str, tuple[Exception, tuple[float, float]]] = {}
        self.cancel_errors: dict[str, tuple[Exception, tuple[float, float]]] = {}
        # For how long they are on their way.
        self.read_seconds: dict[str, float] = {}
        self.cancel_seconds: dict[str, float] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        return None

    def name(self, region: str) -> str:
        """Return the name of a region's job."""
        return f"projects/1/locations/{region}/customJobs/{list(self.lives).index(region)}"

    def now_like(self, region: str) -> JobSnapshot:
        """Return what a job is like now."""
        life = {second: state for second, state in self.lives[region].items() if second <= now()}
        second = max(life)
        state = f"JOB_STATE_{life[second]}"
        start = next((second for second, state in life.items() if state == "RUNNING"), None)
        snapshot: Any = {
            "job": self.name(region),
            "state": state,
            "persistent_resource_id": None,
            "strategy": "FLEX_START",
            "output_dir": None,
            "max_run_seconds": None,
            "max_wait_seconds": 0.0,
            "create_time": moment(0),
            "start_time": moment(start),
            "end_time": moment(second) if job_phase(state).ended else None,
            "error_code": 0,
            "error_message": STOCKOUT if life[second] == "FAILED" else "",
        }
        result: JobSnapshot = snapshot
        return result

    async def _answer(
        self,
        region: str,
        seconds: dict[str, float],
        errors: dict[str, tuple[Exception, tuple[float, float]]],
    ) -> None:
        await asyncio.sleep(seconds.get(region, 0.0))
        if region in errors:
            error, (first, last) = errors[region]
            if first <= now() < last:
                raise error

    async def snapshot_page(
        self, _: str, region: str, kind: str, filter_: str, __: str
    ) -> tuple[list[JobSnapshot], str]:
        """Return a list of one page."""
        self.reads.append(region)
        assert len(self.reads) < MOST_READS
        await self._answer(region, self.read_seconds, self.read_errors)
        job = self.now_like(region)
        left_out = NOT_ENDED_FILTER in filter_ and job_phase(job["state"]).ended
        return [] if left_out else [job], ""

    async def snapshot(self, name: ResourceName) -> JobSnapshot:
        """Return what one job is like."""
        self.gets.append(name.region)
        self.reads.append(name.region)
        assert len(self.reads) < MOST_READS
        await self._answer(name.region, self.read_seconds, self.read_errors)
        return self.now_like(name.region)

    async def cancel_job(self, name: ResourceName) -> None:
        """End a job that has not ended."""
        self.cancels.append((now(), name.region))
        await self._answer(name.region, self.cancel_seconds, self.cancel_errors)
        if not job_phase(self.now_like(name.region)["state"]).ended:
            kept = {second: state for second, state in self.lives[name.region].items() if second <= now()}
            self.lives[name.region] = {**kept, now(): "CANCELLING", now() + 5: "CANCELLED"}


class Race(Heard, RaceTrigger):
    """A race in a service of the test's."""

    def __init__(self, service: RegionsHook) -> None:
        jobs = [service.name(region) for region in service.lives]
        super().__init__(
            job=jobs[0],
            jobs=jobs,
            cancel_on_kill=False,
            execution_key="key",
            installation="ours",
            region=ONE,
            gcp_conn_id="google_cloud_default",
            impersonation_chain=None,
            poll_interval=INTERVAL,
            max_outage=MAX_OUTAGE,
        )
        self.service: Any = service

    def hook(self) -> Any:
        """Return the service."""
        return self.service

    async def watched(self, *, shared: bool) -> tuple[float, Any]:
        """Return when the wait ends, and with what."""
        async with asyncio.timeout(DAY):
            if not shared:
                event: Any = await self.watch()
            else:
                looks = SharedLooks(self.source(self.service), self.poll_interval).looks()
                (event,) = [event.payload async for event in self.filter_shared_stream(looks)]
            return now(), event


@pytest.fixture(params=[False, True], ids=["alone", "shared"])
def shared(request: pytest.FixtureRequest) -> bool:
    """Both ways to look."""
    return bool(request.param)


def test_of_two_that_start_between_two_looks_the_earlier_wins(
    run_timeless: RunTimeless, *, shared: bool
) -> None:
    """What was seen to wait may have started meanwhile, and earlier than the one that was seen to run."""
    # While the second look, which begins later after a slow one alone, waits for the other region's answer.
    start = 45 if shared else 70
    service = RegionsHook(
        {
            ONE: {0: "PENDING", start: "RUNNING", 500: "SUCCEEDED"},
            TWO: {0: "PENDING", start + 2: "RUNNING", 500: "SUCCEEDED"},
        }
    )
    service.read_seconds[TWO] = 25.0
    _, event = run_timeless(Race(service).watched(shared=shared))
    assert event["snapshot"]["job"] == service.name(ONE)
    assert {region for _, region in service.cancels} == {TWO}


def test_a_lead_is_made_sure_of_once(run_timeless: RunTimeless) -> None:
    """Who shares a loop adds a look of its own when somebody leads, not with each of the loop's."""
    service = RegionsHook({ONE: {0: "PENDING", 40: "RUNNING", 1000: "SUCCEEDED"}, TWO: {0: "PENDING"}})
    service.cancel_errors[TWO] = (Forbidden("not you"), FOR_EVER)
    run_timeless(Race(service).watched(shared=True))
    assert sorted(service.gets) == [ONE, TWO]
    assert len(service.cancels) > 20


def test_all_losers_are_cancelled_at_once(run_timeless: RunTimeless, *, shared: bool) -> None:
    """A region that is slow to answer keeps no job elsewhere going."""
    service = RegionsHook(
        {
            ONE: {0: "PENDING", 20: "RUNNING", 500: "SUCCEEDED"},
            TWO: {0: "PENDING"},
            THREE: {0: "PENDING", 50: "RUNNING"},
        }
    )
    service.cancel_seconds[TWO] = 25.0
    run_timeless(Race(service).watched(shared=shared))
    (first, _), (second, _), *_ = service.cancels
    assert first == second
    assert "RUNNING" not in service.lives[THREE].values()


@pytest.mark.parametrize("outage", [FOR_EVER, (70.0, DAY)])
@pytest.mark.parametrize("cancelled", [True, False])
def test_a_loser_that_is_out_of_sight(
    run_timeless: RunTimeless, outage: tuple[float, float], *, cancelled: bool, shared: bool
) -> None:
    """
    A region that is away for longer than an outage may last hides neither who wins nor the end of that one; what
    goes on there in the end is told.
    """
    service = RegionsHook({ONE: {0: "PENDING", 500: "RUNNING", 2000: "SUCCEEDED"}, TWO: {0: "PENDING"}})
    service.read_errors[TWO] = (AWAY, outage)
    if not cancelled:
        service.cancel_errors[TWO] = (AWAY, outage)
    race = Race(service)
    end, event = run_timeless(race.watched(shared=shared))
    assert (event["status"], event["snapshot"]["state"]) == ("settled", "JOB_STATE_SUCCEEDED")
    assert event["snapshot"]["job"] == service.name(ONE)
    # The end is seen within a round, and is the first of the tries; no pause is that of an outage.
    tries = 1 if cancelled else 5
    assert 2000 + (tries - 1) * INTERVAL <= end <= 2000 + tries * INTERVAL * 1.1
    assert (service.lives[TWO][max(service.lives[TWO])] == "CANCELLED") is cancelled
    warnings = [line for line in race.heard.lines if line.startswith(f"{service.name(TWO)} may still run")]
    assert len(warnings) == (0 if cancelled else 2)
    assert cancelled or "CancelOrphanedJobsOperator" in warnings[-1]


def test_a_loser_that_is_gone(run_timeless: RunTimeless, *, shared: bool) -> None:
    """A loser that cannot be read any more, since it was deleted, takes nothing from the winner."""
    service = RegionsHook({ONE: {0: "PENDING", 100: "RUNNING", 500: "SUCCEEDED"}, TWO: {0: "PENDING"}})
    gone = (NotFound("no such job"), (150.0, DAY))
    service.cancel_errors[TWO] = (Forbidden("not you"), (0.0, 150.0))
    service.read_errors[TWO] = gone
    _, event = run_timeless(Race(service).watched(shared=shared))
    assert (event["status"], event["snapshot"]["job"]) == ("settled", service.name(ONE))


def test_a_winner_that_is_out_of_sight(run_timeless: RunTimeless, *, shared: bool) -> None:
    """An outage that hides the winner for too long ends the wait, whoever else can be seen."""
    service = RegionsHook({ONE: {0: "PENDING", 100: "RUNNING"}, TWO: {0: "PENDING"}})
    service.read_errors[ONE] = (AWAY, (300.0, DAY))
    service.cancel_errors[TWO] = (Forbidden("not you"), FOR_EVER)
    end, event = run_timeless(Race(service).watched(shared=shared))
    assert (event["name"], event["status"]) == (service.name(ONE), "unreachable")
    assert 300 + MAX_OUTAGE <= end <= 300 + MAX_OUTAGE + 4 * INTERVAL


def test_nobody_in_sight(run_timeless: RunTimeless, *, shared: bool) -> None:
    """While nobody leads the wait ends with an outage that is everywhere."""
    service = RegionsHook({ONE: {0: "PENDING"}, TWO: {0: "PENDING"}})
    service.read_errors = {ONE: (AWAY, (100.0, DAY)), TWO: (AWAY, (300.0, DAY))}
    end, event = run_timeless(Race(service).watched(shared=shared))
    assert event["status"] == "unreachable"
    assert end >= 300 + MAX_OUTAGE


def test_a_lead_that_is_lost_before_it_is_sure(run_timeless: RunTimeless, *, shared: bool) -> None:
    """Nobody is cancelled for a job that has lost its machines when it is looked at again, not even the unseen."""
    service = RegionsHook(
        {
            ONE: {0: "PENDING", 25: "RUNNING", 36 if shared else 46: "FAILED"},
            TWO: {0: "PENDING", 200: "RUNNING", 500: "SUCCEEDED"},
            THREE: {0: "PENDING"},
        }
    )
    service.read_errors[TWO] = (AWAY, (0.0, 70.0))
    service.read_seconds[THREE] = 10.0
    _, event = run_timeless(Race(service).watched(shared=shared))
    assert event["snapshot"]["job"] == service.name(TWO)
    assert {region for _, region in service.cancels} == {THREE}


def test_a_race_whose_task_was_killed(run_timeless: RunTimeless) -> None:
    """All its jobs are cancelled, whatever is said of one; the log names those that were."""
    service = RegionsHook({ONE: {0: "PENDING"}, TWO: {0: "PENDING"}, THREE: {0: "RUNNING"}})
    service.cancel_errors = {
        ONE: (Forbidden("not you"), FOR_EVER),
        TWO: (NotFound("no such job"), FOR_EVER),
    }
    race = Race(service)
    with pytest.raises(Forbidden):
        run_timeless(race.cancel_all(race.service))
    assert [region for _, region in service.cancels] == [ONE, TWO, THREE]
    assert race.heard.lines == [
        f"{service.name(ONE)} may still run, it could not be cancelled: 403 not you",
        f"Cancelled {service.name(THREE)}: its task was stopped",
    ]
