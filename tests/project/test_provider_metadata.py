# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import ast
import json
import tomllib
from importlib.metadata import entry_points
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import jsonschema
import pytest

from airflow_vertex_persistent.get_provider_info import get_provider_info

if TYPE_CHECKING:
    from pathlib import Path

    from tests.project.conftest import Module


def listed_modules(info: dict[str, Any], role: str) -> list[str]:
    """Return the Python modules under one role of the metadata, such as ``operators``."""
    return sorted(name for entry in info[role] for name in entry["python-modules"])


def test_airflow_accepts_the_metadata() -> None:
    """The metadata is valid against the schema that Airflow checks it with when it starts."""
    schema = json.loads(files("airflow").joinpath("provider_info.schema.json").read_text())
    jsonschema.validate(get_provider_info(), schema)


def test_the_entry_point_is_the_function() -> None:
    """Airflow, which looks for entry points, finds this function under this distribution's name."""
    ours = [
        entry
        for entry in entry_points(group="apache_airflow_provider")
        if entry.dist is not None and entry.dist.name == get_provider_info()["package-name"]
    ]
    assert [entry.load() for entry in ours] == [get_provider_info]


@pytest.mark.parametrize("role", ["hooks", "operators", "sensors", "triggers"])
def test_every_module_of_a_role_is_listed(role: str, modules: list[Module]) -> None:
    """Airflow's views of a provider show every module that has something to use, and no other."""
    room = [module for module in modules if module.room == role]
    derived_from = {
        ast.unparse(base) for module in room for found in module.classes() for base in found.bases
    }
    # A class that others derive from is one to use, too, if the package itself does.
    derived_from -= {name for module in modules for name in module.calls()}
    suffix = role.removesuffix("s").title()
    usable = {
        module.shown_as
        for module in room
        for found in module.classes()
        if found.name.endswith(suffix) and found.name not in derived_from
    }
    assert listed_modules(get_provider_info(), role) == sorted(usable)


def test_every_link_is_listed(modules: list[Module]) -> None:
    """The API server draws only the links that the metadata names: a forgotten one has no button."""
    with_a_label = {
        f"{module.name}.{found.name}"
        for module in modules
        if module.room == "links"
        for found in module.classes()
        if any(ast.unparse(line).startswith("name =") for line in found.body)
    }
    assert with_a_label
    assert sorted(get_provider_info()["extra-links"]) == sorted(with_a_label)


def test_the_metadata_is_about_this_distribution(root: Path) -> None:
    """Airflow drops a provider whose metadata names another distribution than its entry point's."""
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    assert get_provider_info()["package-name"] == project["name"]
