# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import re
from textwrap import indent
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from tests.project.conftest import Module

# The rooms a user meets; the emulator's face is its package.
SHOWN = {"operators", "sensors", "triggers", "hooks", "links", "exceptions", "call_problems", "retry"}


def test_the_reference_has_every_class(modules: list[Module], root: Path) -> None:
    """Each module with a public class that a user may meet has its place in the reference, and none is gone."""
    pages = list((root / "docs/reference").glob("*.rst"))
    assert pages
    shown = {
        name
        for page in pages
        for name in re.findall(r"^\.\. automodule:: (\S+)$", page.read_text(), re.MULTILINE)
    }
    existing = {module.shown_as for module in modules if module.room in SHOWN and module.classes()}
    assert shown == existing | {"airflow_vertex_persistent.emulator"}


def test_the_readme_shows_code_that_runs(root: Path) -> None:
    """Each piece of Python in the README stands in an example just so, and examples are tested."""
    blocks = re.findall(r"^```python\n(.*?)^```$", (root / "README.md").read_text(), re.MULTILINE | re.DOTALL)
    assert blocks
    examples = [path.read_text() for path in (root / "dags_examples").glob("*.py")]
    for block in blocks:
        assert any(indent(block, "    ") in example or block in example for example in examples), block
