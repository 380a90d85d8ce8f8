# SPDX-License-Identifier: Apache-2.0
"""The pages on the emulator, and on what it covers, tell the truth."""

from __future__ import annotations

import re
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any, cast

from airflow_vertex_persistent.emulator import EmulatorSettings
from airflow_vertex_persistent.emulator.gpus import GPUS
from airflow_vertex_persistent.emulator.server import rpc_table

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "emulator-coverage.rst").read_text(encoding="utf-8")
GUIDE = (ROOT / "docs" / "emulator.rst").read_text(encoding="utf-8")


class Anything:
    """Has every handler."""

    def __getattr__(self, name: str) -> str:
        return name


def test_the_page_names_every_call_that_is_emulated() -> None:
    """A call that is added to the table is added to the page."""
    service = cast("Any", Anything())
    for method in rpc_table(service, service, service, service, service):
        assert f"``{method.rpartition('/')[2]}``" in PAGE


def test_the_page_names_every_setting_with_its_default() -> None:
    """As the code has them."""
    for setting in fields(EmulatorSettings):
        default = f'"{setting.default}"' if isinstance(setting.default, str) else setting.default
        shown = "none" if setting.default is MISSING else f"``{default}``"
        assert f"* - ``{setting.name}``\n     - {shown}\n" in PAGE


def test_the_guide_names_every_gpu_that_can_have_a_quota() -> None:
    """As quota metrics call them."""
    assert [gpu.quota for gpu in GPUS.values() if f"``{gpu.quota}``" not in GUIDE] == []


def test_the_guide_starts_the_failover_example_with_all_that_it_needs() -> None:
    """Its images and its buckets."""
    example = (ROOT / "dags_examples" / "gpu_failover_across_regions.py").read_text(encoding="utf-8")
    images = re.findall(r'container_uri="(.+)"', example)
    buckets = re.findall(r"gs://([\w-]+)/", example)
    assert len(images) == len(buckets) == 3
    wanted = [f"--image {image}=dags_examples/trainer" for image in images]
    wanted.append(" ".join(f"--bucket {bucket}" for bucket in buckets))
    assert [words for words in wanted if words not in GUIDE] == []
