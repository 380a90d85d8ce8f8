# SPDX-License-Identifier: Apache-2.0
"""Asks Airflow for the state of a task, since being told to stop does not say why."""

from __future__ import annotations

from typing import Protocol


class TaskInstance(Protocol):
    """What is needed of a task instance, which differs between worker and triggerer."""

    dag_id: str
    task_id: str
    run_id: str
    map_index: int | None


def task_state(ti: TaskInstance) -> str | None:
    """
    Return the state that Airflow's database has for a task instance, ``None`` for no state.

    Blocks; in an event loop call it in a thread.
    """
    from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance

    mapped = ti.map_index is not None and ti.map_index >= 0
    states = RuntimeTaskInstance.get_task_states(
        dag_id=ti.dag_id,
        task_ids=[ti.task_id],
        run_ids=[ti.run_id],
        map_index=ti.map_index if mapped else None,
    )
    key = f"{ti.task_id}_{ti.map_index}" if mapped else ti.task_id
    state = states.get(ti.run_id, {}).get(key)
    return None if state is None else str(state)
