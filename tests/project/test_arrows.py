# SPDX-License-Identifier: Apache-2.0
"""The table of rooms in CONTRIBUTING.md says who imports whom."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from tests.project.conftest import Module

Rooms = dict[str, list[str]]


@pytest.fixture(scope="module")
def table(root: Path) -> Rooms:
    """What each room imports besides itself, the rooms from the top to the bottom."""
    rows = re.findall(
        r"^\| `(\w+)(?:/|\.py)` \| .* \| (.*) \|$", (root / "CONTRIBUTING.md").read_text(), re.MULTILINE
    )
    return {room: [] if imports == "nothing" else imports.split(", ") for room, imports in rows}


def test_the_table_says_what_the_code_does(modules: list[Module], table: Rooms) -> None:
    """
    Every folder and top-level module has a row, which names exactly what is imported there, also inside functions and
    for the type checker.
    """
    found: dict[str, set[str]] = {}
    for module in modules:
        found.setdefault(module.room, set()).update(module.rooms_imported())
    assert found.pop("") == set()  # the package itself
    assert found == {room: set(imports) for room, imports in table.items()}


def test_arrows_point_down(table: Rooms) -> None:
    """No room imports one above its own."""
    rooms = list(table)
    upward = {
        (room, other)
        for room, imports in table.items()
        for other in imports
        if rooms.index(other) <= rooms.index(room)
    }
    assert rooms
    assert upward == set()


def test_the_emulator_is_its_own_world(modules: list[Module], table: Rooms) -> None:
    """The emulator imports nothing of the provider, and nothing of the provider imports the emulator."""
    assert any(module.room == "emulator" for module in modules)
    assert table["emulator"] == []
    assert [room for room, imports in table.items() if "emulator" in imports] == []
