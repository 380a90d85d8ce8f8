# SPDX-License-Identifier: Apache-2.0
"""The life of a training task, shared by the training operators: check, create, link, watch, report."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_vertex_persistent.exceptions import JobCancelledError, VertexTrainingError
from airflow_vertex_persistent.links import TrainingJobLink, TrainingLogsLink, VertexLink
from airflow_vertex_persistent.names import ResourceName, same_thing
from airflow_vertex_persistent.operators.base import settled_snapshot, typed_errors
from airflow_vertex_persistent.operators.labels import default_display_name, installation
from airflow_vertex_persistent.operators.training.cancelling import cancel_unless_started
from airflow_vertex_persistent.operators.training.config_file import read_config
from airflow_vertex_persistent.operators.training.execution import Execution, load_execution
from airflow_vertex_persistent.operators.training.machines import NoMachinesError, first_line
from airflow_vertex_persistent.operators.training.submitting import SubmittingOperator
from airflow_vertex_persistent.result import training_result
from airflow_vertex_persistent.specs.checks import Problems
from airflow_vertex_persistent.states import JobPhase, job_phase

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_vertex_persistent.operators.training.machines import Machines
    from airflow_vertex_persistent.specs.custom_job import JobRequest
    from airflow_vertex_persistent.states import JobSnapshot
    from airflow_vertex_persistent.triggers.training_job import TrainingJobTrigger


class TrainingOperator(SubmittingOperator):
    """
    Base of the operators that train: one job for each execution of the task, whatever becomes of its processes.

    :param kwargs: See :class:`~airflow_vertex_persistent.operators.training.parameters.TrainingParameters`.
    """

    operator_extra_links: Collection[VertexLink] = (TrainingJobLink(), TrainingLogsLink())

    @abstractmethod
    def job_requests(self, config: Any, default_display_name: str, problems: Problems) -> list[JobRequest]:
        """
        Return the job that is asked for, in each place and shape in which it may run.

        :param config: The parameter of that name, read and rendered.
        :param default_display_name: For a job that has none.
        :param problems: Hears of what is wrong.
        """

    def result(self, job: JobSnapshot, execution: Execution | None) -> dict[str, Any]:
        """Return what the task hands to the tasks after it."""
        return training_result(job, fallback=self.checked_machines().fallback(job))

    def execute(self, context: Context) -> Any:
        """Find or create the execution's job and, if asked, wait for its end."""
        self._context, self._execution, self._job_ended = context, None, False
        with self.cancelling_at_the_end(context):
            return self._train(context)

    def execute_again(self, context: Context, event: Any = None) -> Any:
        """Try again to get machines, after a pause in the triggerer."""
        self._execution = load_execution(context)
        return self._train(context)

    def execute_complete(self, context: Context, event: dict[str, Any]) -> Any:
        """Return the result of the job that has ended, raise its error, or let another one take its place."""
        self._execution = load_execution(context)
        result = self.conclude(context, event)
        return self._train(context) if result is None else result

    def _train(self, context: Context) -> Any:
        """Find or create a job, and while there are no machines others in its place, until one has ended."""
        problems = Problems(self.subject)
        watch, machines = self._waiting(problems)
        requests = self._requests(context, problems)
        resource = requests[0].job["job_spec"].get("persistent_resource_id") if requests else None
        missing = resource and f"create persistent resource {resource!r} in the same project and region."
        result = None
        while result is None:
            try:
                with typed_errors(self.subject, missing=missing):
                    problems.raise_if_any()
                    execution, job = self.submit(context, requests, watch)
            except NoMachinesError as none:
                self._without_machines(context, none.error, overdue=False)
                continue
            self.persist_links(context, ResourceName.parse(job["job"]))
            if not self.wait_for_completion:
                return self.result(job, execution)
            if job_phase(job["state"]) is JobPhase.SUCCEEDED and execution.has_one_job:
                self._job_ended = True
                return self._succeeded(job)
            deadline = machines.deadline(execution, job)
            result = self.conclude(context, self._watch(context, job["job"], watch, deadline))
        return result

    def _waiting(self, problems: Problems) -> tuple[dict[str, Any], Machines]:
        return self.watch_arguments(problems), self.machines(problems)

    def _requests(self, context: Context, problems: Problems) -> list[JobRequest]:
        # Not by Airflow's template_ext, which would open every nested text that ends in .yaml or .json.
        config = read_config(self.config, Path(context["dag"].fileloc).parent, problems)
        if config is not self.config:
            config = self.render_template(config, context)
        return self.job_requests(config, default_display_name(context), problems)

    def _watch(
        self, context: Context, job: str, watch: dict[str, Any], deadline: str | None
    ) -> dict[str, Any]:
        """Return the event of a job that was watched here; one that the triggerer watches is another process's."""
        return self.wait_for_event(self.job_trigger(job, watch, wait_deadline=deadline), context)

    def job_trigger(self, job: str, watch: Mapping[str, Any], **what: Any) -> TrainingJobTrigger:
        """Return what waits for the job; ``what`` is what it is told besides that which every trigger is."""
        return self.trigger_class(
            job=job,
            cancel_on_kill=self.cancel_on_kill,
            execution_key=None if self._execution is None else self._execution.key,
            installation=installation(),
            **what,
            **watch,
        )

    def conclude(self, context: Context, event: Any) -> dict[str, Any] | None:
        """Return the result of the job that has ended, ``None`` if another one is to take its place."""
        watch, machines, execution = *self._waiting(Problems(self.subject)), self._execution
        if execution is not None and execution.job is not None and not tells_of(execution.job, event):
            self.say_that_it_is_old(event)
            return None
        overdue = event["status"] == "overdue"
        if overdue:
            ended = self._cancel_unless_started(event["name"], watch)
            event, overdue = ended or self._watch(context, event["name"], watch, None), ended is not None
        job: JobSnapshot = settled_snapshot(event)
        self._job_ended = True
        if job_phase(job["state"]) is JobPhase.SUCCEEDED:
            return self._succeeded(job)
        error = machines.job_error(job, event["details"])
        if self._stopped and isinstance(error, JobCancelledError):
            error = JobCancelledError(f"{job['job']} was cancelled: its task was stopped")
        overdue = overdue and isinstance(error, JobCancelledError)
        if overdue:
            error = machines.overdue_error(job)
        if not overdue and not machines.goes_on(job, error):
            raise error
        self._without_machines(context, error, overdue=overdue)
        return None

    def say_that_it_is_old(self, event: Any) -> None:
        """Tell of what an older attempt has waited for: a trigger's number can be given again (SQLite does)."""
        self.log.info("Looking again at the job of this task: the event was %s", event)

    def _succeeded(self, job: JobSnapshot) -> dict[str, Any]:
        result = self.result(job, self._execution)
        self.log.info(
            "Job %s succeeded: queued %s s, ran %s s, model folder %s",
            ResourceName.parse(job["job"]).id,
            result["queued_seconds"],
            result["running_seconds"],
            result["model_dir"],
        )
        return result

    def _cancel_unless_started(self, job: str, watch: dict[str, Any]) -> dict[str, Any] | None:
        """Cancel a job that still waits and return the event of its end; ``None`` if it has started meanwhile."""
        wait_for = self.wait_for_end(watch)
        with typed_errors(f"end of the {self.subject}"):
            event = cancel_unless_started(self.job_hook, job, watch["max_outage"], wait_for, self.log)
        return event and dict(event)

    def _without_machines(self, context: Context, error: VertexTrainingError, *, overdue: bool) -> None:
        """Get ready to try again, elsewhere or after a pause, or end the task."""
        watch, machines = self._waiting(Problems(self.subject))
        if self._execution is None:
            raise error
        execution, said, pause, end = machines.next_step(
            self._execution.refused(), error, interval=watch["poll_interval"], overdue=overdue
        )
        self.keep(context, execution)
        if end is error:
            raise error
        if end is not None:
            raise end from error
        self.log.warning("%s. %s", first_line(error).rstrip("."), said)
        if pause:
            self.pause(context, pause)

    def submit(
        self, context: Context, requests: list[JobRequest], watch: dict[str, Any]
    ) -> tuple[Execution, JobSnapshot]:
        """Return this execution and its job, found or created."""
        execution, resumed = self.begin(context, watch, requests)
        return self.find_or_create(context, execution, requests, watch, resumed=resumed)


def tells_of(job: str, event: Any) -> bool:
    """Tell whether an event of a trigger is that of a job."""
    return isinstance(event, Mapping) and same_thing(job, event["name"])
