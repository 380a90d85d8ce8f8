# SPDX-License-Identifier: Apache-2.0
"""Resource names, pages, log lines and settings of the emulator."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_vertex_persistent.emulator import EmulatorSettings, VertexEmulator
from airflow_vertex_persistent.emulator.errors import ApiError
from airflow_vertex_persistent.emulator.logs import LogBook
from airflow_vertex_persistent.emulator.names import Key, Location, parse_name, parse_parent, project_number
from airflow_vertex_persistent.emulator.paging import page

if TYPE_CHECKING:
    from pathlib import Path

NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)


def test_a_project_has_one_number() -> None:
    """The same id gives the same twelve digits, another id others, and a number stays."""
    number = project_number("demo-project")
    assert number == project_number("demo-project") == project_number(number)
    assert len(number) == 12
    assert number.isdecimal()
    assert project_number("other-project") != number


def test_names_are_read_and_written() -> None:
    """What is written can be read again."""
    key = Key(Location("123456789012", "northamerica-northeast1"), "42")
    assert parse_name(key.name("customJobs"), "customJobs") == key


@pytest.mark.parametrize("region", ["europe-west4", "us-central1", "me-central2", "northamerica-northeast1"])
def test_regions_are_accepted(region: str) -> None:
    """Anything that looks like a region is one."""
    assert parse_parent(f"projects/p-project/locations/{region}").region == region


@pytest.mark.parametrize(
    "text",
    [
        "projects/demo-project/locations/europe-west4-a",
        "projects/demo-project/locations/-",
        "projects/-/locations/europe-west4",
        "projects/demo-project/locations/europe-west4/",
        "/projects/demo-project/locations/europe-west4",
    ],
)
def test_other_parents_are_refused(text: str) -> None:
    """Zones, wildcards and stray slashes are no places."""
    with pytest.raises(ApiError):
        parse_parent(text)


@given(numbers=st.sets(st.integers(0, 99)), size=st.integers(1, 7), descending=st.booleans())
def test_pages_hold_every_row_once(numbers: set[int], size: int, *, descending: bool) -> None:
    """Whatever the size and direction."""
    rows = sorted(numbers, reverse=descending)
    seen, token = list[int](), ""
    while True:
        chosen, token = page(
            rows, lambda row: row, size=size, token=token, question="all", descending=descending
        )
        seen += chosen
        if not token:
            break
        assert len(chosen) == size
    assert seen == rows


def test_pages_bear_deletions() -> None:
    """Rows that leave between two pages take no others with them."""
    rows = [1, 2, 3, 4]
    first, token = page(rows, lambda row: row, size=2, token="", question="all")
    assert first == [1, 2]
    assert page([3, 4], lambda row: row, size=2, token=token, question="all") == ([3, 4], "")


def test_output_becomes_lines_however_it_arrives(tmp_path: Path) -> None:
    """Pieces are joined, carriage returns dropped, and a last line without end is a line."""
    book = LogBook(tmp_path, lambda: NOON)
    writer = book.writer("42", "workerpool0-0")
    for piece in (b"on", b"e\ntwo\r\nth", b"ree\n\nfour"):
        writer.write(piece)
    writer.close()
    writer.close()
    lines = list(book.lines("42"))
    assert [(line.number, line.text) for line in lines] == [
        (0, "one"),
        (1, "two"),
        (2, "three"),
        (3, ""),
        (4, "four"),
    ]
    assert {line.time for line in lines} == {NOON}


def test_bytes_that_are_no_text_are_kept_readable(tmp_path: Path) -> None:
    """Broken UTF-8 does not lose a line."""
    book = LogBook(tmp_path, lambda: NOON)
    writer = book.writer("42", "workerpool0-0")
    writer.write(b"loss \xff 0.5\n")
    writer.close()
    assert [line.text for line in book.lines("42")] == ["loss \N{REPLACEMENT CHARACTER} 0.5"]


@pytest.mark.parametrize(
    ("text", "severity", "payload"),
    [
        ("plain", "INFO", {"levelname": "INFO", "message": "plain"}),
        (
            '{"severity": "warning", "message": "m", "x": 1}',
            "WARNING",
            {"levelname": "WARNING", "message": "m", "x": 1},
        ),
        ('{"x": 1}', "INFO", {"levelname": "INFO", "message": '{"x": 1}'}),
        ("{broken", "INFO", {"levelname": "INFO", "message": "{broken"}),
    ],
)
def test_json_lines_speak_for_themselves(
    tmp_path: Path, text: str, severity: str, payload: dict[str, Any]
) -> None:
    """Only JSON objects with a message are parsed."""
    book = LogBook(tmp_path, lambda: NOON)
    book.say("42", text)
    assert next(book.lines("42")).payload() == (severity, payload)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"provisioning_seconds": -1}, "use 0 or more"),
        ({"busy_policy": "maybe"}, "use one of queue, fail, reject"),
    ],
)
def test_wrong_settings_are_refused(wrong: dict[str, Any], words: str) -> None:
    """At once, with the name, the value and what is possible."""
    with pytest.raises(ValueError, match=words):
        EmulatorSettings(**wrong)


def test_a_missing_image_folder_is_told_at_once(tmp_path: Path) -> None:
    """Before anything is started."""
    with pytest.raises(ValueError, match="does not exist"):
        VertexEmulator(images={"image": tmp_path / "nothing"})


def test_addresses_exist_while_it_runs() -> None:
    """Asking earlier says what is wrong."""
    with pytest.raises(RuntimeError, match="with statement"):
        _ = VertexEmulator().address


def test_importing_the_emulator_is_cheap() -> None:
    """Google's message types are imported by whoever starts one."""
    code = "import sys, airflow_vertex_persistent.emulator; print({'grpc', 'proto', 'google.protobuf', 'psutil'} & set(sys.modules))"
    seen = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert seen.stdout.strip() == "set()"
