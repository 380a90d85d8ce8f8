# SPDX-License-Identifier: Apache-2.0
"""What is kept for the next start."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

import pytest
from google.cloud.aiplatform_v1.types import CustomJob
from google.longrunning.operations_pb2 import Operation

from airflow_vertex_persistent.emulator.journal import Journal
from airflow_vertex_persistent.emulator.names import Key, Location
from airflow_vertex_persistent.emulator.store import Store

if TYPE_CHECKING:
    from pathlib import Path

HERE, THERE = Location("123456789012", "europe-west4"), Location("123456789012", "us-central1")


def job(name: str) -> CustomJob:
    """A job with a name."""
    return CustomJob(display_name=name)


def test_a_new_store_knows_what_an_old_one_got(tmp_path: Path) -> None:
    """In order of arrival, each with its last content, without what was removed."""
    path = tmp_path / "emulator.db"
    with closing(Journal(path)) as journal:
        store = Store(journal)
        for number in "123":
            store.jobs.put(Key(HERE, number), job(number))
        store.jobs.put(Key(THERE, "1"), job("there"))
        store.jobs.put(Key(HERE, "1"), job("changed"))
        store.jobs.remove(Key(HERE, "2"))
        store.jobs.remove(Key(HERE, "4"))
        store.operations.put(Key(HERE, "1"), Operation(name="operation", done=True))
    with closing(Journal(path)) as journal:
        again = Store(journal)
    assert again.jobs.newest_first(HERE) == [(Key(HERE, "3"), job("3")), (Key(HERE, "1"), job("changed"))]
    assert again.jobs.get(Key(THERE, "1")) == job("there")
    assert again.operations.get(Key(HERE, "1")) == Operation(name="operation", done=True)
    assert again.resources.newest_first() == []


def test_a_file_of_something_else_is_told(tmp_path: Path) -> None:
    """With its path and the way out."""
    path = tmp_path / "emulator.db"
    path.write_bytes(b"not a database, but longer than the header of one" * 10)
    with pytest.raises(OSError, match=r"emulator\.db cannot be used: .* Remove it"):
        Journal(path)
