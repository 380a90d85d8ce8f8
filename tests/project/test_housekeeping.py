# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import re
import tomllib
from typing import TYPE_CHECKING

import pytest
from packaging.requirements import Requirement

import airflow_vertex_persistent

if TYPE_CHECKING:
    from pathlib import Path

FOLDERS = ["airflow_vertex_persistent", "benchmarks", "dags_examples", "docs", "scripts", "tests"]
CODE = {".py", ".sh", ".toml", ".yaml", ".yml"}
TEXT = {*CODE, ".cfg", ".json", ".md", ".rst", ".txt"}
CODE_NAMES = {"Dockerfile", "Makefile", "run"}

MODULE_LINES = 350


@pytest.fixture(scope="session")
def project_files(root: Path) -> list[Path]:
    """Return every file that people write: those at the top, and the folders' without what tools leave there."""
    files = [path for path in [*root.iterdir(), *(root / ".ci").iterdir()] if path.is_file()]
    for folder in FOLDERS:
        inside = [path for path in (root / folder).rglob("*") if path.is_file()]
        assert inside, f"{folder} is missing or empty"
        files += [path for path in inside if not {"__pycache__", "_build"} & set(path.parts)]
    return files


def test_constraints_are_names_and_versions(root: Path) -> None:
    """No line of constraints.txt is anything but ``name==version``, with a marker perhaps."""
    lines = (root / "constraints.txt").read_text().splitlines()
    assert len(lines) > 100
    for line in lines:
        assert re.fullmatch(r"[a-z0-9-]+==[0-9a-z.]+( ; [^#@]+)?", line)


def test_constraints_agree_with_the_trainer(root: Path) -> None:
    """The trainer's image has the versions that the demo and the tests run with."""
    constraints = set((root / "constraints.txt").read_text().splitlines())
    lines = (root / "dags_examples/trainer/requirements.txt").read_text().splitlines()
    exact = [line for line in lines if line and not line.startswith("#")]
    assert exact
    assert set(exact) <= constraints


def test_the_lowest_versions_allow_the_tested_ones(root: Path) -> None:
    """Each tested version lies within what pyproject.toml asks for."""
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    tested = [Requirement(line) for line in (root / "constraints.txt").read_text().splitlines()]
    for wanted in map(Requirement, project["dependencies"]):
        pinned = [str(found.specifier).removeprefix("==") for found in tested if found.name == wanted.name]
        assert pinned
        assert all(wanted.specifier.contains(version) for version in pinned)


def test_the_changelog_has_this_version(root: Path) -> None:
    """The first version that the changelog speaks of is the one of the code."""
    first = re.search(r"^## \[([^]]+)\]", (root / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert first is not None
    assert first[1] == airflow_vertex_persistent.__version__


def test_every_file_names_its_licence(project_files: list[Path]) -> None:
    """The SPDX line is the first of every file of code, or the second where ``#!`` must come first."""
    code = [path for path in project_files if path.suffix in CODE or path.name in CODE_NAMES]
    without = [
        path
        for path in code
        if "SPDX-License-Identifier: Apache-2.0" not in "".join(path.read_text().splitlines()[:2])
    ]
    assert without == []


def test_no_module_is_too_long(project_files: list[Path]) -> None:
    """A file of more than 350 lines is about more than one thing."""
    python = [path for path in project_files if path.suffix == ".py"]
    assert [path for path in python if len(path.read_text().splitlines()) > MODULE_LINES] == []


def test_nothing_points_at_one_machine(project_files: list[Path]) -> None:
    """No file has a path of somebody's home or work folder, nor the address of a package registry."""
    foreign = re.compile(r"/(home|Users|root|work)/[\w.]|https?://\S+/simple\b")
    texts = [path for path in project_files if path.suffix in TEXT or path.name in CODE_NAMES]
    found = [
        path for path in texts if path.name != "test_housekeeping.py" and foreign.search(path.read_text())
    ]
    assert found == []
