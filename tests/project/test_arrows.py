# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.project.conftest import Module

PURE = {"names", "states", "permissions", "exceptions", "specs"}
TUNING = {"trials", "trial_args", "report"}

# What each room may import besides itself. Arrows point down only: sensors -> operators -> triggers -> hooks ->
# specs, names, states, exceptions.
MAY_IMPORT: dict[str, set[str]] = {
    "": set(),
    "names": set(),
    "states": {"names"},
    "permissions": set(),
    "exceptions": {"names", "states", "permissions"},
    "specs": {"names", "states", "exceptions"},
    "hooks": {"trials", *PURE},
    "result": {"names", "states", "trials"},
    "trials": {"names", "states"},
    "trial_args": {"trials"},
    "report": {"states", "trials"},
    "triggers": {"hooks", "links", "result", *TUNING, *PURE},
    "links": {"names"},
    "retry": PURE,
    "operators": {"triggers", "hooks", "links", "result", *TUNING, *PURE},
    "sensors": {"operators", "triggers", "hooks", "links", "result", *TUNING, *PURE},
    "get_provider_info": set(),
    "emulator": set(),
}


def test_every_room_has_a_row(modules: list[Module]) -> None:
    """A new folder or top-level module decides what it may import before it is used."""
    assert {module.room for module in modules} <= set(MAY_IMPORT)


def test_arrows_point_down(modules: list[Module]) -> None:
    """No module imports a room above its own, not even inside a function or for the type checker."""
    upward = {
        module.name: rooms
        for module in modules
        if (rooms := module.rooms_imported() - MAY_IMPORT[module.room])
    }
    assert upward == {}


def test_the_emulator_is_its_own_world(modules: list[Module]) -> None:
    """The emulator imports nothing of the provider, and nothing of the provider imports the emulator."""
    inside = [module for module in modules if module.room == "emulator"]
    outside = [module for module in modules if module.room != "emulator"]
    assert inside
    assert outside
    assert [module.name for module in inside if module.rooms_imported()] == []
    assert [module.name for module in outside if "emulator" in module.rooms_imported()] == []
