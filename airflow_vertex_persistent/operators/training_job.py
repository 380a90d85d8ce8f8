# SPDX-License-Identifier: Apache-2.0
"""The life of a training task, shared by the training operators: check, create, link, watch, report."""

from __future__ import annotations

from abc import abstractmethod
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from airflow.sdk.exceptions import AirflowTaskTimeout, TaskDeferralTimeout

from airflow_vertex_persistent.exceptions import job_error
from airflow_vertex_persistent.links import (
    PersistentResourcesLink,
    TrainingJobLink,
    TrainingLogsLink,
    persist_job_links,
)
from airflow_vertex_persistent.names import ResourceName
from airflow_vertex_persistent.operators.base import (
    VertexOperator,
    is_last_attempt,
    settled_snapshot,
    typed_errors,
)
from airflow_vertex_persistent.operators.config_file import read_config
from airflow_vertex_persistent.operators.execution import (
    Execution,
    default_display_name,
    job_labels,
    load_execution,
    save_execution,
)
from airflow_vertex_persistent.operators.result import training_result
from airflow_vertex_persistent.specs.checks import Problems
from airflow_vertex_persistent.states import JobPhase, job_phase
from airflow_vertex_persistent.triggers.task_state import still_running
from airflow_vertex_persistent.triggers.training_job import TrainingJobTrigger

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from airflow.sdk import Context
    from airflow.sdk.types import RuntimeTaskInstanceProtocol

    from airflow_vertex_persistent.hooks.training_job import TrainingJobHook
    from airflow_vertex_persistent.operators.base import Duration
    from airflow_vertex_persistent.states import JobSnapshot


