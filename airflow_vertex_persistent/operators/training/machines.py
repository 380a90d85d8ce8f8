# SPDX-License-Identifier: Apache-2.0
"""The machines that the jobs of a training task are for; each kind of them has its own way to run short."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow_vertex_persistent.exceptions import VertexTrainingError
    from airflow_vertex_persistent.operators.training.execution import Execution
    from airflow_vertex_persistent.specs.custom_job import JobRequest
    from airflow_vertex_persistent.states import JobSnapshot


class NoMachinesError(Exception):
    """
    No job was created, for lack of machines. Whether that is an error of the task is for :class:`Machines` to say.

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


class Machines(Protocol):
    """
    What a job becomes on them, how long it may wait for them, and what is done when it gets none.

    One object is asked for all creates of a job: what it has seen before one it may need to know after it.
    """

    def fitting_job(self, request: JobRequest, execution: Execution) -> dict[str, Any]:
        """
        Return the job to create, as it fits what is there now.

        :raises NoMachinesError: There are none for it now.
        """

    def check_refusal(self, error: Exception, request: JobRequest, execution: Execution) -> None:
        """
        Tell what the refusal of a create means.

        :raises NoMachinesError: There are none for the job now.
        """

    def fallback(self, job: JobSnapshot) -> str | None:
        """Return where a job ran instead of where it was to run; ``None``: it ran there."""

    def job_error(self, job: JobSnapshot, details: Mapping[str, Any]) -> VertexTrainingError:
        """
        Return the error of a job that has ended without success.

        :param details: What the trigger has seen of it besides.
        """

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
