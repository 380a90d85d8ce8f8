# SPDX-License-Identifier: Apache-2.0
"""``dags_examples/busy_fallback.py``, as it is."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from airflow.dag_processing.dagbag import DagBag

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow.sdk import DAG

    from tests.integration.conftest import Cloud
    from tests.integration.operators.conftest import Run

EXAMPLE = Path(__file__).parents[3] / "dags_examples" / "busy_fallback.py"


@pytest.fixture
def dag() -> DAG:
    """The example's DAG."""
    example: Any = DagBag(EXAMPLE).dags["busy_fallback"]
    return example  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("busy", "resource", "where"),
    [(False, "always-warm", "on warm machines"), (True, None, "on demand")],
    ids=["free", "busy"],
)
def test_the_example(  # noqa: PLR0917 - one row of a table
    start_cloud: Callable[..., Cloud],
    dag: DAG,
    run_dag: Callable[[], Run],
    busy: bool,
    resource: str | None,
    where: str,
) -> None:
    """It trains where it can, and says where that was."""
    train: Any = dag.get_task("train")
    cloud = start_cloud(train.container_uri)
    cloud.create_resource("always-warm")
    if busy:
        cloud.occupy("always-warm")
    run = run_dag()
    assert run.result()["persistent_resource_id"] == resource
    assert run.result("say_where") == where
    assert len(cloud.all_jobs()) == 1 + busy
