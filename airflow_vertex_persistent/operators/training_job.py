# SPDX-License-Identifier: Apache-2.0
"""The life of a training task, shared by the training operators: check, create, link, watch, report."""

from __future__ import annotations

from abc import abstractmethod
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow.sdk import TaskInstanceState
from airflow.sdk.exceptions import AirflowTaskTimeout, TaskDeferralTimeout

from airflow_vertex_persistent.exceptions import job_error
from airflow_vertex_persistent.links import (
    PersistentResourcesLink,
    TrainingJobLink,
    TrainingLogsLink,
    persist_job_links,
)
from airflow_vertex_persistent.names import ResourceName
from airflow_vertex_persistent.operators.base import is_last_attempt, settled_snapshot, typed_errors
from airflow_vertex_persistent.operators.config_file import read_config
from airflow_vertex_persistent.operators.execution import (
    Execution,
    default_display_name,
    installation,
    job_labels,
    load_execution,
    save_execution,
)
from airflow_vertex_persistent.operators.result import training_result
from airflow_vertex_persistent.operators.training_parameters import TrainingParameters
from airflow_vertex_persistent.specs.checks import Problems
from airflow_vertex_persistent.states import JobPhase, job_phase
from airflow_vertex_persistent.triggers.task_state import somebody_goes_on, state_or_running, within_patience
from airflow_vertex_persistent.triggers.training_job import TrainingJobTrigger

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airflow.sdk import Context

    from airflow_vertex_persistent.hooks.training_job import TrainingJobHook
    from airflow_vertex_persistent.states import JobSnapshot


