# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from task_state import Store

from airflow_vertex_persistent.names import label_value
from airflow_vertex_persistent.operators.training.execution import Execution, load_execution, save_execution


class BrokenStore(Store):
    """A task state store that cannot be read."""

    def get(self, key: str, default: Any = None) -> Any:
        """Fail as the store does when the API server is away."""
        raise ConnectionError(key)


def context_of(store: Store) -> Any:
    """Return the context of a task with a store."""
    return {"task_state_store": store}


def test_an_execution_survives_the_store() -> None:
    """A retry knows exactly what the attempt before it kept, with a job and without."""
    context = context_of(Store())
    assert load_execution(context) is None
    execution = Execution.new(2, "demo-project", "europe-west4")
    assert execution.job is None
    for kept in (execution, replace(execution, job="projects/1/locations/europe-west4/customJobs/2")):
        save_execution(context, kept)
        assert load_execution(context) == kept


def test_what_a_later_version_kept_is_passed_over() -> None:
    """After going back to an older version of this package its tasks still find their jobs."""
    store = Store()
    execution = Execution.new(0, "demo-project", "europe-west4")
    save_execution(context_of(store), execution)
    (stored,) = store.values()
    stored["candidates"] = ["on_demand", "flex_start"]
    assert load_execution(context_of(store)) == execution


def test_a_store_that_cannot_be_read_is_an_error() -> None:
    """An API server that is away is never taken for a task that has no job yet."""
    with pytest.raises(ConnectionError):
        load_execution(context_of(BrokenStore()))


def test_keys_are_random_and_valid() -> None:
    """Two executions never find each other's jobs, even if all else about them is equal."""
    keys = {Execution.new(0, "demo-project", "europe-west4").key for _ in range(100)}
    assert len(keys) == 100
    assert all(label_value(key) == key for key in keys)


@pytest.mark.parametrize(
    ("changes", "same"),
    [
        ({}, True),
        ({"key": "other", "job": "other", "first_submit": "2020-01-01T00:00:00+00:00"}, True),
        ({"max_tries": 3}, False),
        ({"project_id": "other"}, False),
        ({"regions": ("us-central1",)}, False),
        ({"regions": ("europe-west4", "us-central1")}, False),
        ({"cleared": True}, False),
    ],
)
def test_which_executions_are_one_run(changes: dict[str, Any], *, same: bool) -> None:
    """A job is taken over in the same run of the task and the same place only."""
    execution = Execution.new(2, "demo-project", "europe-west4")
    assert execution.continues(replace(execution, **changes)) is same


def test_moving_on() -> None:
    """The next candidate begins with a wait of its own and without a job; the first begins anew for a retry."""
    first = replace(
        Execution.new(2, "demo-project", "europe-west4", "us-central1"),
        job="job",
        first_submit="2020-01-01T00:00:00+00:00",
    )
    second = first.without(0, "no machines").going_on()
    assert (second.candidate, second.region, second.job) == (1, "us-central1", None)
    assert second.tried == ((0, "no machines"),)
    assert second.first_submit > first.first_submit
    assert second.key == first.key
    assert second.without(1, "none either").open_candidates == []
    again = second.from_the_first()
    assert (again.candidate, again.region, again.job, again.tried) == (0, "europe-west4", None, ())


def test_how_long_a_job_may_still_show_up() -> None:
    """
    Only between the begin of a create and the keeping of its answer, and only for so long, a job may be on
    its way.
    """
    execution = Execution.new(0, "demo-project", "europe-west4")
    assert execution.seconds_to_look(60.0) == 0
    assert 55 < execution.creating().seconds_to_look(60.0) <= 60
    assert replace(execution, creating_since="2026-01-01T00:00:00+00:00").seconds_to_look(60.0) == 0
    created = execution.creating().created("projects/1/locations/europe-west4/customJobs/2")
    assert created.seconds_to_look(60.0) == 0
    assert created.job == "projects/1/locations/europe-west4/customJobs/2"


def test_a_job_that_was_dealt_with_is_no_news() -> None:
    """Whoever looks for a job without a name does not take one for it that was there before."""
    execution = Execution.new(0, "demo-project", "europe-west4").creating()
    new: Any = {
        "job": "projects/1/locations/europe-west4/customJobs/2",
        "create_time": execution.creating_since,
    }
    assert execution.is_news(new)
    assert not execution.done(new["job"]).is_news(new)
    assert not replace(execution, racing=(new["job"],)).is_news(new)
    assert not execution.refused().is_news(new)


def test_a_refusal_leaves_nothing_to_look_for() -> None:
    """A create that the service has refused has made no job that might still show up."""
    refused = Execution.new(0, "demo-project", "europe-west4").creating().refused()
    assert refused.seconds_to_look(60.0) == 0
    assert refused.creating_since is None


@pytest.mark.parametrize(
    ("start", "end", "first_submit"),
    [
        ("2026-01-01T01:00:00+00:00", "2026-01-01T05:00:00.500+00:00", "2026-01-01T05:00:00.500+00:00"),
        (None, "2026-01-01T05:00:00+00:00", "2026-01-01T00:00:00+00:00"),
        ("2025-12-31T01:00:00+00:00", "2025-12-31T05:00:00+00:00", "2026-01-01T00:00:00+00:00"),
        ("2026-01-01T01:00:00+00:00", None, "2026-01-01T00:00:00+00:00"),
    ],
)
def test_the_wait_begins_anew_after_a_job_that_had_machines(
    start: str | None, end: str | None, first_submit: str
) -> None:
    """Limits on waiting do not count the time for which a job of this execution had its machines."""
    execution = Execution.new(0, "demo-project", "europe-west4")
    execution = replace(execution, first_submit="2026-01-01T00:00:00+00:00")
    ended: Any = {"start_time": start, "end_time": end}
    assert execution.after(ended) == replace(execution, first_submit=first_submit)
