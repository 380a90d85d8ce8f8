# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from airflow_vertex_persistent.emulator import VertexEmulator

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from airflow.sdk import DAG

    from tests.integration.conftest import Cloud
    from tests.integration.operators.sharing.conftest import Night

EXAMPLE = Path(__file__).parents[4] / "dags_examples" / "warm_pool_shared.py"


@pytest.fixture
def example() -> Any:
    """The module of the example."""
    spec = importlib.util.spec_from_file_location("warm_pool_shared", EXAMPLE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def dag(example: Any) -> DAG:
    """The DAG of the example."""
    made: DAG = example.warm_pool_shared()
    return made


@pytest.fixture
def deferrable() -> bool:
    """The way that the example waits."""
    return True


@pytest.fixture
def cloud(
    example: Any,
    image_folder: Path,
    cloud_at: Callable[[str, Path], Cloud],
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Cloud]:
    """An emulator that has what the example needs."""
    with VertexEmulator(images={example.IMAGE: image_folder}, buckets=[example.BUCKET]) as emulator:
        for name, value in emulator.environment.items():
            monkeypatch.setenv(name, value)
        yield cloud_at(emulator.address, emulator.data_dir)


def test_the_last_one_out_deletes(cloud: Cloud, night: Night) -> None:
    """Of runs that overlap, the one that ends first leaves the machines, and the last one deletes them."""
    other = night.add_run({"create": "success"})
    assert night.result()["used_by"] == [f"run {other} of DAG warm_pool_shared"]
    assert cloud.resource("shared-digits") is not None
    night.change(other, {"delete": "running"})
    assert night.result()["deleted"]
    assert cloud.resource("shared-digits") is None
    assert [job.job_spec.persistent_resource_id for job in cloud.all_jobs()] == ["shared-digits"] * 2
