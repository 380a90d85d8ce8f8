# SPDX-License-Identifier: Apache-2.0
"""What becomes of a training task that gets no machines: the question that each kind of machines answers its way."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from airflow_vertex_persistent.exceptions import VertexTrainingError
    from airflow_vertex_persistent.operators.training.execution import Execution
    from airflow_vertex_persistent.states import JobSnapshot


class NoMachinesError(Exception):
    """
    No job was created, for lack of machines. Whether that is an error of the task is for its policy to say.

    :param error: What the task ends with if it is.
    """

    def __init__(self, error: VertexTrainingError) -> None:
        super().__init__(str(error))
        self.error = error


def first_line(error: BaseException) -> str:
    """Return what an error says first: what happened, without addresses and advice."""
    return str(error).partition("\n")[0]


class NextStep(NamedTuple):
    """
    What to do without machines.

    :param execution: The execution that goes on, or that a retry is to begin with.
    :param said: What is done, for the log.
    :param pause: Seconds to wait before that.
    :param error: The task does not go on, but ends with this.
    """

    execution: Execution
    said: str = ""
    pause: float = 0.0
    error: VertexTrainingError | None = None


def try_again(execution: Execution, pause: float) -> NextStep:
    """Return the step of a task that tries the same again after some seconds."""
    return NextStep(execution, f"Trying again in {pause:.1f} s", pause)


class WaitPolicy(Protocol):
    """How long the jobs of a task may wait for machines, and what is done when they get none."""

    def deadline(self, execution: Execution, job: JobSnapshot) -> str | None:
        """Return until when a job may wait, RFC 3339 in UTC; ``None``: as long as the service lets it."""

    def goes_on(self, job: JobSnapshot, error: VertexTrainingError) -> bool:
        """Tell whether a job that has ended got no machines, and the task may go on without it."""

    def next_step(
        self, execution: Execution, error: VertexTrainingError, *, interval: float, overdue: bool
    ) -> NextStep:
        """
        Return what to do without machines.

        :param error: Why there is no job, or none that runs.
        :param interval: Seconds between two looks.
        :param overdue: The job had waited until its deadline.
        """

    def overdue_error(self, job: JobSnapshot) -> VertexTrainingError:
        """Return the error of a job that was cancelled at its deadline."""
