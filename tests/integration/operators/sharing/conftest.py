# SPDX-License-Identifier: Apache-2.0
"""Runs beside the one that is tested."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
from airflow.sdk import task

from airflow_vertex_persistent.names import label_value
from airflow_vertex_persistent.operators.labels import installation

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow.sdk import DAG

    from tests.integration.operators.conftest import Run

    Make = Callable[..., Any]


@dataclass
class Night:
    """
    A DAG with the tasks ``create`` and ``delete``, and runs beside the one that is tested.

    Nobody runs the tasks of the other runs: they are as the database has them.

    :param dag: The DAG of this test.
    :param make_setup: Makes the task ``create``.
    :param make_teardown: Makes the task ``delete``.
    :param run: Runs the DAG.
    :param dags: DAG of each other run.
    """

    dag: DAG
    make_setup: Make
    make_teardown: Make
    run: Callable[[], Run]
    dags: dict[str, DAG] = field(default_factory=dict)

    def make(self, **arguments: Any) -> None:
        """Make the tasks, a setup and its teardown, whose arguments these are."""
        # A test that waits for nothing should not do so for hours.
        arguments = {"max_wait_duration": 200, **arguments}
        setup = self.make_setup().as_setup()
        setup >> self.make_teardown(**arguments).as_teardown(setups=setup)

    def make_job(self, start: Callable[[dict[str, str]], object]) -> None:
        """Make a task between the two that starts a job, given the labels that say whose it is."""
        dag_id = self.dag.dag_id

        @task(dag=self.dag)
        def train(run_id: str | None = None) -> None:
            labels = {"airflow_dag": label_value(dag_id), "airflow_run": label_value(str(run_id))}
            start({**labels, "airflow_installation": str(installation())})

        self.dag.get_task("create") >> train() >> self.dag.get_task("delete")

    def result(self) -> dict[str, Any]:
        """Run the DAG and return what the teardown has returned."""
        return dict(self.run().result("delete"))

    def add_run(self, states: dict[str, str], *, state: str = "running", dag: DAG | None = None) -> str:
        """
        Add another run and return its id.

        :param states: Of its tasks; a task that is not named has none.
        :param state: Of the run.
        :param dag: Its DAG; ``None``: the same.
        """
        from airflow.dag_processing.dagbag import DagBag, sync_bag_to_db
        from airflow.serialization.serialized_objects import DagSerialization
        from airflow.utils.session import create_session
        from airflow.utils.state import DagRunState
        from airflow.utils.types import DagRunTriggeredByType, DagRunType

        dag = dag or self.dag
        bag = DagBag(dag_folder=os.devnull, bundle_name="dags-folder")
        bag.bag_dag(dag)
        sync_bag_to_db(bag, "dags-folder", None)
        run_id = f"other_{len(self.dags)}"
        self.dags[run_id] = dag
        serialized = DagSerialization.deserialize_dag(DagSerialization.serialize_dag(dag))
        with create_session() as session:
            serialized.create_dagrun(
                run_id=run_id,
                run_after=datetime.now(UTC),
                run_type=DagRunType.MANUAL,
                triggered_by=DagRunTriggeredByType.TEST,
                state=DagRunState(state),
                session=session,
            )
        self.change(run_id, states)
        return run_id

    def change(self, run_id: str, states: dict[str, str]) -> None:
        """Change the states of tasks of a run."""
        from airflow.models.taskinstance import TaskInstance
        from airflow.utils.session import create_session

        with create_session(scoped=False) as session:
            for task_id, state in states.items():
                which = {"dag_id": self.dags[run_id].dag_id, "run_id": run_id, "task_id": task_id}
                session.query(TaskInstance).filter_by(**which).update({"state": state})

    def revive(self, task_id: str, map_index: int) -> None:
        """Let runs that have ended go on, with one of their tasks not begun."""
        from airflow.models.dagrun import DagRun
        from airflow.models.taskinstance import TaskInstance
        from airflow.utils.session import create_session

        which = {"dag_id": self.dag.dag_id}
        with create_session(scoped=False) as session:
            session.query(DagRun).filter_by(**which).update({"state": "running"})
            session.query(TaskInstance).filter_by(**which, task_id=task_id, map_index=map_index).update(
                {"state": None}
            )

    def hand_over(self, run_id: str, task_id: str, value: Any) -> None:
        """Let a task of a run have returned a value."""
        from airflow.models.xcom import XComModel
        from airflow.utils.session import create_session

        ids: dict[str, Any] = {"task_id": task_id, "dag_id": self.dag.dag_id, "run_id": run_id}
        with create_session() as session:
            XComModel.set(key="return_value", value=value, **ids, serialize=False, session=session)


@pytest.fixture
def night(dag: DAG, create: Make, delete: Make, run_dag: Callable[[], Run], *, deferrable: bool) -> Night:
    """The DAG of a test, in both ways to wait."""
    return Night(dag, partial(create, deferrable=deferrable), partial(delete, deferrable=deferrable), run_dag)
