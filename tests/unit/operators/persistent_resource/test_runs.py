# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from airflow.sdk.exceptions import AirflowRuntimeError, ErrorType
from airflow.sdk.execution_time import task_runner
from airflow.sdk.execution_time.comms import (
    DagResult,
    DRCount,
    ErrorResponse,
    GetDag,
    GetDRCount,
    GetTaskStates,
    TaskStatesResult,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_vertex_persistent.exceptions import PersistentResourceError
from airflow_vertex_persistent.names import persistent_resource_name
from airflow_vertex_persistent.operators.persistent_resource.runs import SharingRuns
from airflow_vertex_persistent.operators.persistent_resource.usage import Usage
from airflow_vertex_persistent.specs.sharing import Span
from airflow_vertex_persistent.triggers.task_state import active_runs

if TYPE_CHECKING:
    from collections.abc import Iterator

NAME = persistent_resource_name("acme", "europe-west4", "nightly")
SPAN = Span("night", ("create",), "delete")
OTHER = Span("week", ("warm_up",), "cool_down")
USED: dict[str, str | None] = {"create": "success", "delete": None}


@dataclass
class Run:
    """A run as the database has it."""

    state: str
    tasks: dict[str, str | None]
    result: Any = None


@dataclass
class Airflow:
    """Answers a task's questions from a table, as the supervisor of a task does."""

    dags: dict[str, dict[str, Run]] = field(default_factory=dict)
    asked: list[Any] = field(default_factory=list)
    broken: type[Any] | None = None

    def send(self, msg: Any) -> Any:
        """Answer one question."""
        self.asked.append(msg)
        if type(msg) is self.broken or (msg.dag_id not in self.dags and isinstance(msg, GetDag)):
            raise AirflowRuntimeError(ErrorResponse(error=ErrorType.API_SERVER_ERROR))
        runs = self.dags.get(msg.dag_id, {})
        match msg:
            case GetTaskStates():
                states = {
                    run_id: {task: state for task, state in run.tasks.items() if task in (msg.task_ids or ())}
                    for run_id, run in runs.items()
                }
                return TaskStatesResult(task_states={run: found for run, found in states.items() if found})
            case GetDRCount():
                asked = runs if msg.run_ids is None else {run: runs[run] for run in msg.run_ids}
                return DRCount(count=sum(run.state in (msg.states or ()) for run in asked.values()))
            case _:
                values = dict.fromkeys(DagResult.model_fields)
                return DagResult.model_construct(**{**values, "dag_id": msg.dag_id})


@pytest.fixture
def airflow(monkeypatch: pytest.MonkeyPatch) -> Airflow:
    """An Airflow without any run but the own one, which is tearing down."""
    answers = Airflow({"night": {"own": Run("running", {"create": "success", "delete": "running"})}})
    monkeypatch.setattr(task_runner, "SUPERVISOR_COMMS", answers, raising=False)
    return answers


@pytest.fixture
def usage(airflow: Airflow) -> Any:
    """Ask for the runs that use the resource."""

    def xcom_pull(task_id: str, dag_id: str, *, run_id: str, map_indexes: int) -> Any:
        assert (task_id, map_indexes) in {("create", -1), ("warm_up", -1)}
        return airflow.dags[dag_id][run_id].result

    def ask(*spans: Span) -> Usage:
        ti = SimpleNamespace(dag_id="night", task_id="delete", run_id="own", xcom_pull=xcom_pull)
        return SharingRuns(NAME, spans or (SPAN,), ti).usage()

    return ask


def test_the_own_run_does_not_count(airflow: Airflow, usage: Any) -> None:
    """One question is enough when there is no other run, and the own one is none."""
    assert usage() == Usage()
    assert [type(question) for question in airflow.asked] == [GetTaskStates]
    assert airflow.asked[0].task_ids == ["create", "delete"]


def test_the_own_run_counts_for_another_teardown(airflow: Airflow, usage: Any) -> None:
    """A run that sets the same resource up twice uses it until both teardowns have started."""
    airflow.dags["night"]["own"].tasks |= {"warm_up": "success", "cool_down": None}
    assert usage(SPAN, Span("night", ("warm_up",), "cool_down")) == Usage(("run own of DAG night",))


def test_runs_of_all_dags_count(airflow: Airflow, usage: Any) -> None:
    """Each run that uses the resource is told once, and each that is about to, with the state of its setup."""
    airflow.dags["night"] |= {
        "a": Run("running", USED),
        "b": Run("running", {"create": "deferred", "delete": None}),
        "c": Run("running", {"create": None, "delete": None}),
        "d": Run("queued", {"create": "success", "delete": "scheduled"}),
    }
    airflow.dags["week"] = {"a": Run("running", {"warm_up": "success", "cool_down": "queued"})}
    assert usage(SPAN, OTHER) == Usage(
        used_by=("run a of DAG night", "run d of DAG night", "run a of DAG week"),
        undecided=("run b of DAG night, whose create is deferred",),
    )


def test_ended_runs_do_not_count(airflow: Airflow, usage: Any) -> None:
    """A run that has ended uses nothing, whatever became of its teardown; a thousand of them cost some questions."""
    airflow.dags["night"] |= {f"{number}": Run("failed", {"create": "success"}) for number in range(1000)}
    assert usage() == Usage()
    assert len(airflow.asked) <= 1 + 1000 / 50
    airflow.dags["night"]["517"].state = "running"
    assert usage() == Usage(("run 517 of DAG night",))


@pytest.mark.parametrize(
    ("result", "here"),
    [
        ({"persistent_resource": "projects/1/locations/europe-west4/persistentResources/nightly"}, True),
        ({"persistent_resource": "projects/acme/locations/europe-west1/persistentResources/nightly"}, False),
        ({"persistent_resource": "projects/acme/locations/europe-west4/persistentResources/other"}, False),
        ({"persistent_resource": "nightly"}, True),
        ({"bucket": "models"}, True),
        ("nightly", True),
        (["nightly"], True),
        (None, True),
    ],
)
def test_a_run_may_use_another_resource(airflow: Airflow, usage: Any, result: Any, *, here: bool) -> None:
    """A run whose setup says that it is about another resource does not count; one that does not say counts."""
    airflow.dags["night"]["a"] = Run("running", USED, result)
    assert usage() == (Usage(("run a of DAG night",)) if here else Usage())


@pytest.mark.parametrize("question", [GetTaskStates, GetDRCount])
def test_no_answer_is_no_permission(airflow: Airflow, usage: Any, question: type[Any]) -> None:
    """When Airflow does not answer, nobody knows who uses the resource, and that is an error."""
    airflow.dags["night"]["a"] = Run("running", USED)
    airflow.broken = question
    with pytest.raises(PersistentResourceError, match=r"which runs of DAG night use .*: API_SERVER_ERROR"):
        usage()


def test_a_dag_that_is_not_there(usage: Any) -> None:
    """A DAG id that Airflow does not know is an error, since whoever was meant may use the resource."""
    with pytest.raises(PersistentResourceError, match=r"of DAG week .*\n.*correct shared_with"):
        usage(SPAN, OTHER)


@pytest.mark.parametrize("task", ["warm_up", "cool_down"])
def test_a_task_that_is_not_there(airflow: Airflow, usage: Any, task: str) -> None:
    """A task id that no run of a DAG has is an error as soon as it matters: when one of its runs is active."""
    tasks: dict[str, str | None] = {"warm_up": "success", "cool_down": None}
    airflow.dags["week"] = {"a": Run("running", {name: tasks[name] for name in tasks if name != task})}
    with pytest.raises(PersistentResourceError, match=f"No run of DAG week has a task {task}: "):
        usage(SPAN, OTHER)
    airflow.dags["week"]["a"].state = "success"
    assert usage(SPAN, OTHER) == Usage()


@pytest.fixture(scope="module")
def table() -> Iterator[Airflow]:
    """An Airflow for many rounds of one test."""
    with pytest.MonkeyPatch.context() as patch:
        answers = Airflow()
        patch.setattr(task_runner, "SUPERVISOR_COMMS", answers, raising=False)
        yield answers


@settings(max_examples=50)
@given(st.lists(st.sampled_from(["queued", "running", "success", "failed"]), max_size=160))
def test_which_runs_are_active(table: Airflow, states: list[str]) -> None:
    """Asking for counts finds exactly the runs that have not ended."""
    table.dags["night"] = {str(number): Run(state, {}) for number, state in enumerate(states)}
    found = active_runs("night", list(table.dags["night"]))
    assert found == {
        run_id for run_id, run in table.dags["night"].items() if run.state in {"queued", "running"}
    }
