# SPDX-License-Identifier: Apache-2.0
"""
Writes deferred task instances and their triggers to Airflow's database.

Run in Airflow's environment: ``deferred_rows.py RUN_ID FILE``. The file is a JSON list of
``[classpath, kwargs]``; task instance *n* of the run waits for trigger *n*.
"""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow.models.dag import DagModel
from airflow.models.dag_version import DagVersion
from airflow.models.dagbundle import DagBundleModel
from airflow.models.dagrun import DagRun
from airflow.models.serialized_dag import SerializedDagModel
from airflow.models.taskinstance import TaskInstance
from airflow.models.trigger import Trigger
from airflow.sdk import DAG, BaseOperator
from airflow.sdk.serde import serialize
from airflow.serialization.serialized_objects import LazyDeserializedDAG
from airflow.utils.session import create_session
from airflow.utils.state import DagRunState, TaskInstanceState
from airflow.utils.types import DagRunType

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

DAG_ID, TASK_ID, BUNDLE = "watching", "train", "watching"
_AT_ONCE = 500


def write_dag(session: Session) -> None:
    """Write a DAG of one task, as the DAG processor would have."""
    with DAG(DAG_ID, schedule=None, start_date=datetime(2026, 1, 1, tzinfo=UTC)) as dag:
        BaseOperator(task_id=TASK_ID)
    session.merge(DagBundleModel(name=BUNDLE))
    session.flush()
    session.merge(DagModel(dag_id=DAG_ID, bundle_name=BUNDLE, is_stale=False, fileloc="watching.py"))
    session.flush()
    SerializedDagModel.write_dag(LazyDeserializedDAG.from_dag(dag), bundle_name=BUNDLE, session=session)
    session.flush()


def write_run(run_id: str, triggers: list[tuple[str, dict[str, Any]]], session: Session) -> None:
    """Write a run whose task was mapped, and has deferred itself in all its instances."""
    version = DagVersion.get_latest_version(DAG_ID, session=session)
    model = SerializedDagModel.get(DAG_ID, session=session)
    if version is None or model is None:
        raise RuntimeError("the DAG has not been written")
    now = datetime.now(UTC)
    run = DagRun(
        DAG_ID,
        run_id,
        run_after=now,
        start_date=now,
        state=DagRunState.RUNNING,
        run_type=DagRunType.MANUAL,
    )
    run.created_dag_version_id = version.id
    session.add(run)
    session.flush()
    task = model.dag.get_task(TASK_ID)
    for start in range(0, len(triggers), _AT_ONCE):
        for number, (classpath, kwargs) in enumerate(triggers[start : start + _AT_ONCE], start):
            ti = TaskInstance(
                task, version.id, run_id=run_id, state=TaskInstanceState.DEFERRED, map_index=number
            )
            ti.try_number, ti.start_date = 1, now
            ti.next_method, ti.next_kwargs = "execute_complete", serialize({})
            ti.trigger = Trigger(classpath, kwargs)
            session.add(ti)
        session.commit()
        session.expunge_all()


def main() -> None:
    """Write what the file says, after removing what earlier runs left."""
    with create_session() as session:
        session.query(DagRun).delete()
        session.query(Trigger).delete()
        session.commit()
        write_dag(session)
        session.commit()
        write_run(sys.argv[1], json.loads(Path(sys.argv[2]).read_text()), session)


if __name__ == "__main__":
    main()
