# SPDX-License-Identifier: Apache-2.0
"""The tables of docs/durability.rst say what tests prove, and nothing else."""

from __future__ import annotations

import ast
import re
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

Row = tuple[str, ...]
HEADER = ("What happens", "The task", "The job")
# Behind what happens: a tuning job has been through it too.
TUNING = " †"


@pytest.fixture(scope="module")
def table(root: Path) -> list[Row]:
    """Every row of the page, without its line breaks."""
    text = (root / "docs/durability.rst").read_text()
    # A row goes on while lines are indented.
    found = re.findall(r"^   \* - (.*(?:\n {5,}.*)*)", text, re.MULTILINE)
    rows = [tuple(" ".join(cell.split()) for cell in re.split(r"\n {5}- ", row)) for row in found]
    return [row for row in rows if row != HEADER]


@pytest.fixture(scope="module")
def proved(root: Path) -> set[Row]:
    """What every test that has ``pytest.mark.durability`` says of itself, and with ``tuning=True`` of tuning jobs."""
    rows: set[Row] = set()
    tuning: set[Row] = set()
    for path in (root / "tests").rglob("test_*.py"):
        for function in ast.parse(path.read_text(), path).body:
            if not isinstance(function, ast.FunctionDef) or not function.name.startswith("test_"):
                continue
            for mark in function.decorator_list:
                if isinstance(mark, ast.Call) and ast.unparse(mark.func) == "pytest.mark.durability":
                    row = tuple(ast.literal_eval(argument) for argument in mark.args)
                    tunes = {keyword.arg: ast.literal_eval(keyword.value) for keyword in mark.keywords}
                    (tuning if tunes == {"tuning": True} else rows).add(row)
    return (rows - tuning) | {(row[0] + TUNING, *row[1:]) for row in tuning}


def test_a_test_proves_each_row(table: list[Row], proved: set[Row]) -> None:
    """The page promises nothing, in any of its cells, that no test looks at."""
    assert table
    assert set(table) - proved == set()


def test_each_proof_is_shown(table: list[Row], proved: set[Row]) -> None:
    """What a test proves stands in the page, once."""
    assert proved - set(table) == set()
    assert len(table) == len(set(table))
