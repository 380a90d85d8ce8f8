# SPDX-License-Identifier: Apache-2.0
"""What makes lists of many jobs quick: rows by place and label, what a filter needs, masks that are read once."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

import pytest
from google.cloud.aiplatform_v1.types import CustomJob, JobState
from google.protobuf.field_mask_pb2 import FieldMask
from hypothesis import given
from hypothesis import strategies as st

from airflow_vertex_persistent.emulator.errors import ApiError
from airflow_vertex_persistent.emulator.job_table import JobTable
from airflow_vertex_persistent.emulator.journal import Journal
from airflow_vertex_persistent.emulator.names import Key, Location
from airflow_vertex_persistent.emulator.services.job_filter import job_test, label_needs
from airflow_vertex_persistent.emulator.services.read_mask import masking
from airflow_vertex_persistent.emulator.table import EVERYWHERE

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

HERE, THERE = Location("123456789012", "europe-west4"), Location("123456789012", "us-central1")
PATHS = (
    "name",
    "state",
    "labels",
    "create_time",
    "error",
    "error.message",
    "job_spec",
    "job_spec.scheduling",
    "job_spec.scheduling.timeout",
    "job_spec.persistent_resource_id",
    "job_spec.worker_pool_specs",
)


@pytest.fixture
def table(tmp_path: Path) -> Iterator[JobTable[CustomJob]]:
    """Twenty jobs in one place, each fifth with a label, and one in another."""
    with closing(Journal(tmp_path / "emulator.db")) as journal:
        table = JobTable(CustomJob, journal)
        for number in range(1, 21):
            labels = {"all": "yes", "fifth": str(number // 5)} if number % 5 == 0 else {"all": "yes"}
            job = CustomJob(display_name=f"job {number}", labels=labels, state=JobState.JOB_STATE_PENDING)
            table.put(Key(HERE, str(number)), job)
        table.put(Key(THERE, "21"), CustomJob(labels={"fifth": "1"}))
        yield table


def numbers(table: JobTable[CustomJob], *question: object) -> list[int]:
    """Numbers of the rows that a question gives."""
    return [row.number for row in table.rows(*question)]  # type: ignore[arg-type]


def test_rows_come_newest_first_and_go_on_anywhere(table: JobTable[CustomJob]) -> None:
    """In one place or in all; also from a job that is gone."""
    assert numbers(table, HERE) == list(range(20, 0, -1))
    assert numbers(table, EVERYWHERE) == list(range(21, 0, -1))
    assert numbers(table, THERE) == [21]
    assert numbers(table, Location("1", "us-east1")) == []
    table.remove(Key(HERE, "4"))
    assert numbers(table, HERE, 4) == [3, 2, 1]


def test_a_changed_job_keeps_its_place(table: JobTable[CustomJob]) -> None:
    """With its new state."""
    table.put(Key(HERE, "7"), CustomJob(display_name="job 7", state=JobState.JOB_STATE_RUNNING))
    assert numbers(table, HERE) == list(range(20, 0, -1))
    assert [row.state for row in table.rows(HERE, 8)][:2] == ["JOB_STATE_RUNNING", "JOB_STATE_PENDING"]


def test_rare_labels_spare_looking_at_the_rest(table: JobTable[CustomJob]) -> None:
    """Common ones do not; in all places at once there is no index; removed jobs are gone from it."""
    some, all_of_them = ("fifth", frozenset({"4", "1", "9"})), ("all", frozenset({"yes"}))
    assert numbers(table, HERE, None, [all_of_them, some]) == [20, 5]
    assert numbers(table, HERE, 20, [some]) == [5]
    assert numbers(table, HERE, None, [all_of_them]) == list(range(20, 0, -1))
    assert len(numbers(table, EVERYWHERE, None, [some])) == 21
    table.remove(Key(HERE, "20"))
    assert numbers(table, HERE, None, [some]) == [5]


@pytest.mark.parametrize(
    ("text", "needs"),
    [
        ("labels.a=1", [("a", {"1"})]),
        ("labels.a=1 OR labels.a=2 OR labels.a=3", [("a", {"1", "2", "3"})]),
        (
            'labels.a=1 AND (labels.b=2 OR labels.b=3) AND state!="JOB_STATE_FAILED"',
            [("a", {"1"}), ("b", {"2", "3"})],
        ),
        ("labels.a=1 OR labels.b=1", []),
        ('labels.a=1 OR state="JOB_STATE_FAILED"', []),
        ("NOT labels.a=1", []),
        ("labels.a!=1", []),
        ("labels.a:*", []),
        ("", []),
    ],
)
def test_a_filter_tells_which_labels_it_needs(text: str, needs: list[tuple[str, set[str]]]) -> None:
    """Only those without which it cannot hold."""
    assert [(label, set(values)) for label, values in label_needs(job_test(text))] == needs


@given(paths=st.lists(st.sampled_from(PATHS), min_size=1))
def test_masks_copy_what_protobuf_would_copy(paths: list[str]) -> None:
    """Whichever paths, in whichever order, also of fields that are not set."""
    job = CustomJob(
        name="job",
        labels={"a": "b"},
        state=JobState.JOB_STATE_RUNNING,
        create_time="2026-01-31T12:00:00Z",
        job_spec={
            "persistent_resource_id": "nightly",
            "scheduling": {"timeout": "60s", "disable_retries": True},
            "worker_pool_specs": [{"replica_count": 1}, {"replica_count": 2}],
        },
    )
    mask, expected, copied = FieldMask(paths=paths), CustomJob.pb()(), CustomJob.pb()()
    mask.MergeMessage(CustomJob.pb(job), expected)
    masking(CustomJob.pb().DESCRIPTOR, mask)(CustomJob.pb(job), copied)
    assert copied == expected


def test_an_empty_mask_copies_everything_and_a_wrong_one_is_refused() -> None:
    """A star is as good as nothing."""
    job, kind = CustomJob.pb(CustomJob(name="job", labels={"a": "b"})), CustomJob.pb().DESCRIPTOR
    for mask in (FieldMask(), FieldMask(paths=["*"])):
        copied = CustomJob.pb()()
        masking(kind, mask)(job, copied)
        assert copied == job
    with pytest.raises(ApiError, match="no field of CustomJob"):
        masking(kind, FieldMask(paths=["labels.a"]))