class TrainingOperator(VertexOperator):
    """
    Base of the operators that train.

    What runs is written in one of three ways. ``container_uri`` and the parameters after it describe one
    container; ``worker_pool_specs`` is the API's own list; ``config`` is a whole body or the path of a file
    that holds one. Where a parameter is a field of the API, see ``CustomJobSpec`` there.

    :param display_name: Name in the console, 1 to 128 characters. Default: from dag, task and run. (templated)
    :param labels: Labels of the job. (templated)
    :param worker_pool_specs: Up to four worker pools, in snake or camel case. (templated)
    :param container_uri: Image to run. (templated)
    :param command: Replaces the image's entry point. (templated)
    :param args: Replace the image's default arguments. (templated)
    :param env: Environment variables of the container. They show in the rendered template, so keep secrets
        in Secret Manager. (templated)
    :param machine_type: For example ``n1-standard-8``. (templated)
    :param accelerator_type: For example ``NVIDIA_TESLA_T4``. (templated)
    :param accelerator_count: Accelerators of one machine. (templated)
    :param replica_count: Machines. More than one means one primary and the others in a second pool.
        Default: 1. (templated)
    :param boot_disk_type: Default: ``pd-ssd``. (templated)
    :param boot_disk_size_gb: Gigabytes, 100 to 64000. Default: 100. (templated)
    :param config: A CustomJob body (``displayName``, ``jobSpec``) or a CustomJobSpec
        (``workerPoolSpecs``), or the path of a ``.yaml`` or ``.json`` file with one, relative to the DAG
        file. Read when the task runs; templates in it are rendered. (templated)
    :param base_output_dir: ``gs://`` folder for model, checkpoints and logs. (templated)
    :param service_account: E-mail address of the account the code runs as. (templated)
    :param network: ``projects/PROJECT_NUMBER/global/networks/NAME``. (templated)
    :param psc_interface_config: Private Service Connect. (templated)
    :param reserved_ip_ranges: Names of ranges of the network. (templated)
    :param tensorboard: Resource name of a Tensorboard; needs a ``service_account``. (templated)
    :param experiment: Resource name of an experiment's context. (templated)
    :param experiment_run: Resource name of a run's context. (templated)
    :param encryption_spec_key_name: Customer-managed key. (templated)
    :param enable_web_access: Allow an interactive shell in the containers. (templated)
    :param enable_dashboard_access: Allow dashboards in the containers. (templated)
    :param max_run_duration: How long the job may run once started: seconds, ``timedelta`` or text like
        ``"7200s"``. Default: the service's, 7 days. (templated)
    :param restart_job_on_worker_restart: Start the whole job again when a worker restarts. (templated)
    :param disable_retries: Do not retry internal errors after the job has started. (templated)
    :param wait_for_completion: Wait for the job's end; if not, the result is that of a job just created.
    :param durable: A retry takes over the job of the attempts before it. If not, it cancels that job and creates
        another one.
    :param cancel_on_kill: Whether killing, clearing or marking the task cancels the job.
    """

    template_fields: Sequence[str] = (
        "display_name",
        "labels",
        "worker_pool_specs",
        "container_uri",
        "command",
        "args",
        "env",
        "machine_type",
        "accelerator_type",
        "accelerator_count",
        "replica_count",
        "boot_disk_type",
        "boot_disk_size_gb",
        "config",
        "base_output_dir",
        "service_account",
        "network",
        "psc_interface_config",
        "reserved_ip_ranges",
        "tensorboard",
        "experiment",
        "experiment_run",
        "encryption_spec_key_name",
        "enable_web_access",
        "enable_dashboard_access",
        "max_run_duration",
        "restart_job_on_worker_restart",
        "disable_retries",
        *VertexOperator.template_fields,
    )
    template_fields_renderers: ClassVar[dict[str, str]] = dict.fromkeys(
        ("labels", "worker_pool_specs", "command", "args", "env", "config", "psc_interface_config"), "json"
    )
    operator_extra_links = (TrainingJobLink(), TrainingLogsLink(), PersistentResourcesLink())

    def __init__(
        self,
        *,
        display_name: str | None = None,
        labels: dict[str, str] | None = None,
        worker_pool_specs: list[dict[str, Any]] | None = None,
        container_uri: str | None = None,
        command: list[str] | None = None,
        args: list[str] | None = None,
        env: dict[str, str] | None = None,
        machine_type: str | None = None,
        accelerator_type: str | None = None,
        accelerator_count: int | str | None = None,
        replica_count: int | str | None = None,
        boot_disk_type: str | None = None,
        boot_disk_size_gb: int | str | None = None,
        config: dict[str, Any] | str | None = None,
        base_output_dir: str | None = None,
        service_account: str | None = None,
        network: str | None = None,
        psc_interface_config: dict[str, Any] | None = None,
        reserved_ip_ranges: list[str] | None = None,
        tensorboard: str | None = None,
        experiment: str | None = None,
        experiment_run: str | None = None,
        encryption_spec_key_name: str | None = None,
        enable_web_access: bool | str | None = None,
        enable_dashboard_access: bool | str | None = None,
        max_run_duration: Duration | None = None,
        restart_job_on_worker_restart: bool | str | None = None,
        disable_retries: bool | str | None = None,
        wait_for_completion: bool = True,
        durable: bool = True,
        cancel_on_kill: bool = True,
        **kwargs: Any,
    ) -> None:
        kwargs.setdefault("multiple_outputs", True)
        super().__init__(**kwargs)
        self.display_name = display_name
        self.labels = labels
        self.worker_pool_specs = worker_pool_specs
        self.container_uri = container_uri
        self.command = command
        self.args = args
        self.env = env
        self.machine_type = machine_type
        self.accelerator_type = accelerator_type
        self.accelerator_count = accelerator_count
        self.replica_count = replica_count
        self.boot_disk_type = boot_disk_type
        self.boot_disk_size_gb = boot_disk_size_gb
        self.config = config
        self.base_output_dir = base_output_dir
        self.service_account = service_account
        self.network = network
        self.psc_interface_config = psc_interface_config
        self.reserved_ip_ranges = reserved_ip_ranges
        self.tensorboard = tensorboard
        self.experiment = experiment
        self.experiment_run = experiment_run
        self.encryption_spec_key_name = encryption_spec_key_name
        self.enable_web_access = enable_web_access
        self.enable_dashboard_access = enable_dashboard_access
        self.max_run_duration = max_run_duration
        self.restart_job_on_worker_restart = restart_job_on_worker_restart
        self.disable_retries = disable_retries
        self.wait_for_completion = wait_for_completion
        self.durable = durable
        self.cancel_on_kill = cancel_on_kill
        self._ti: RuntimeTaskInstanceProtocol | None = None
        self._execution: Execution | None = None
        self._hook: TrainingJobHook | None = None
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
        self._ti = context["ti"]
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
                snapshot = self._submit(context, request, watch)
            persist_job_links(context, ResourceName.parse(snapshot["job"]))
            if job_phase(snapshot["state"]).ended or not self.wait_for_completion:
                return training_result(snapshot)
            return self._watch(context, snapshot["job"], watch)

    def _watch(self, context: Context, job: str, watch: dict[str, Any]) -> Any:
        trigger = TrainingJobTrigger(job=job, cancel_on_kill=self.cancel_on_kill, **watch)
        return self.await_event(trigger, context)

    def execute_complete(self, context: Context, event: dict[str, Any]) -> Any:
        """Return the result of the job that has ended, or raise its error."""
        execution = load_execution(context)
        if execution is not None and execution.job not in {None, event["name"]}:
            # A trigger's number can be given again (SQLite does): this is the end of an older attempt's job.
            self.log.info("Still watching %s: the event was of %s", execution.job, event["name"])
            return self._watch(context, str(execution.job), self.watch_arguments(Problems("custom job")))
        snapshot: JobSnapshot = settled_snapshot(event)
        self._job_ended = True
        if job_phase(snapshot["state"]) is not JobPhase.SUCCEEDED:
            raise job_error(snapshot)
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
        with self._cancelling_at_the_end(context):
            return super().resume_execution(next_method, next_kwargs, context)

    def on_kill(self) -> None:
        """
        Cancel the job of a task that is stopped while it runs.

        Airflow also calls this when only the worker process is told to stop. The task is still running then,
        as far as Airflow knows, and its next attempt takes the job over: a durable task leaves it alone.
        """
        if self._execution is None:
            return
        if self.durable and self._ti is not None and still_running(self._ti):
            self.log.info("The job goes on: its task is still running, the next attempt takes it over")
            return
        self._cancel(self._execution, "its task was stopped")

    def _submit(self, context: Context, request: dict[str, Any], watch: dict[str, Any]) -> JobSnapshot:
        """Return the job of this execution, found or created, and keep its name."""
        from airflow_vertex_persistent.operators.submission import Submission, cancel_jobs_of

        # Kept for on_kill, which has no time to connect.
        hook = self._hook = self._new_hook()
        project_id = self.project_id or hook.default_project_id
        execution = Execution.new(context["ti"].max_tries, project_id, self.region)
        last = load_execution(context)
        resumed = last is not None and self.durable and last.same_run(execution)
        if last is not None and resumed:
            execution = last
        elif last is not None:
            cancel_jobs_of(hook, last, self.log, "its task has started anew")
        save_execution(context, execution)
        self._execution = execution
        submission = Submission(
            hook,
            execution,
            {**request, "labels": {**request.get("labels", {}), **job_labels(context, execution, request)}},
            max_outage=watch["max_outage"],
            wait_for=lambda job: TrainingJobTrigger(job=job, cancel_on_kill=False, **watch).watch_here(),
            log=self.log,
        )
        # A new key is on no job yet.
        snapshot = (submission.find() if resumed else None) or submission.create()
        self._execution = replace(execution, job=snapshot["job"])
        save_execution(context, self._execution)
        return snapshot

    @contextmanager
    def _cancelling_at_the_end(self, context: Context) -> Iterator[None]:
        """Cancel the job when nobody will come back to it: out of time, or out of attempts."""
        try:
            yield
        except (AirflowTaskTimeout, TaskDeferralTimeout):
            self._cancel(load_execution(context), "its task ran longer than execution_timeout")
            raise
        except Exception as error:
            if not self._job_ended and is_last_attempt(self, context, error):
                self._cancel(load_execution(context), "its task has failed for good")
            raise

    def _cancel(self, execution: Execution | None, reason: str) -> None:
        """Cancel what runs of an execution, as far as possible: the task is about to end."""
        self._execution = None
        if execution is None or not self.cancel_on_kill:
            return
        from airflow_vertex_persistent.operators.submission import cancel_job, cancel_jobs_of

        try:
            hook = self._hook or self._new_hook()
            if execution.job is None:
                cancel_jobs_of(hook, execution, self.log, reason)
            else:
                cancel_job(hook, execution.job, self.log, reason)
        except Exception:
            self.log.exception("The job could not be cancelled and may still run: %s", execution.job)

    def _new_hook(self) -> TrainingJobHook:
        from airflow_vertex_persistent.hooks.training_job import TrainingJobHook

        return TrainingJobHook(self.gcp_conn_id, self.impersonation_chain)
