# SPDX-License-Identifier: Apache-2.0
"""The page on what the emulator covers tells the truth."""

from __future__ import annotations

from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any, cast

from airflow_vertex_persistent.emulator import EmulatorSettings
from airflow_vertex_persistent.emulator.server import rpc_table

PAGE = (Path(__file__).parents[3] / "docs" / "emulator-coverage.rst").read_text(encoding="utf-8")


class Anything:
    """Has every handler."""

    def __getattr__(self, name: str) -> str:
        return name


def test_the_page_names_every_call_that_is_emulated() -> None:
    """A call that is added to the table is added to the page."""
    service = cast("Any", Anything())
    for method in rpc_table(service, service, service, service):
        assert f"``{method.rpartition('/')[2]}``" in PAGE


def test_the_page_names_every_setting_with_its_default() -> None:
    """As the code has them."""
    for setting in fields(EmulatorSettings):
        default = f'"{setting.default}"' if isinstance(setting.default, str) else setting.default
        shown = "none" if setting.default is MISSING else f"``{default}``"
        assert f"* - ``{setting.name}``\n     - {shown}\n" in PAGE
