# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import asyncio
import contextvars
import os
import signal
import threading
from typing import TYPE_CHECKING, Any, Self

import pytest
from google.api_core.exceptions import NotFound, ServiceUnavailable
from heard import Heard
from hypothesis import given
from hypothesis import strategies as st

from airflow_vertex_persistent.exceptions import PermissionDeniedError
from airflow_vertex_persistent.names import ResourceName
from airflow_vertex_persistent.triggers.base import VertexTrigger
from airflow_vertex_persistent.triggers.watch import Watch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

THING = ResourceName("acme", "europe-west4", "customJobs", "789")
DONE = {"state": "DONE"}
WORKING = {"state": "WORKING"}
AWAY = ServiceUnavailable("away")


class NoHook:
    """A hook that is not needed, since the answers are given."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        return None


class Answers(Heard, VertexTrigger):
    """Watches a thing whose answers are given one after the other; DONE is its end."""

    def __init__(
        self,
        answers: Sequence[Any] = (),
        *,
        poll_interval: float = 1e-6,
        max_outage: float = 10.0,
        on_look: Callable[[], None] | None = None,
    ) -> None:
        super().__init__(
            region="europe-west4",
            gcp_conn_id="google_cloud_default",
            impersonation_chain=None,
            poll_interval=poll_interval,
            max_outage=max_outage,
        )
        self.answers = list(answers)
        self.on_look = on_look
        self.looks = 0

    @property
    def name(self) -> ResourceName:
        """Full name of the thing."""
        return THING

    @property
    def subject(self) -> str:
        """Name of the thing."""
        return "The thing"

    def hook(self) -> Any:
        """Return something to enter."""
        return NoHook()

    async def look(self, hook: Any) -> Mapping[str, Any] | None:
        """Give the next answer; the last one is given again and again."""
        self.looks += 1
        if self.on_look is not None:
            self.on_look()
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        result: Mapping[str, Any] | None = answer
        return result

    def settled(self, snapshot: Mapping[str, Any] | None) -> bool:
        """Tell whether it is done, or gone."""
        return snapshot is None or snapshot["state"] == "DONE"

    def source(self, hook: Any) -> Any:
        """Share with nobody."""
        raise AssertionError

    def source_key(self) -> tuple[()]:
        """Share with nobody."""
        return ()


async def events(trigger: VertexTrigger) -> list[Any]:
    """Return everything that a trigger yields."""
    return [event.payload async for event in trigger.run()]


def test_one_event_at_the_end() -> None:
    """A watch yields once, with the last answer, and looks no more."""
    trigger = Answers([WORKING, WORKING, DONE])
    assert asyncio.run(events(trigger)) == [
        {"name": str(THING), "status": "settled", "snapshot": DONE, "details": {}, "error": ""}
    ]
    assert trigger.looks == 3


def test_not_there_is_an_answer() -> None:
    """A thing that is not there settles with nothing where that is what was waited for."""
    assert asyncio.run(events(Answers([None]))) == [
        {"name": str(THING), "status": "settled", "snapshot": None, "details": {}, "error": ""}
    ]


def test_an_outage_is_waited_out() -> None:
    """Errors that pass by themselves do not end a watch."""
    trigger = Answers([WORKING, AWAY, AWAY, WORKING, AWAY, DONE])
    assert asyncio.run(events(trigger)) == [
        {"name": str(THING), "status": "settled", "snapshot": DONE, "details": {}, "error": ""}
    ]


def test_an_outage_that_lasts_ends_the_watch() -> None:
    """No answer for the time of an outage is one event that says so."""
    (event,) = asyncio.run(events(Answers([WORKING, AWAY], max_outage=0.01)))
    assert (event["status"], event["snapshot"], event["error"]) == ("unreachable", None, str(AWAY))


def test_a_refusal_ends_the_watch_at_once() -> None:
    """An error that does not pass is one event, without another look."""
    trigger = Answers([NotFound("no such job")])
    (event,) = asyncio.run(events(trigger))
    assert event["status"] == "failed"
    assert "no such job" in event["error"]
    assert trigger.looks == 1


def test_a_missing_permission_is_told_as_one() -> None:
    """The event keeps the whole text of the error, and says of which type it is."""
    trigger = Answers([PermissionDeniedError("nobody may\nNext step: ask")])
    (event,) = asyncio.run(events(trigger))
    assert (event["status"], event["error"]) == ("denied", "nobody may\nNext step: ask")
    assert trigger.looks == 1


def test_our_own_errors_propagate() -> None:
    """A bug is raised with its traceback, in the triggerer and on a worker alike."""
    with pytest.raises(ZeroDivisionError, match="bug"):
        asyncio.run(events(Answers([ZeroDivisionError("bug")])))
    with pytest.raises(ZeroDivisionError, match="bug"):
        Answers([ZeroDivisionError("bug")]).watch_here()


def test_each_change_is_logged_once() -> None:
    """The log has one line for each change of state and for each begin and end of an outage."""
    trigger = Answers([WORKING, WORKING, AWAY, AWAY, WORKING, {"state": "ENDING"}, AWAY, DONE])
    asyncio.run(events(trigger))
    assert trigger.heard.lines == [
        "The thing is WORKING",
        f"No answer from Vertex AI, still trying: {AWAY}",
        "Vertex AI answers again",
        "The thing is ENDING",
        f"No answer from Vertex AI, still trying: {AWAY}",
        "Vertex AI answers again",
        "The thing is DONE",
    ]


def test_a_state_that_stays_is_said_less_and_less_often() -> None:
    """The log of a task that waits for long shows that somebody still looks: after 1, 3, 7, 15, 25 and 35 minutes."""
    trigger = Answers()
    watch = Watch(trigger)
    said = []
    for minute in range(36):
        before = len(trigger.heard.lines)
        watch.saw(WORKING, minute * 60.0)
        said += [minute] * (len(trigger.heard.lines) - before)
    assert said == [0, 1, 3, 7, 15, 25, 35]
    assert trigger.heard.lines == ["The thing is WORKING", *["The thing is still WORKING"] * 6]


SECONDS = st.floats(min_value=0.01, max_value=100_000)


@given(poll_interval=SECONDS, max_outage=SECONDS, calls=st.lists(st.floats(0, 60), min_size=1, max_size=60))
def test_pauses_of_an_outage(poll_interval: float, max_outage: float, calls: list[float]) -> None:
    """Pauses in an outage grow up to a minute, none goes past its limit, and it ends exactly there."""
    trigger = Answers(poll_interval=poll_interval, max_outage=max_outage)
    watch, start, now = Watch(trigger), 1000.0, 1000.0
    before = 0.0
    for call in calls:
        event = watch.missed(AWAY, now)
        assert (event is not None) is (now - start >= max_outage)
        if event is not None:
            assert event["status"] == "unreachable"
            return
        pause, left = watch.pause(now), max_outage - (now - start)
        assert 0 <= pause <= left + 1e-6
        longest = max(poll_interval, 60.0)
        assert pause <= longest * 1.1
        grown = min(before * 1.5, longest)  # doubled, less the jitter of both
        assert pause >= grown or pause >= left - 1e-6
        before = pause
        now += pause + call


@given(st.integers(1, 5000))
def test_an_outage_of_days(failures: int) -> None:
    """However often a look fails within the limit, the next pause can be told."""
    watch = Watch(Answers(poll_interval=30.0, max_outage=1e9))
    for _ in range(failures):
        watch.missed(AWAY, 0.0)
    assert 60.0 <= watch.pause(0.0) <= 66.0


@given(poll_interval=SECONDS)
def test_pauses_without_an_outage(poll_interval: float) -> None:
    """Between two answers lies the interval that was asked for, at most a tenth more, also after an outage."""
    watch = Watch(Answers(poll_interval=poll_interval, max_outage=1e9))
    watch.saw(WORKING, 0.0)
    assert poll_interval <= watch.pause(0.0) <= poll_interval * 1.1
    watch.missed(AWAY, 5.0)
    watch.saw(WORKING, 6.0)
    assert poll_interval <= watch.pause(6.0) <= poll_interval * 1.1


@given(
    looks=st.lists(st.tuples(st.booleans(), st.floats(0, 50)), min_size=1, max_size=40),
    max_outage=st.floats(1, 200),
)
def test_only_outages_in_a_row_count(looks: list[tuple[bool, float]], max_outage: float) -> None:
    """One answer in between starts the time of an outage anew."""
    watch, now, since = Watch(Answers(max_outage=max_outage)), 0.0, None
    for answered, later in looks:
        now += later
        if answered:
            since = None
            assert watch.saw(WORKING, now) is None
            continue
        since = now if since is None else since
        assert (watch.missed(AWAY, now) is not None) is (now - since >= max_outage)


class Interrupted(BaseException):
    """What a signal handler raises, as Airflow's do."""


