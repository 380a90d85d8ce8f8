# SPDX-License-Identifier: Apache-2.0
"""The parameters that the training operators share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from airflow_vertex_persistent.operators.base import WaitingOperator

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow_vertex_persistent.operators.base import Duration


class TrainingParameters(WaitingOperator):
    """
    What every operator that trains is given.

    What runs is written in one of three ways. ``container_uri`` and the parameters after it describe one
    container; ``worker_pool_specs`` is the API's own list; ``config`` is a whole body or the path of a file
    that holds one. Where a parameter is a field of the API, see ``CustomJobSpec`` there.

    :param display_name: Name in the console, 1 to 128 characters. Default: from dag, task and run. (templated)
    :param labels: Labels of the job. (templated)
    :param worker_pool_specs: Up to four worker pools, in snake or camel case. (templated)
    :param container_uri: Image to run. (templated)
    :param command: Replaces the image's entry point. (templated)
    :param args: Replace the image's default arguments. (templated)
    :param env: Environment variables of the container; one that is ``None`` is left out. They show in the rendered
        template, so keep secrets in Secret Manager. (templated)
    :param machine_type: For example ``n1-standard-8``. On a persistent resource the default is that of its pool, with
        accelerators and disk. (templated)
    :param accelerator_type: For example ``NVIDIA_TESLA_T4``. (templated)
    :param accelerator_count: Accelerators of one machine. (templated)
    :param replica_count: Machines. More than one means one primary and the others in a second pool.
        Default: 1. (templated)
    :param boot_disk_type: Default: ``pd-ssd``, on a persistent resource that of its pool. (templated)
    :param boot_disk_size_gb: Gigabytes, 100 to 64000. Default: 100, on a persistent resource that of its pool.
        (templated)
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
    :param wait_for_completion: Wait for the job's end; if not, the result is that of a job just created. Default:
        ``True``.
    :param durable: A retry takes over the job of the attempts before it. If not, it cancels that job and creates
        another one, and a worker process that is told to stop cancels it at once. Default: ``True``.
    :param cancel_on_kill: Whether killing, clearing or marking the task cancels the job. Default: ``True``.
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
        *WaitingOperator.template_fields,
    )
    template_fields_renderers: ClassVar[dict[str, str]] = dict.fromkeys(
        ("labels", "worker_pool_specs", "command", "args", "env", "config", "psc_interface_config"), "json"
    )

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
