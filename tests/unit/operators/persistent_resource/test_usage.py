# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

from itertools import product
from typing import Literal

import pytest
from airflow.sdk import TaskInstanceState
from hypothesis import given
from hypothesis import strategies as st

from airflow_vertex_persistent.operators.persistent_resource.usage import (
    COUNT_LAG_SECONDS,
    ActiveJob,
    Next,
    Usage,
    holds,
    machine_usage,
    missing_tasks,
)
from airflow_vertex_persistent.specs.sharing import Span

SPAN = Span("night", ("create",), "delete")
Verdict = Literal["unused", "undecided", "used"]

# What a run does with the resource whose setup is in that state, as long as its teardown has not started.
SETUPS: dict[str | None, Verdict] = {
    None: "unused",
    "scheduled": "unused",
    "queued": "undecided",
    "running": "undecided",
    "deferred": "undecided",
    "awaiting_input": "undecided",
    "restarting": "undecided",
    "up_for_retry": "undecided",
    "up_for_reschedule": "undecided",
    "success": "used",
    "failed": "unused",
    "upstream_failed": "unused",
    "skipped": "unused",
    "removed": "unused",
    "of a newer Airflow": "undecided",
}
# Whether a teardown in that state has started, and so will delete the resource or has had its chance.
TEARDOWNS: dict[str | None, bool] = {
    None: False,
    "scheduled": False,
    "queued": False,
    "running": True,
    "deferred": True,
    "awaiting_input": True,
    "restarting": True,
    "up_for_retry": True,
    "up_for_reschedule": True,
    "success": True,
    "failed": True,
    "upstream_failed": True,
    "skipped": True,
    "removed": False,
    "of a newer Airflow": False,
}


def verdict(span: Span, states: dict[str, str | None]) -> Verdict:
    """Return what one run does with the resource."""
    found = list(holds(span, {"tonight": states}))
    assert all((hold.dag_id, hold.run_id) == (span.dag_id, "tonight") for hold in found)
    if any(hold.decided for hold in found):
        return "used"
    return "undecided" if found else "unused"


def test_the_tables_have_every_state() -> None:
    """No state of Airflow's is left out of the tables of this module."""
    states = {None, "of a newer Airflow", *(state.value for state in TaskInstanceState)}
    assert set(SETUPS) == set(TEARDOWNS) == states


@pytest.mark.parametrize(("setup", "teardown"), list(product(SETUPS, TEARDOWNS)))
def test_a_run_uses_it_from_its_setup_to_its_teardown(setup: str | None, teardown: str | None) -> None:
    """
    In every combination of states, a run uses the resource unless its setup is undone or its teardown has
    started.
    """
    expected = "unused" if TEARDOWNS[teardown] else SETUPS[setup]
    assert verdict(SPAN, {"create": setup, "delete": teardown}) == expected


@pytest.mark.parametrize("setup", SETUPS)
def test_a_run_without_the_teardown(setup: str | None) -> None:
    """A run that has no such teardown never starts it."""
    assert verdict(SPAN, {"create": setup}) == SETUPS[setup]


@pytest.mark.parametrize("teardown", TEARDOWNS)
def test_a_run_without_the_setup(teardown: str | None) -> None:
    """A run that has no such setup does not use the resource."""
    assert verdict(SPAN, {"delete": teardown}) == "unused"


@pytest.mark.parametrize(("first", "second"), list(product(SETUPS, SETUPS)))
def test_one_of_several_setups_is_enough(first: str | None, second: str | None) -> None:
    """With several setups, that one has succeeded counts, then that one is under way."""
    span = Span("night", ("create", "create_bucket"), "delete")
    found = {SETUPS[first], SETUPS[second]}
    expected = next(one for one in ("used", "undecided", "unused") if one in found)
    assert verdict(span, {"create": first, "create_bucket": second, "delete": None}) == expected


@pytest.mark.parametrize(
    ("states", "expected"),
    [
        pytest.param(
            {"create_0": "success", "create_1": None, "delete": None}, "used", id="one teardown for all"
        ),
        pytest.param({"create_0": "success", "delete": "running"}, "unused", id="one teardown, started"),
        pytest.param(
            {"create_0": "success", "create_1": "failed", "delete_0": "running", "delete_1": None},
            "unused",
            id="the like of the setup has started",
        ),
        pytest.param(
            {"create_0": "success", "create_1": "success", "delete_0": "success", "delete_1": None},
            "used",
            id="the like of another setup has not",
        ),
        pytest.param(
            {"create_11": "success", "delete_1": "success", "delete_11": None}, "used", id="two digits"
        ),
        pytest.param(
            {"create": "success", "delete_0": "success", "delete_1": None}, "used", id="not all have"
        ),
        pytest.param(
            {"create": "success", "delete_0": "success", "delete_1": "failed"}, "unused", id="all have"
        ),
        pytest.param({"create_0": "success", "delete": None}, "used", id="not expanded yet"),
        pytest.param({"create": "skipped", "delete": None}, "unused", id="expanded to nothing"),
    ],
)
def test_mapped_tasks(states: dict[str, str | None], expected: Verdict) -> None:
    """A mapped setup has the teardown of the same index, or the one there is, or all of them."""
    assert verdict(SPAN, states) == expected