@pytest.fixture
def interruptible() -> Iterator[None]:
    """SIGUSR1 raises in the main thread as long as the test runs."""

    def interrupt(*_: object) -> None:
        raise Interrupted

    before = signal.signal(signal.SIGUSR1, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGUSR1, before)


@pytest.mark.usefixtures("interruptible")
@pytest.mark.parametrize("answer", [WORKING, AWAY])
def test_a_watch_on_a_worker_can_be_interrupted(answer: Any) -> None:
    """An exception of a signal handler ends the watch while it sleeps, and leaves no thread."""
    before = set(threading.enumerate())
    trigger = Answers([WORKING, WORKING, answer], poll_interval=0.05, max_outage=1e6)

    def on_look() -> None:
        if trigger.looks == 3:
            trigger.poll_interval = 3600.0
            os.kill(os.getpid(), signal.SIGUSR1)

    trigger.on_look = on_look
    with pytest.raises(Interrupted):
        trigger.watch_here()
    assert set(threading.enumerate()) <= before
    assert trigger.looks == 3


@pytest.mark.usefixtures("interruptible")
def test_a_watch_on_a_worker_can_be_interrupted_from_its_first_moment() -> None:
    """A signal that comes while the watch is being started ends it as well, and leaves no thread."""
    before = set(threading.enumerate())
    for _ in range(20):
        trigger = Answers([WORKING], poll_interval=3600.0)
        trigger.on_look = lambda: os.kill(os.getpid(), signal.SIGUSR1)
        with pytest.raises(Interrupted):
            trigger.watch_here()
        assert set(threading.enumerate()) <= before


def test_a_watch_on_a_worker_ends_as_in_the_triggerer() -> None:
    """Both ways to watch give the same event, and no thread is left."""
    before = set(threading.enumerate())
    answers = [WORKING, AWAY, DONE]
    assert [Answers(answers).watch_here()] == asyncio.run(events(Answers(answers)))
    assert set(threading.enumerate()) <= before


def test_a_watch_on_a_worker_knows_its_task() -> None:
    """Context variables of the task, which its log needs, are there in the watch."""
    variable = contextvars.ContextVar("task", default="none")
    variable.set("train")
    seen: list[str] = []
    Answers([DONE], on_look=lambda: seen.append(variable.get())).watch_here()
    assert seen == ["train"]
