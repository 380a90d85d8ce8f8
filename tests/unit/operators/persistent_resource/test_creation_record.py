# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest
from task_state import Store

from airflow_vertex_persistent.operators.persistent_resource.creation_record import CreationRecord


def context(store: Store, max_tries: int = 3) -> Any:
    """Return the part of a task's context that a record needs."""
    return {"task_state_store": store, "ti": SimpleNamespace(max_tries=max_tries)}


def test_a_retry_knows_what_went_before() -> None:
    """The attempts of an execution share key, beginning and pauses, also those of a newer version of this package."""
    store = Store()
    first = CreationRecord.load(context(store), "request")
    assert CreationRecord.load(context(store), "request") == first
    changed = replace(first, rotated=True, pauses=2, pause_until=first.since, pause_reason="machines")
    changed.save(context(store))
    ((key, stored),) = store.items()
    store[key] = {**stored, "something_new": 1}
    assert CreationRecord.load(context(store), "request") == changed


@pytest.mark.parametrize(("max_tries", "request_"), [(7, "request"), (3, "another")])
def test_another_execution_begins_anew(max_tries: int, request_: str) -> None:
    """A task that was cleared, or whose DAG was changed, has all its time again, and no resource yet."""
    store = Store()
    first = CreationRecord.load(context(store), "request")
    second = CreationRecord.load(context(store, max_tries), request_)
    assert second.key != first.key
    assert second.since >= first.since
    assert CreationRecord.load(context(store, max_tries), request_) == second


def test_when_all_waiting_is_over() -> None:
    """The limit counts from the beginning of the execution; none is none."""
    record = CreationRecord("key", 3, "request", since="2026-11-22T01:00:00+00:00")
    assert record.deadline(7200) == datetime(2026, 11, 22, 3, tzinfo=UTC)
    assert record.deadline(0) is None
