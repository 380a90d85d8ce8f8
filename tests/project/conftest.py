# SPDX-License-Identifier: Apache-2.0
"""The source tree as the tests of the project look at it."""

from __future__ import annotations

import ast
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = "airflow_vertex_persistent"


def room_of(name: str) -> str:
    """Return the folder or top-level module of a name in the package; the package itself has none."""
    return [*name.split("."), ""][1]


@dataclass(frozen=True)
class Module:
    """One module of the package, read but not imported."""

    name: str
    path: Path

    @property
    def room(self) -> str:
        """The folder or top-level module it lives in; the package itself is the room without a name."""
        return room_of(self.name)

    def imports(self) -> set[str]:
        """Return every module name it imports, also inside functions and for the type checker only."""
        names: set[str] = set()
        for node in ast.walk(ast.parse(self.path.read_text(), self.path)):
            if isinstance(node, ast.Import):
                names.update(alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                names.update(f"{self._source(node)}.{alias.name}" for alias in node.names)
        return names

    def rooms_imported(self) -> set[str]:
        """Return the other rooms of the package that it imports."""
        ours = {name for name in self.imports() if name.partition(".")[0] == PACKAGE}
        return {room_of(name) for name in ours} - {self.room, "__version__"}

    def classes(self) -> list[ast.ClassDef]:
        """Return its public classes."""
        body = ast.parse(self.path.read_text(), self.path).body
        return [node for node in body if isinstance(node, ast.ClassDef) and not node.name.startswith("_")]

    def calls(self) -> set[str]:
        """Return what it calls by a plain name."""
        nodes = ast.walk(ast.parse(self.path.read_text(), self.path))
        return {
            node.func.id for node in nodes if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
        }

    @property
    def shown_as(self) -> str:
        """The name users import its classes by: its package's, if that hands them on."""
        package = self.path.with_name("__init__.py")
        hands_on = "\n__all__ = " in package.read_text() and any(
            f'"{found.name}"' in package.read_text() for found in self.classes()
        )
        return self.name.rpartition(".")[0] if hands_on else self.name

    def _source(self, node: ast.ImportFrom) -> str:
        if not node.level:
            return node.module or ""
        package = self.name if self.path.name == "__init__.py" else self.name.rpartition(".")[0]
        for _ in range(node.level - 1):
            package = package.rpartition(".")[0]
        return f"{package}.{node.module}" if node.module else package


@pytest.fixture(scope="session")
def root() -> Path:
    """Return the project's folder."""
    return ROOT


@pytest.fixture(scope="session")
def modules() -> list[Module]:
    """Return every module of the package; a package that cannot be found is an error, not an empty list."""
    found = []
    for path in sorted((ROOT / PACKAGE).rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        found.append(Module(".".join(parts[:-1] if parts[-1] == "__init__" else parts), path))
    assert PACKAGE in {module.name for module in found}
    return found
