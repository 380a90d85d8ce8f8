# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import re
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_vertex_persistent.names import label_value
from airflow_vertex_persistent.operators.labels import (
    default_display_name,
    fingerprint,
    installation,
    job_labels,
)
from airflow_vertex_persistent.operators.training.execution import Execution, load_execution, save_execution

# https://cloud.google.com/vertex-ai/docs: up to 63 lowercase letters, digits, "_" and "-".
VALID_VALUE = re.compile(r"[a-z0-9_-]{0,63}")
ids = st.text(alphabet="aB1-_.:+ é/", max_size=80) | st.text(max_size=80)
# As in JSON, which is what a request is.
leaves = st.none() | st.booleans() | st.integers() | st.text(max_size=5)
requests = st.dictionaries(
    st.text(max_size=5),
    st.recursive(
        leaves, lambda inner: st.lists(inner) | st.dictionaries(st.text(max_size=5), inner), max_leaves=8
    ),
    max_size=5,
)


class Store:
    """A task state store in memory."""

    def __init__(self, **values: Any) -> None:
        self.values = values

    def get(self, key: str) -> Any:
        """Return a value, ``None`` if there is none."""
        return self.values.get(key)

    def set(self, key: str, value: Any) -> None:
        """Keep a value."""
        self.values[key] = value


class BrokenStore(Store):
    """A task state store that cannot be read."""

    def get(self, key: str) -> Any:
        """Fail as the store does when the API server is away."""
        raise ConnectionError(key)


def context_of(*, store: Store | None = None, **changes: Any) -> Any:
    """Return the context of a task instance that is not mapped."""
    ti = {"dag_id": "night", "task_id": "train", "run_id": "manual__2026-01-01", "map_index": -1, **changes}
    return {"ti": SimpleNamespace(**ti), "task_state_store": store or Store()}


def shuffled(value: Any) -> Any:
    """Return the same value with all keys in reverse order."""
    if isinstance(value, dict):
        return {key: shuffled(value[key]) for key in reversed(list(value))}
    return [shuffled(item) for item in value] if isinstance(value, list) else value


@given(ids)
def test_a_label_value_is_valid(text: str) -> None:
    """Whatever a DAG, task or run is called, the API takes the value made of it."""
    assert VALID_VALUE.fullmatch(label_value(text))


@given(ids, ids)
def test_two_texts_never_share_a_label_value(one: str, other: str) -> None:
    """Jobs of different tasks are told apart by their labels."""
    assert (label_value(one) == label_value(other)) == (one == other)


@pytest.mark.parametrize(
    ("one", "other"),
    [("Train", "train"), ("a.b", "a-b"), ("a.b", "a:b"), ("x" * 63, "x" * 64), ("x" * 64, "x" * 65)],
)
def test_texts_that_look_alike_have_other_label_values(one: str, other: str) -> None:
    """What differs only where the API's rules blur it still differs."""
    assert label_value(one) != label_value(other)


@given(st.text(alphabet="abz019_-", max_size=63))
def test_an_allowed_text_is_its_own_label_value(text: str) -> None:
    """Somebody who looks for the jobs of a DAG finds them under the DAG's own name where the API allows it."""
    assert label_value(text) == text


@given(requests)
def test_a_fingerprint_does_not_depend_on_the_order(request: dict[str, Any]) -> None:
    """A DAG file that lists the same fields in another order still asks for the same job."""
    assert fingerprint(shuffled(request)) == fingerprint(request)


@pytest.mark.parametrize(
    "changed",
    [
        {"display_name": "day", "job_spec": {"args": ["a", "b"]}},
        {"display_name": "night", "job_spec": {"args": ["b", "a"]}},
        {"display_name": "night", "job_spec": {"args": ["a", "b"], "network": None}},
        {"display_name": "night"},
    ],
)
def test_a_fingerprint_tells_requests_apart(changed: dict[str, Any]) -> None:
    """A changed request has another fingerprint, and each is a valid label value."""
    request = {"display_name": "night", "job_spec": {"args": ["a", "b"]}}
    assert fingerprint(changed) != fingerprint(request)
    assert VALID_VALUE.fullmatch(fingerprint(changed))


