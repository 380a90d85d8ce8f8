# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

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
from airflow_vertex_persistent.operators.training.execution import Execution

# As in JSON, which is what a request is.
leaves = st.none() | st.booleans() | st.integers() | st.text(max_size=5)
requests = st.dictionaries(
    st.text(max_size=5),
    st.recursive(
        leaves, lambda inner: st.lists(inner) | st.dictionaries(st.text(max_size=5), inner), max_leaves=8
    ),
    max_size=5,
)


def context_of(**changes: Any) -> Any:
    """Return the context of a task instance that is not mapped."""
    ti = {"dag_id": "night", "task_id": "train", "run_id": "manual__2026-01-01", "map_index": -1, **changes}
    return {"ti": SimpleNamespace(**ti)}


def shuffled(value: Any) -> Any:
    """Return the same value with all keys in reverse order."""
    if isinstance(value, dict):
        return {key: shuffled(value[key]) for key in reversed(list(value))}
    return [shuffled(item) for item in value] if isinstance(value, list) else value


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
    assert label_value(fingerprint(changed)) == fingerprint(changed)


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
        assert (label_value(name), label_value(value)) == (name, value)


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
    assert label_value(name) == name
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