class TrainingOperator(TrainingParameters):
    """
    Base of the operators that train: one job for each execution of the task, whatever becomes of its processes.

    :param kwargs: See :class:`~airflow_vertex_persistent.operators.training_parameters.TrainingParameters`.
    """

    operator_extra_links = (TrainingJobLink(), TrainingLogsLink(), PersistentResourcesLink())

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        # What on_kill needs, which is told nothing.
        self._context: Context | None = None
        self._execution: Execution | None = None
        self._hook: TrainingJobHook | None = None
        self._stopped = False
        self._job_ended = False

    @abstractmethod
    def job_request(self, config: Any, default_display_name: str, problems: Problems) -> dict[str, Any]:
        """
        Return the job to create; ``problems`` hears of what is wrong.

        :param config: The parameter of that name, read and rendered.
        :param default_display_name: For a job that has none.
        """

    def execute(self, context: Context) -> Any:
        """Find or create the execution's job and, if asked, wait for its end."""
        self._context = context
        problems = Problems("custom job")
        watch = self.watch_arguments(problems)
        # Not by Airflow's template_ext, which would open every nested text that ends in .yaml or .json.
        config = read_config(self.config, Path(context["dag"].fileloc).parent, problems)
        if config is not self.config:
            config = self.render_template(config, context)
        request = self.job_request(config, default_display_name(context), problems)
        with self._cancelling_at_the_end(context):
            resource = request["job_spec"].get("persistent_resource_id")
            missing = resource and f"create persistent resource {resource!r} in the same project and region."
            with typed_errors("custom job", missing=missing):
                problems.raise_if_any()
                execution, snapshot = self._submit(context, request, watch)
            persist_job_links(context, ResourceName.parse(snapshot["job"]))
            if job_phase(snapshot["state"]).ended or not self.wait_for_completion:
                return training_result(snapshot)
            return self._watch(context, execution, watch)

    def _watch(self, context: Context, execution: Execution, watch: dict[str, Any]) -> Any:
        trigger = TrainingJobTrigger(
            job=str(execution.job),
            cancel_on_kill=self.cancel_on_kill,
            execution_key=execution.key,
            installation=installation(),
            **watch,
        )
        return self.await_event(trigger, context)

    def execute_complete(self, context: Context, event: dict[str, Any]) -> Any:
        """Return the result of the job that has ended, or raise its error."""
        execution = self._execution = load_execution(context)
        if execution is not None and _is_another(execution.job, event["name"]):
            # A trigger's number can be given again (SQLite does): this is the end of an older attempt's job.
            self.log.info("Still watching %s: the event was of %s", execution.job, event["name"])
            return self._watch(context, execution, self.watch_arguments(Problems("custom job")))
        snapshot: JobSnapshot = settled_snapshot(event)
        self._job_ended = True
        if job_phase(snapshot["state"]) is not JobPhase.SUCCEEDED:
            raise job_error(snapshot, event["details"])
        result = training_result(snapshot)
        self.log.info(
            "Job %s succeeded: queued %s s, ran %s s, model folder %s",
            ResourceName.parse(snapshot["job"]).id,
            result["queued_seconds"],
            result["running_seconds"],
            result["model_dir"],
        )
        return result

    def resume_execution(self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context) -> Any:
        """Go on after the wait in the triggerer, or end the job when the wait took too long."""
        self._context = context
        with self._cancelling_at_the_end(context):
            return super().resume_execution(next_method, next_kwargs, context)

    def on_kill(self) -> None:
        """
        Cancel the job of a task that is stopped while it runs.

        Airflow also calls this when only the worker process is told to stop. The task is still running then, as
        far as Airflow knows, and its next attempt, if there is one, takes the job over: a durable task leaves it
        alone.
        """
        context, execution = self._context, self._execution
        if context is None:
            return
        ti = context["ti"]
        state = state_or_running(ti)
        if state == TaskInstanceState.RUNNING:
            another_goes_on = self.durable and ti.try_number <= ti.max_tries
        else:
            another_goes_on = somebody_goes_on(state) and state != TaskInstanceState.RESTARTING
        if another_goes_on:
            self.log.info("The job goes on: its task is %s, and another attempt deals with it", state)
            return
        # The main thread goes on after this, for up to five seconds: it must not create or keep anything more.
        self._stopped = True
        if execution is not None and state == TaskInstanceState.RESTARTING:
            cleared = replace(execution, cleared=True)
            within_patience(lambda: save_execution(context, cleared), otherwise=None)
        if not self._job_ended:
            self._cancel(context, "its task was stopped")

    def _submit(
        self, context: Context, request: dict[str, Any], watch: dict[str, Any]
    ) -> tuple[Execution, JobSnapshot]:
        """Return this execution and its job, found or created, and keep the job's name."""
        from airflow_vertex_persistent.operators.submission import LIST_LAG_SECONDS, Submission, cancel_older

        # Kept for on_kill, which has no time to connect.
        hook = self._hook = self._new_hook()
        project_id = self.project_id or hook.default_project_id
        execution = Execution.new(context["ti"].max_tries, project_id, self.region)
        stored = load_execution(context)
        resumed = stored is not None and self.durable and execution.continues(stored)
        if stored is not None and resumed:
            execution = stored
        elif stored is not None:
            cancel_older(hook, stored, watch["max_outage"], self.log, lambda: self._stopped)
        self._execution = execution

        def after_create(job: str) -> None:
            self._keep(context, execution.created(job))
            if self._stopped:
                # on_kill did not know its name yet.
                self._cancel(context, "its task was stopped while it was being created")

        submission = Submission(
            hook=hook,
            execution=execution,
            request=self._labelled(context, execution, request),
            max_outage=watch["max_outage"],
            before_create=lambda: self._keep(context, execution.creating()),
            after_create=after_create,
            wait_for=lambda job: TrainingJobTrigger(job=job, cancel_on_kill=False, **watch).watch_here(),
            stopped=lambda: self._stopped,
            log=self.log,
        )
        # A new key is on no job yet.
        snapshot = submission.job(execution.seconds_to_look(LIST_LAG_SECONDS) if resumed else None)
        execution = execution.created(snapshot["job"])
        if execution != self._execution:
            self._keep(context, execution)
        return execution, snapshot

    def _keep(self, context: Context, execution: Execution) -> None:
        """Keep what is known of this execution; a stopped task keeps it for itself."""
        self._execution = execution
        if not self._stopped:
            save_execution(context, execution)

    def _labelled(self, context: Context, execution: Execution, request: dict[str, Any]) -> dict[str, Any]:
        # Another account may see other things: it is part of what was asked for.
        asked = {"job": request, "connection": (self.gcp_conn_id, self.impersonation_chain)}
        keep = not (self.wait_for_completion and self.cancel_on_kill)
        ours = job_labels(context, execution, asked, keep=keep)
        return {**request, "labels": {**request.get("labels", {}), **ours}}

    @contextmanager
    def _cancelling_at_the_end(self, context: Context) -> Iterator[None]:
        """Cancel the job when nobody will come back to it: out of time, or out of attempts."""
        try:
            yield
        except (AirflowTaskTimeout, TaskDeferralTimeout):
            self._cancel(context, "its task ran longer than execution_timeout")
            raise
        except Exception as error:
            over = self._job_ended or self._stopped
            if not over and is_last_attempt(self, context, error):
                self._cancel(context, "its task has failed for good")
            raise

    def _cancel(self, context: Context, reason: str) -> None:
        """Cancel what runs of this execution, as far as possible: the task is about to end."""
        if not self.cancel_on_kill:
            return
        from airflow_vertex_persistent.operators.submission import cancel_job, cancel_jobs_of

        try:
            execution = self._execution or load_execution(context)
            if execution is None:
                return
            hook = self._hook or self._new_hook()
            if execution.job is None or execution.creating_since is not None:
                cancel_jobs_of(hook, execution, self.log, reason, quickly=True)
            else:
                cancel_job(hook, execution.job, self.log, reason)
            self._context = None  # Airflow calls on_kill after a timeout as well: it has nothing left to do
        except Exception:
            self.log.exception("The job could not be cancelled and may still run: %s", self._execution)

    def _new_hook(self) -> TrainingJobHook:
        from airflow_vertex_persistent.hooks.training_job import TrainingJobHook

        return TrainingJobHook(self.gcp_conn_id, self.impersonation_chain)


def _is_another(job: str | None, name: str) -> bool:
    return job is not None and ResourceName.parse(job).identity != ResourceName.parse(name).identity
