# SPDX-License-Identifier: Apache-2.0
"""Which calls a plan of faults hits, what it refuses to plan, and how calls are counted and limited."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_vertex_persistent.emulator.calls import CallRecord, SubmissionLimit
from airflow_vertex_persistent.emulator.faults import FaultKind, FaultPlan

METHODS = ("CreateCustomJob", "CreatePersistentResource", "GetCustomJob", "ListCustomJobs")


def hits(plan: FaultPlan, method: str, calls: int) -> list[str | None]:
    """What the next calls of a method get."""
    faults = [plan.next(method) for _ in range(calls)]
    return [fault.kind.value if fault else None for fault in faults]


def test_the_faults_of_a_method_are_a_script() -> None:
    """Each lets some calls pass and hits some, one after the other, and then all is well."""
    plan = FaultPlan(METHODS)
    plan.add("GetCustomJob", "unavailable", times=2)
    plan.add("GetCustomJob", "internal", skip=2)
    assert hits(plan, "GetCustomJob", 6) == ["unavailable", "unavailable", None, None, "internal", None]


def test_methods_do_not_disturb_each_other() -> None:
    """A call counts for the faults of its own method alone."""
    plan = FaultPlan(METHODS)
    plan.add("GetCustomJob", "quota", skip=1)
    plan.add("ListCustomJobs", "rate_limit")
    assert hits(plan, "ListCustomJobs", 2) == ["rate_limit", None]
    assert hits(plan, "GetCustomJob", 2) == [None, "quota"]


def test_a_plan_says_what_was_used() -> None:
    """Calls passed and hit can be read until the plan is cleared."""
    plan = FaultPlan(METHODS)
    plan.add("GetCustomJob", "unavailable", times=3, skip=1)
    hits(plan, "GetCustomJob", 3)
    assert [(fault.passed, fault.used) for fault in plan.faults] == [(1, 2)]
    plan.clear()
    assert plan.faults == []
    assert hits(plan, "GetCustomJob", 1) == [None]


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"method": "GetJob"}, "'GetJob' is not one of CreateCustomJob, CreatePersistentResource, "),
        ({"kind": "broken"}, "'broken' is not one of unavailable, deadline_exceeded, "),
        (
            {"kind": "stockout"},
            "no fault of GetCustomJob, only of CreateCustomJob, CreateHyperparameterTuningJob, CreatePers",
        ),
        (
            {"kind": "late_error", "seconds": 1},
            "no fault of GetCustomJob, only of CreateCustomJob, CreateHyperparameterTuningJob$",
        ),
        ({"times": 0}, "use 1 or more"),
        ({"skip": -1}, "skip 0 or more"),
        ({"kind": "slow_reply"}, "slow_reply needs seconds"),
        ({"seconds": 1}, "unavailable has no seconds"),
        ({"kind": "slow_reply", "seconds": 0}, "use more than 0"),
        ({"kind": "slow_reply", "seconds": float("inf")}, "use more than 0"),
        ({"kind": "slow_request", "seconds": 1, "text": "no"}, "slow_request has no text"),
    ],
)
def test_what_makes_no_sense_is_not_planned(wrong: dict[str, Any], words: str) -> None:
    """At once, with what is possible."""
    plan = FaultPlan(METHODS)
    with pytest.raises(ValueError, match=words):
        plan.add(**{"method": "GetCustomJob", "kind": "unavailable"} | wrong)
    assert plan.faults == []


def test_texts_are_those_of_the_service_unless_given() -> None:
    """Another text replaces all of it."""
    plan = FaultPlan(METHODS)
    assert "quota metrics exceed quota limits" in plan.add("CreateCustomJob", "quota").text
    assert "per minute" in plan.add("CreateCustomJob", "rate_limit").text
    assert plan.add("CreateCustomJob", "quota", text="mine").text == "mine"
    assert plan.add("CreateCustomJob", FaultKind.SLOW_REPLY, seconds=1).text == ""


@pytest.mark.parametrize(
    ("method", "permission"),
    [
        ("CreateCustomJob", "aiplatform.customJobs.create"),
        ("ListCustomJobs", "aiplatform.customJobs.list"),
        ("CancelCustomJob", "aiplatform.customJobs.cancel"),
        ("CreatePersistentResource", "aiplatform.persistentResources.create"),
        ("UpdatePersistentResource", "aiplatform.persistentResources.update"),
        ("RebootPersistentResource", "aiplatform.persistentResources.update"),
        ("ListLogEntries", "logging.logEntries.list"),
    ],
)
def test_a_denial_names_the_permission_of_its_method(method: str, permission: str) -> None:
    """The name of the resource is left to the call."""
    service = permission.partition(".")[0]
    assert FaultPlan([method]).add(method, "permission_denied").text == (
        f"Permission '{permission}' denied on resource '//{service}.googleapis.com/{{resource}}' "
        "(or it may not exist)."
    )


def test_calls_are_counted_since_a_reset() -> None:
    """By method, with the seconds that each had left, also for methods that nobody called."""
    calls = CallRecord(METHODS)
    calls.add("GetCustomJob", 2.5)
    calls.add("ListCustomJobs", 1.0)
    calls.add("GetCustomJob", None)
    assert calls.counts() == dict.fromkeys(METHODS, 0) | {"GetCustomJob": 2, "ListCustomJobs": 1}
    assert calls.deadlines("GetCustomJob") == [2.5, None]
    calls.reset()
    assert set(calls.counts().values()) == {0}
    assert calls.deadlines("GetCustomJob") == []
    with pytest.raises(ValueError, match="'GetJob' is not one of"):
        calls.deadlines("GetJob")


def test_submissions_are_limited_in_a_sliding_minute() -> None:
    """Refused ones do not count, and each accepted one makes room a minute later."""
    now = [0.0]
    limit = SubmissionLimit(2, lambda: now[0])
    answers = []
    for now[0] in (0.0, 30.0, 31.0, 59.9, 60.0, 61.0, 90.0):
        answers.append(limit.accepts())
    assert answers == [True, True, False, False, True, False, True]


def test_no_limit_is_no_limit() -> None:
    """Zero accepts everything."""
    limit = SubmissionLimit(0, lambda: 0.0)
    assert all(limit.accepts() for _ in range(1000))
