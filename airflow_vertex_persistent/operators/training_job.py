# SPDX-License-Identifier: Apache-2.0
"""The life of a training task, shared by the training operators: check, create, link, watch, report."""

from __future__ import annotations

from abc import abstractmethod
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from airflow_vertex_persistent.exceptions import job_error
from airflow_vertex_persistent.links import PersistentResourcesLink, TrainingJobLink, TrainingLogsLink
from airflow_vertex_persistent.names import (
    ResourceName,
    job_console_url,
    job_logs_url,
    persistent_resources_console_url,
)
from airflow_vertex_persistent.operators.base import VertexOperator, settled_snapshot, typed_errors
from airflow_vertex_persistent.specs.checks import MAX_DISPLAY_NAME_LENGTH, Problems
from airflow_vertex_persistent.states import JobPhase, job_phase
from airflow_vertex_persistent.triggers.training_job import TrainingJobTrigger

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow.sdk import Context

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
        self.cancel_on_kill = cancel_on_kill
        self._running_job: ResourceName | None = None

    @abstractmethod
    def job_request(self, config: Any, default_display_name: str, problems: Problems) -> dict[str, Any]:
        """
        Return the job to create; ``problems`` hears of what is wrong.

        :param config: The parameter of that name, read and rendered.
        :param default_display_name: For a job that has none.
        """

    def execute(self, context: Context) -> Any:
        """Create the job and, if asked, wait for its end."""
        from airflow_vertex_persistent.hooks.training_job import TrainingJobHook, job_snapshot

        problems = Problems("custom job")
        watch = self.watch_arguments(problems)
        config = self._read_config(context, problems)
        request = self.job_request(config, default_display_name(context), problems)
        with typed_errors("custom job", missing=_missing(request)):
            problems.raise_if_any()
            hook = TrainingJobHook(self.gcp_conn_id, self.impersonation_chain)
            project_id = self.project_id or hook.default_project_id
            snapshot = job_snapshot(hook.create_custom_job(project_id, self.region, request))
        self._running_job = ResourceName.parse(snapshot["job"])
        self.log.info("Created %s", snapshot["job"])
        self._persist_links(context, self._running_job)
        if not self.wait_for_completion:
            return training_result(snapshot)
        trigger = TrainingJobTrigger(job=snapshot["job"], cancel_on_kill=self.cancel_on_kill, **watch)
        return self.await_event(trigger, context)

    def execute_complete(self, context: Context, event: dict[str, Any]) -> dict[str, Any]:
        """Return the result of the job that has ended, or raise its error."""
        snapshot: JobSnapshot = settled_snapshot("the job", event)
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

    def on_kill(self) -> None:
        """Cancel the job of a task that is stopped while it runs."""
        if self._running_job is None or not self.cancel_on_kill:
            return
        from airflow_vertex_persistent.hooks.training_job import TrainingJobHook

        hook = TrainingJobHook(self.gcp_conn_id, self.impersonation_chain)
        hook.cancel_custom_job(self._running_job)
        self.log.info("Cancelled %s: its task was stopped", self._running_job)

    def _persist_links(self, context: Context, job: ResourceName) -> None:
        """Push the addresses, with the project's number as the service has it: result and errors do the same."""
        TrainingJobLink().persist(context, job_console_url(job))
        TrainingLogsLink().persist(context, job_logs_url(job))
        PersistentResourcesLink().persist(context, persistent_resources_console_url(job.project))
        self.log.info("Console: %s", job_console_url(job))

    def _read_config(self, context: Context, problems: Problems) -> Any:
        """
        Return ``config`` as a mapping.

        Files are read here and not by Airflow's ``template_ext``, which would open every nested text that
        ends in ``.yaml`` or ``.json``, arguments of the training code included.
        """
        if not isinstance(self.config, str):
            return self.config
        from airflow.sdk import yaml

        if not self.config.endswith((".yaml", ".yml", ".json")):
            # It may be a whole document that a template rendered as text, with an environment in it.
            problems.add_hidden("config", "write a mapping, or the path of a .yaml or .json file")
            return {}
        try:
            # Every JSON document is a YAML document.
            text = (Path(context["dag"].fileloc).parent / self.config).read_text(encoding="utf-8")
            content = yaml.safe_load(text)
        except (OSError, ValueError) as error:
            problems.add("config", self.config, f"cannot be read: {type(error).__name__}")
            return {}
        except yaml.YAMLError:  # type: ignore[attr-defined] # passed through; its text quotes the document
            problems.add("config", self.config, "is neither YAML nor JSON")
            return {}
        return self.render_template(content, context)


def _missing(request: dict[str, Any]) -> str | None:
    """Say what to do when the service does not find the persistent resource of a job that has one."""
    resource = request["job_spec"].get("persistent_resource_id")
    return resource and f"create persistent resource {resource!r} in the same project and region first."


def default_display_name(context: Context) -> str:
    """Return a display name that says which task instance the job is for."""
    ti = context["ti"]
    mapped = ti.map_index is not None and ti.map_index >= 0
    parts = [ti.dag_id, ti.task_id, ti.run_id, *([str(ti.map_index)] if mapped else [])]
    return "-".join(parts)[:MAX_DISPLAY_NAME_LENGTH]


def training_result(snapshot: JobSnapshot) -> dict[str, Any]:
    """
    Return what a training task hands to the tasks after it.

    The keys are always the same; what does not apply is ``None``. Times are RFC 3339 in UTC.
    """
    name = ResourceName.parse(snapshot["job"])
    output_dir = snapshot["output_dir"]
    create, start, end = snapshot["create_time"], snapshot["start_time"], snapshot["end_time"]
    return {
        "job": snapshot["job"],
        "kind": name.kind,
        "state": snapshot["state"],
        "region": name.region,
        "persistent_resource_id": snapshot["persistent_resource_id"],
        "strategy": snapshot["strategy"],
        "candidate": None,
        "create_time": create,
        "start_time": start,
        "end_time": end,
        "queued_seconds": _seconds_between(create, start),
        "running_seconds": _seconds_between(start, end),
        "output_dir": output_dir,
        "model_dir": output_dir and f"{output_dir.rstrip('/')}/model",
        "console_url": job_console_url(name),
    }


def _seconds_between(start: str | None, end: str | None) -> float | None:
    if start is None or end is None:
        return None
    return (datetime.fromisoformat(end) - datetime.fromisoformat(start)).total_seconds()