def test_an_execution_survives_the_store() -> None:
    """A retry knows exactly what the attempt before it kept, with a job and without."""
    context = context_of()
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
    save_execution(context_of(store=store), execution)
    (stored,) = store.values.values()
    stored["candidates"] = ["on_demand", "flex_start"]
    assert load_execution(context_of(store=store)) == execution


def test_a_store_that_cannot_be_read_is_an_error() -> None:
    """An API server that is away is never taken for a task that has no job yet."""
    with pytest.raises(ConnectionError):
        load_execution(context_of(store=BrokenStore()))


def test_keys_are_random_and_valid() -> None:
    """Two executions never find each other's jobs, even if all else about them is equal."""
    keys = {Execution.new(0, "demo-project", "europe-west4").key for _ in range(100)}
    assert len(keys) == 100
    assert all(VALID_VALUE.fullmatch(key) for key in keys)


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


def test_labels_say_whose_job_it_is() -> None:
    """Installation, DAG, task and run are on the job, each as the API takes it."""
    execution = Execution.new(0, "demo-project", "europe-west4")
    request = {"display_name": "night"}
    labels = job_labels(context_of(run_id="manual__2026-01-01T00:00"), execution, request, keep=False)
    assert labels["airflow_execution"] == execution.key
    assert labels["airflow_request"] == fingerprint(request)
    assert labels["airflow_dag"] == "night"
    assert labels["airflow_task"] == "train"
    assert labels["airflow_run"].startswith("manual__2026-01-01t00-00-")
    assert labels["airflow_installation"] == installation()
    assert not {"airflow_map_index", "airflow_keep", "airflow_logical_date"} & labels.keys()
    for name, value in labels.items():
        assert VALID_VALUE.fullmatch(name)
        assert VALID_VALUE.fullmatch(value)


def test_a_mapped_task_has_its_index_among_the_labels() -> None:
    """The first of mapped tasks is 0, not "not mapped"."""
    execution = Execution.new(0, "demo-project", "europe-west4")
    assert job_labels(context_of(map_index=0), execution, {}, keep=False)["airflow_map_index"] == "0"
    assert default_display_name(context_of(map_index=0)).endswith("-0")


def test_a_default_display_name_is_cut() -> None:
    """However long the names of DAG, task and run are, the API takes the name made of them."""
    assert default_display_name(context_of()) == "night-train-manual__2026-01-01"
    assert len(default_display_name(context_of(dag_id="x" * 200))) == 128


def test_the_installation_has_the_name_of_its_option(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever runs several Airflows in one project can give each a name."""
    monkeypatch.setenv("AIRFLOW__VERTEX_PERSISTENT__INSTALLATION", "Team A")
    labels = job_labels(context_of(), Execution.new(0, "demo-project", "europe-west4"), {}, keep=True)
    assert labels["airflow_installation"] == label_value("Team A") == installation()
    assert labels["airflow_keep"] == "true"


@pytest.mark.parametrize("option", ["AIRFLOW__API__BASE_URL", "AIRFLOW__CORE__FERNET_KEY"])
def test_installations_without_a_name_are_told_apart(monkeypatch: pytest.MonkeyPatch, option: str) -> None:
    """Without the option, another address or another Fernet key is another installation."""
    monkeypatch.setenv("AIRFLOW__API__BASE_URL", "https://airflow.example")
    monkeypatch.setenv("AIRFLOW__CORE__FERNET_KEY", "one key")
    name = installation()
    assert name is not None
    assert installation() == name
    assert VALID_VALUE.fullmatch(name)
    monkeypatch.setenv(option, "https://other.example")
    assert installation() != name


@pytest.mark.parametrize("key", ["", "{FERNET_KEY}"])
def test_an_installation_that_cannot_be_told_apart_has_no_name(
    monkeypatch: pytest.MonkeyPatch, key: str
) -> None:
    """Without a Fernet key all installations would look alike: none gets a name, nor its jobs the label."""
    monkeypatch.setenv("AIRFLOW__CORE__FERNET_KEY", key)
    assert installation() is None
    execution = Execution.new(0, "demo-project", "europe-west4")
    assert "airflow_installation" not in job_labels(context_of(), execution, {}, keep=False)