@pytest.mark.parametrize(
    ("span", "states", "expected"),
    [
        pytest.param(
            Span("night", ("warm.create",), "warm.delete"),
            {"warm.create": "success", "warm.delete": None},
            "used",
            id="in a task group",
        ),
        pytest.param(
            Span("night", ("warm.create",), "warm.delete"),
            {"create": "success", "delete": None},
            "unused",
            id="of no task group",
        ),
        pytest.param(SPAN, {"create_bucket": "success", "delete": None}, "unused", id="same beginning"),
        pytest.param(
            Span("night", ("create",), "create_0"),
            {"create": "success", "create_0": "running"},
            "unused",
            id="a teardown named like a mapped setup",
        ),
    ],
)
def test_names(span: Span, states: dict[str, str | None], expected: Verdict) -> None:
    """Only the span's own tasks count, by their full names."""
    assert verdict(span, states) == expected


def test_tasks_that_no_run_has() -> None:
    """A task that no run has is named; one that a single run has, mapped or not, is not missing."""
    runs: dict[str, dict[str, str | None]] = {"a": {"create_0": None}, "b": {"create_0": "success"}}
    assert missing_tasks(SPAN, runs) == ["delete"]
    assert missing_tasks(SPAN, {}) == ["create", "delete"]
    assert missing_tasks(SPAN, {**runs, "c": {"delete": None}}) == []


@pytest.mark.parametrize(
    ("own", "cancelling", "expected"),
    [(False, False, "used"), (False, True, "undecided"), (True, False, "unused"), (True, True, "undecided")],
)
def test_a_job_on_the_machines(own: bool, cancelling: bool, expected: Verdict) -> None:
    """Another's job uses the resource, the run's own does not, and what is being cancelled is waited for."""
    for used_replicas in (0, 2):
        usage = machine_usage([ActiveJob("job 1", own, cancelling)], used_replicas, COUNT_LAG_SECONDS)
        assert usage == Usage(
            used_by=("job 1",) if expected == "used" else (),
            undecided=("job 1, which is being cancelled",) if expected == "undecided" else (),
        )


@pytest.mark.parametrize(
    ("used_replicas", "seconds", "expected"),
    [
        (0, 0.0, "unused"),
        (0, COUNT_LAG_SECONDS, "unused"),
        (3, 0.0, "undecided"),
        (3, COUNT_LAG_SECONDS - 0.1, "undecided"),
        (3, COUNT_LAG_SECONDS, "used"),
    ],
)
def test_machines_in_use_without_a_job(used_replicas: int, seconds: float, expected: Verdict) -> None:
    """The count of machines may lag behind the end of a job; after a while it is somebody else's."""
    usage = machine_usage([], used_replicas, seconds)
    assert (bool(usage.used_by), bool(usage.undecided)) == (expected == "used", expected == "undecided")
    assert all("3 machines" in text for text in usage.used_by + usage.undecided)


usages = st.builds(Usage, *[st.lists(st.sampled_from("ab")).map(tuple)] * 2)


@given(usages, usages)
def test_what_is_done(first: Usage, second: Usage) -> None:
    """Nothing is deleted that somebody uses or may use, and nothing is left that nobody uses for certain."""
    usage = first + second
    used, undecided = bool(usage.used_by), bool(usage.undecided)
    assert used == bool(first.used_by or second.used_by)
    assert undecided == bool(first.undecided or second.undecided)
    for when_in_use in ("leave", "wait"):
        step = usage.next(when_in_use)
        assert (step is Next.DELETE) == (not used and not undecided)
        assert (step is Next.LEAVE) == (used and when_in_use == "leave")


# The life of a run: states of setup and teardown, and what it does next.
LIFE: list[tuple[str | None, str | None, str]] = [
    (None, None, "begin"),
    ("running", None, "create or adopt"),
    ("running", None, "set up"),
    ("success", None, "train"),
    ("success", None, "begin to tear down"),
    ("success", "running", "look"),
    ("success", "running", "end"),
    ("success", "success", ""),
]
SETUP_FAILED = ("failed", "upstream_failed", "")
World = tuple[tuple[int, ...], bool]


def steps_of(world: World) -> list[World]:
    """Return what the world may be like after one more step of any of its runs: where they are, and the resource."""
    places, there = world
    lives = [*LIFE, SETUP_FAILED]
    runs: dict[str, dict[str, str | None]] = {
        str(number): {"create": lives[place][0], "delete": lives[place][1]}
        for number, place in enumerate(places)
    }
    found: list[World] = []
    for number, place in enumerate(places):
        after = (*places[:number], place + 1, *places[number + 1 :])
        match lives[place][2]:
            case "create or adopt":
                found += [(after, True), ((*places[:number], len(LIFE), *places[number + 1 :]), there)]
            case "look":
                others = {run: states for run, states in runs.items() if run != str(number)}
                found_holds = list(holds(SPAN, others))
                usage = Usage(
                    tuple(str(hold) for hold in found_holds if hold.decided),
                    tuple(str(hold) for hold in found_holds if not hold.decided),
                )
                match usage.next("leave"):
                    case Next.DELETE:
                        found.append((after, False))
                    case Next.LEAVE:
                        found.append((after, there))
            case "begin" | "set up" | "train" | "begin to tear down" | "end":
                found.append((after, there))
    return found


def test_the_last_one_out_deletes() -> None:
    """
    However the steps of three runs mix: no run loses the resource that it has set up, and none is left at the
    end.
    """
    begin: World = ((0, 0, 0), False)
    seen, queue = {begin}, [begin]
    while queue:
        places, there = world = queue.pop()
        assert there or not {2, 3, 4} & set(places), world
        after = steps_of(world)
        ended = set(places) <= {len(LIFE) - 1, len(LIFE)}
        assert bool(after) != ended, world
        assert not (ended and there), world
        queue += set(after) - seen
        seen |= set(after)
    assert len(seen) > 300
