# SPDX-License-Identifier: Apache-2.0
"""What an operator sees of Airflow where there is none: a task with one attempt, and nothing kept after it."""

from __future__ import annotations

from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any


class Store(dict[str, Any]):
    """A task state store in memory."""

    def set(self, key: str, value: Any) -> None:
        """Keep a value."""
        self[key] = value


def context(task_id: str, run_id: str) -> Any:
    """Return the context of the only attempt of a task."""
    ti = SimpleNamespace(
        dag_id="bench",
        task_id=task_id,
        run_id=run_id,
        map_index=-1,
        try_number=1,
        max_tries=0,
        start_date=datetime.now(UTC),
        xcom_push=lambda **_: None,
    )
    return {"ti": ti, "task_state_store": Store(), "dag": SimpleNamespace(fileloc=__file__)}
