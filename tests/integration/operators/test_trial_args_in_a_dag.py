# SPDX-License-Identifier: Apache-2.0
"""The parameters of a best trial on their way to the training task after it, through Airflow itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from airflow.sdk import BaseOperator
from airflow.sdk.exceptions import AirflowFailException

from airflow_vertex_persistent.trial_args import trial_args

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from airflow.sdk import DAG, Context, XComArg

    from tests.integration.operators.conftest import Run

BEST = {"id": "5", "parameters": {"layers": 3, "rate": 1e-05, "optimizer": "{{ adam }}", "width": 256.0}}
FLAGS = ["--layers=3", "--rate=1e-05", "--optimizer={{ adam }}", "--width=256.0"]


class Tune(BaseOperator):
    """Hands on a best trial as a tuning task does, each key of the result by its name."""

    def __init__(self, *, best_trial: Any, returns: Any = "--from=tune", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.best_trial = best_trial
        self.returns = returns

    def execute(self, context: Context) -> Any:
        """Push the best trial, and return something else."""
        context["ti"].xcom_push(key="best_trial", value=self.best_trial)
        return self.returns


class Train(BaseOperator):
    """Returns the arguments it was given."""

    template_fields: Sequence[str] = ("args", "pools")

    def __init__(self, *, args: Any = None, pools: Any = None, place: str = "", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.args = args
        self.pools = pools
        self.place = place

    def execute(self, context: Context) -> Any:
        """Return what was rendered."""
        return {"args": list(self.args), "pools": self.pools}


def best_of(tune: Tune) -> XComArg:
    """Return the reference that a DAG file has."""
    output: Any = tune.output  # Airflow's annotations do not know that it has keys
    reference: XComArg = output["best_trial"]
    return reference


def test_the_list_is_made_when_the_task_runs(dag: DAG, run_dag: Callable[[], Run]) -> None:
    """Templates and references before the parameters are filled in, but no parameter is taken for a template."""
    tune = Tune(task_id="tune", best_trial=BEST, dag=dag)
    args = trial_args(best_of(tune), "--dag={{ dag.dag_id }}", tune.output)
    train = Train(task_id="train", args=args, pools=[{"container_spec": {"args": args}}], dag=dag)

    assert train.upstream_task_ids == {"tune"}
    result = run_dag().result()
    wanted = [f"--dag={dag.dag_id}", "--from=tune", *FLAGS]
    assert result["args"] == wanted
    assert result["pools"] == [{"container_spec": {"args": wanted}}]


def test_a_mapped_task_gets_them_too(dag: DAG, run_dag: Callable[[], Run]) -> None:
    """Each instance of a mapped task gets the parameters of the one best trial."""
    tune = Tune(task_id="tune", best_trial=BEST, dag=dag)
    args = trial_args(best_of(tune), "--dag={{ dag.dag_id }}", tune.output)
    Train.partial(task_id="train", args=args, dag=dag).expand(place=["here", "there"])

    run = run_dag()
    wanted = [f"--dag={dag.dag_id}", "--from=tune", *FLAGS]
    assert [run.result(f"train[{index}]")["args"] for index in range(2)] == [wanted, wanted]


def test_more_can_follow(dag: DAG, run_dag: Callable[[], Run]) -> None:
    """Arguments of another task can be put behind those of the best trial."""
    tune = Tune(task_id="tune", best_trial=BEST, returns=["--last"], dag=dag)
    Train(task_id="train", args=trial_args(best_of(tune)).concat(tune.output), dag=dag)

    assert run_dag().result()["args"] == [*FLAGS, "--last"]


@pytest.mark.parametrize("best_trial", [None, "a text"])
def test_without_a_best_trial_the_task_says_so(
    dag: DAG, run_dag: Callable[[], Run], best_trial: str | None
) -> None:
    """A task that gets no best trial fails before it does anything, and says what it takes."""
    tune = Tune(task_id="tune", best_trial=best_trial, dag=dag)
    Train(task_id="train", args=trial_args(best_of(tune)), dag=dag)

    error = run_dag().error()
    assert isinstance(error, AirflowFailException)
    assert "best trial" in str(error)


def test_a_dag_is_written_the_same_each_time(dag: DAG) -> None:
    """What Airflow stores of the DAG names the reference and the arguments, and has no address in memory."""
    from airflow.serialization.serialized_objects import DagSerialization

    tune = Tune(task_id="tune", best_trial=BEST, dag=dag)
    args = trial_args(best_of(tune), "--epochs=50")
    Train(task_id="train", args=args, dag=dag)

    tasks = DagSerialization.to_dict(dag)["dag"]["tasks"]
    (stored,) = [task["__var"]["args"] for task in tasks if task["__var"]["task_id"] == "train"]
    assert stored == "trial_args(XComArg(<Task(Tune): tune>, 'best_trial'), '--epochs=50')"
