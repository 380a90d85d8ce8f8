# SPDX-License-Identifier: Apache-2.0
"""Hands values to the task's page and to other tasks while a trigger still waits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_vertex_persistent.links import TrainingJobLink, TrainingLogsLink

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow_vertex_persistent.links import NamedLink
    from airflow_vertex_persistent.names import ResourceName
    from airflow_vertex_persistent.triggers.task_state import TaskInstance


async def hand_over(ti: TaskInstance, values: Mapping[str, Any]) -> None:
    """Push XComs as a task on a worker does; what an event hands over comes out as the text of its JSON."""
    from airflow.sdk.execution_time.xcom import XCom

    where: Any = {
        "dag_id": ti.dag_id,
        "task_id": ti.task_id,
        "run_id": ti.run_id,
        "map_index": -1 if ti.map_index is None else ti.map_index,
    }
    for key, value in values.items():
        await XCom.aset(key, value, **where)


async def show_job(ti: TaskInstance, job: ResourceName) -> None:
    """Let the buttons of the task open this job and its log."""
    links: tuple[NamedLink, ...] = (TrainingJobLink(), TrainingLogsLink())
    await hand_over(ti, {link.xcom_key: link.address(job) for link in links})
