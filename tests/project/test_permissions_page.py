# SPDX-License-Identifier: Apache-2.0
"""The table of docs/permissions.rst is the one that errors are made from."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from airflow_vertex_persistent.permissions import ACT_AS, IMPERSONATE, PERMISSIONS, ROLES

if TYPE_CHECKING:
    from pathlib import Path

ROW = re.compile(r"^   \* - (.+)\n     - ``(.+)``\n     - ``(.+)``$", re.MULTILINE)


def test_the_page_has_every_call(root: Path) -> None:
    """Each call is there with its permission and with the roles that have it, and nothing else is."""
    rows = ROW.findall((root / "docs/permissions.rst").read_text())
    calls = {call.strip("`"): permission for call, permission, _ in rows if call.startswith("``")}
    assert calls == PERMISSIONS
    assert {permission: tuple(roles.split("``, ``")) for _, permission, roles in rows} == ROLES
    others = [permission for call, permission, _ in rows if not call.startswith("``")]
    assert sorted(others) == sorted([ACT_AS, IMPERSONATE])
