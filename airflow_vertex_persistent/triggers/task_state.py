# SPDX-License-Identifier: Apache-2.0
"""
Asks Airflow for the state of a task: one's own, since being told to stop does not say why, or another run's.

``on_kill`` of a trigger also runs when triggers move to another triggerer, and ``on_kill`` of an operator when
only the worker process is told to stop. In both cases somebody else will deal with the job.
"""

from __future__ import annotations

import threading
from concurrent.futures import Future
from contextlib import suppress
from functools import cache
from typing import TYPE_CHECKING, Protocol, TypeVar

from airflow.sdk import DagRunState, TaskInstanceState

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime

ResultT = TypeVar("ResultT")

# A process that was told to stop is killed after five seconds.
_PATIENCE = 2.0
# What is asked for is part of an address, which may not grow too long.
_RUNS_PER_QUESTION = 50
_ACTIVE_RUN = [DagRunState.QUEUED.value, DagRunState.RUNNING.value]
_ENDED = {
    TaskInstanceState.SUCCESS,
    TaskInstanceState.FAILED,
    TaskInstanceState.SKIPPED,
    TaskInstanceState.UPSTREAM_FAILED,
    TaskInstanceState.REMOVED,
}


class TaskInstance(Protocol):
    """What is needed of a task instance, which differs between worker and triggerer."""

    dag_id: str
    task_id: str
    run_id: str
    map_index: int | None


def map_index_of(ti: TaskInstance) -> int | None:
    """Return the index of a mapped task instance, ``None`` for one that is not mapped."""
    return ti.map_index if ti.map_index is not None and ti.map_index >= 0 else None


def task_state(ti: TaskInstance) -> str | None:
    """
    Return the state that Airflow's database has for a task instance, ``None`` for no state.

    Blocks; in an event loop call it in a thread.
    """
    from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance

    map_index = map_index_of(ti)
    states = RuntimeTaskInstance.get_task_states(
        dag_id=ti.dag_id,
        task_ids=[ti.task_id],
        run_ids=[ti.run_id],
        map_index=map_index,
    )
    key = ti.task_id if map_index is None else f"{ti.task_id}_{map_index}"
    state = states.get(ti.run_id, {}).get(key)
    return None if state is None else str(state)


def task_states(
    dag_id: str, task_ids: Sequence[str] | None, logical_date: datetime | None = None
) -> dict[str, dict[str, str | None]]:
    """
    Return the states of a DAG's task instances by run and name; a mapped one is ``train_0``.

    Blocks. Empty for what Airflow does not know.

    :param task_ids: ``None`` asks for all tasks.
    :param logical_date: ``None`` asks for all runs.
    """
    from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance

    return RuntimeTaskInstance.get_task_states(
        dag_id=dag_id,
        task_ids=None if task_ids is None else list(task_ids),
        logical_dates=None if logical_date is None else [logical_date],
    )


@cache
def ask_early() -> None:
    """
    Ask Airflow for something that is not there, once per process and without waiting.

    A triggerer takes seconds of CPU time for its first answer, which it would lack when a task is killed.
    """

    def ask() -> None:
        with suppress(Exception):
            task_states("", "", None)

    threading.Thread(target=ask, daemon=True).start()


def active_runs(dag_id: str, run_ids: Sequence[str]) -> set[str]:
    """
    Return which of a DAG's runs have not ended.

    Blocks. Airflow counts, so many that have ended, or none, are one question.
    """
    found: set[str] = set()
    for start in range(0, len(run_ids), _RUNS_PER_QUESTION):
        found.update(_active(dag_id, run_ids[start : start + _RUNS_PER_QUESTION]))
    return found


def _active(dag_id: str, run_ids: Sequence[str]) -> Sequence[str]:
    from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance

    count = RuntimeTaskInstance.get_dr_count(dag_id=dag_id, run_ids=list(run_ids), states=_ACTIVE_RUN)
    if count in {0, len(run_ids)}:
        return run_ids if count else ()
    middle = len(run_ids) // 2
    return [*_active(dag_id, run_ids[:middle]), *_active(dag_id, run_ids[middle:])]


def has_active_run(dag_id: str) -> bool:
    """
    Tell whether a run of a DAG has not ended.

    Blocks.

    :raises AirflowRuntimeError: There is no such DAG.
    """
    from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance

    RuntimeTaskInstance.get_dag(dag_id)
    return RuntimeTaskInstance.get_dr_count(dag_id=dag_id, states=_ACTIVE_RUN) > 0


def somebody_goes_on(state: str | None) -> bool:
    """Tell whether a task in this state has a triggerer, or an attempt, that deals with its job."""
    return state is not None and not has_ended(state)


def has_ended(state: str | None) -> bool:
    """Tell whether a task in this state is over, until someone clears it."""
    return state in _ENDED


def state_or_running(ti: TaskInstance) -> str | None:
    """Return, in a signal handler, the state that Airflow has for a task; ``running`` if it does not answer."""
    running: str | None = str(TaskInstanceState.RUNNING)
    return within_patience(lambda: task_state(ti), otherwise=running)


def within_patience(ask: Callable[[], ResultT], otherwise: ResultT) -> ResultT:
    """
    Return, in a signal handler, what ``ask`` answers within two seconds; ``otherwise`` if it does not.

    Airflow is asked in a thread of its own: the main thread may have been interrupted in the middle of a question
    to it.
    """
    answer: Future[ResultT] = Future()

    def run() -> None:
        try:
            answer.set_result(ask())
        except Exception as error:  # noqa: BLE001 - handed to the waiting thread
            answer.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    try:
        return answer.result(timeout=_PATIENCE)
    except Exception:  # noqa: BLE001 - whatever keeps Airflow from answering, the job must not pay for it
        return otherwise
