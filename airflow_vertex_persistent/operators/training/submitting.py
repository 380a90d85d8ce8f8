# SPDX-License-Identifier: Apache-2.0
"""How a training task comes to the job of its execution: the one that it has, or a new one."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar

from airflow_vertex_persistent.call_problems import CallProblem, call_problem
from airflow_vertex_persistent.names import CUSTOM_JOBS, NOUNS, REQUEST_LABEL
from airflow_vertex_persistent.operators.labels import job_labels
from airflow_vertex_persistent.operators.training.cancelling import cancel_older
from airflow_vertex_persistent.operators.training.execution import Execution, load_execution
from airflow_vertex_persistent.operators.training.listing import LIST_LAG_SECONDS
from airflow_vertex_persistent.operators.training.machines import NoMachinesError
from airflow_vertex_persistent.operators.training.stoppable import StoppableOperator
from airflow_vertex_persistent.operators.training.submission import Submission
from airflow_vertex_persistent.specs.checks import Problems
from airflow_vertex_persistent.triggers.training_job import TrainingJobTrigger

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow.sdk import Context

    from airflow_vertex_persistent.exceptions import VertexTrainingError
    from airflow_vertex_persistent.operators.training.machines import Machines
    from airflow_vertex_persistent.specs.custom_job import JobRequest
    from airflow_vertex_persistent.states import JobSnapshot
    from airflow_vertex_persistent.triggers.watch import WatchEvent


class SubmittingOperator(StoppableOperator):
    """
    Base of the training operators that finds the job of an execution, or creates it.

    :param kwargs: See :class:`~airflow_vertex_persistent.operators.training.parameters.TrainingParameters`.
    """

    kind: ClassVar[str] = CUSTOM_JOBS
    """Collection of the jobs that it makes."""
    trigger_class: ClassVar[type[TrainingJobTrigger]] = TrainingJobTrigger
    """What waits for one."""

    @property
    def subject(self) -> str:
        """What one of its jobs is called in errors."""
        return NOUNS[self.kind]

    @abstractmethod
    def machines(self, problems: Problems) -> Machines:
        """Return the machines that its jobs are for; ``problems`` hears of what is wrong."""

    def checked_machines(self) -> Machines:
        """Return the same machines, when what is written of them has been checked."""
        return self.machines(Problems(self.subject))

    def body(self, request: JobRequest, job: dict[str, Any]) -> dict[str, Any]:
        """
        Return the body of a create.

        :param job: The job that is asked for, as it fits its machines.
        """
        return job

    def lack_of_machines(self, ended: JobSnapshot) -> VertexTrainingError | None:
        """
        Return what it means that a job has ended while nobody watched it, if that was for lack of machines.

        By default another one is created in its place, as after any other failure.
        """
        return None

    def find_or_create(
        self,
        context: Context,
        execution: Execution,
        requests: list[JobRequest],
        watch: dict[str, Any],
        *,
        resumed: bool,
        with_job: Callable[[Execution, str], Execution] = Execution.created,
    ) -> tuple[Execution, JobSnapshot]:
        """
        Return the job of an execution's candidate, found or created, and keep its name.

        :param resumed: An attempt before this one may have created it.
        :param with_job: Returns the execution with the name of its job.
        """
        request, machines = requests[execution.candidate], self.checked_machines()

        def keep(changed: Execution) -> None:
            nonlocal execution
            execution = changed
            self.keep(context, changed)

        def before_create() -> None:
            self._job_ended = False
            keep(execution.creating())

        def after_create(job: str) -> None:
            keep(with_job(execution, job))
            if self._stopped:
                # on_kill did not know its name yet.
                self.cancel(context, "its task was stopped while it was being created")

        def after_end(job: JobSnapshot) -> None:
            nonlocal execution
            execution = self._execution = execution.after(job)

        def none_goes_on(job: JobSnapshot) -> None:
            if error := self.lack_of_machines(job):
                keep(execution.done(job["job"]))
                raise NoMachinesError(error)

        def refused(error: Exception) -> None:
            if call_problem(error) not in {None, CallProblem.TRANSIENT}:
                keep(execution.refused())  # nothing was created: the next attempt need not look for it
            machines.check_refusal(error, request, execution)

        labels = self.labels_of(context, execution, request)
        submission = Submission(
            hook=self.job_hook,
            execution=execution,
            fingerprint=labels[REQUEST_LABEL],
            request=lambda: _labelled(self.body(request, machines.fitting_job(request, execution)), labels),
            max_outage=watch["max_outage"],
            before_create=before_create,
            after_create=after_create,
            refused=refused,
            after_end=after_end,
            none_goes_on=none_goes_on,
            wait_for=self.wait_for_end(watch),
            stopped=lambda: self._stopped,
            log=self.log,
        )
        # A new key is on no job yet.
        job = submission.job(execution.seconds_to_look(LIST_LAG_SECONDS) if resumed else None)
        self._job_ended = False
        keep(with_job(execution, job["job"]))
        return execution, job

    def labels_of(self, context: Context, execution: Execution, request: JobRequest) -> dict[str, str]:
        """Return the labels of the execution's job, if it is asked for like this."""
        # What was asked for, not what a busy resource makes of it. Another account may see other things.
        asked = {"job": request.asked, "connection": (self.gcp_conn_id, self.impersonation_chain)}
        kept = not (self.wait_for_completion and self.cancel_on_kill)
        return job_labels(context, execution, asked, keep=kept)

    def begin(
        self, context: Context, watch: dict[str, Any], requests: list[JobRequest]
    ) -> tuple[Execution, bool]:
        """Return this execution, and whether it may have jobs; cancel those of one that is over."""
        hook = self.job_hook
        if self._execution is not None:
            return self._execution, True
        project_id = self.project_id or hook.default_project_id
        regions = [request.region for request in requests]
        execution = Execution.new(context["ti"].max_tries, project_id, *regions, kind=self.kind)
        stored = load_execution(context)
        resumed = stored is not None and self.durable and execution.continues(stored)
        if stored is not None and resumed:
            execution = stored
        elif stored is not None:
            cancel_older(
                hook,
                stored,
                watch["max_outage"],
                wait_for=self.wait_for_end(watch),
                log=self.log,
                stopped=lambda: self._stopped,
            )
        self._execution = execution
        return execution, resumed

    def wait_for_end(self, watch: dict[str, Any]) -> Callable[[str], WatchEvent]:
        """Return what waits, here, until a job has ended."""
        return lambda job: TrainingJobTrigger(job=job, cancel_on_kill=False, **watch).watch_here()


def _labelled(job: dict[str, Any], labels: dict[str, str]) -> dict[str, Any]:
    return {**job, "labels": {**job.get("labels", {}), **labels}}
