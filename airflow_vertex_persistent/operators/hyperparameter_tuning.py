# SPDX-License-Identifier: Apache-2.0
"""Hyperparameter tuning, on machines that are already there or on ones of its own."""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, ClassVar, cast

from airflow_vertex_persistent.links import TuningReportLink
from airflow_vertex_persistent.names import TUNING_JOBS, ResourceName
from airflow_vertex_persistent.operators.base import typed_errors
from airflow_vertex_persistent.operators.training.migration import our_arguments
from airflow_vertex_persistent.operators.training.on_resource import ResourceTrainingOperator
from airflow_vertex_persistent.operators.training.own_machines import OwnMachines, Place
from airflow_vertex_persistent.operators.training.patience import answered
from airflow_vertex_persistent.operators.training.tuning_files import write_report, write_trials
from airflow_vertex_persistent.report.table import trial_table
from airflow_vertex_persistent.specs.checks import Problems, boolean, check_persistent_resource_id, seconds
from airflow_vertex_persistent.specs.custom_job import JOB_FIELDS, QUEUE_FIELDS, WARM_FIELDS
from airflow_vertex_persistent.specs.scheduling import check_own_machines, check_warm_machines
from airflow_vertex_persistent.specs.study import plain_parameters
from airflow_vertex_persistent.specs.tuning_job import COUNT_FIELDS, STUDY_FIELDS, tuning_body, tuning_job
from airflow_vertex_persistent.specs.worker_pools import short_form_field
from airflow_vertex_persistent.states import FLEX_START, STANDARD, JobPhase, job_phase
from airflow_vertex_persistent.trials import best_trial, best_trial_result, trial_counts
from airflow_vertex_persistent.triggers.tuning_job import TuningJobTrigger

if TYPE_CHECKING:
    from collections.abc import Sequence

    from google.cloud.aiplatform_v1.types import HyperparameterTuningJob

    from airflow_vertex_persistent.operators.base import Duration
    from airflow_vertex_persistent.operators.training.execution import Execution
    from airflow_vertex_persistent.operators.training.machines import Machines
    from airflow_vertex_persistent.specs.custom_job import JobRequest
    from airflow_vertex_persistent.states import JobSnapshot
    from airflow_vertex_persistent.trials import TuningSnapshot


class HyperparameterTuningOperator(ResourceTrainingOperator):
    """
    Search for the best hyperparameters, and hand the best trial to the tasks after it.

    Vertex AI runs the work many times, each time as a custom job of its own, a *trial*, with one more command-line
    flag for each parameter: ``--learning_rate=0.01``, whole numbers as ``--layers=3.0``. The training code reports
    its metrics with the package ``cloudml-hypertune``. The trials run on a persistent resource, or on machines of
    their own, at once or from the queue of Flex Start. Blocking, deferrable, durable and stopped like every training
    task: killing, clearing or marking it cancels the tuning job with its trials, and a retry takes it over.

    The *best trial* is chosen among those that succeeded with a finite value of the first metric: NaN and infinite
    values and infeasible trials do not count. The first metric decides, then the next ones in their order, then the
    smaller trial number.

    .. seealso:: :doc:`/operators/hyperparameter_tuning`

    :param metrics: What to make larger or smaller, the one that decides first: ``{"accuracy": "maximize"}``, or the
        API's list. (templated)
    :param parameters: What to search, by id: :func:`~airflow_vertex_persistent.specs.study.double`,
        :func:`~airflow_vertex_persistent.specs.study.integer`,
        :func:`~airflow_vertex_persistent.specs.study.discrete`,
        :func:`~airflow_vertex_persistent.specs.study.categorical`, the API's own dictionaries, or parameter-spec
        objects of the SDK. (templated)
    :param max_trial_count: How many trials there are. (templated)
    :param parallel_trial_count: How many run at the same time, each on all the machines of a job. Fewer learn more
        from each other. Default: 1. (templated)
    :param max_failed_trial_count: How many failed trials end the job. Default, and 0: the service decides, and has
        been seen to fail the job with the first trial if that one fails. (templated)
    :param algorithm: ``"bayesian"``, ``"random"``, or ``"grid"``, which needs parameters without ``double``. Default:
        the service's, Bayesian. (templated)
    :param measurement_selection: Which of the reports of a trial counts: ``"last"`` or ``"best"``. Default: the
        service's, the last. (templated)
    :param early_stopping: By which rule trials that promise little are stopped: ``"median"``, ``"decay_curve"``,
        ``"convex"``, or a mapping with one of the API's specs, such as ``{"median_automated_stopping_spec":
        {"use_elapsed_duration": True}}``. Default: none. (templated)
    :param persistent_resource_id: Id of a resource to run on; the trials that run at the same time must fit it
        together. Default: machines of their own. (templated)
    :param strategy: Without a resource: ``"flex_start"``, each trial waits in the queue; ``"spot"``; ``"standard"``.
        Default: what ``config`` says, else ``"standard"``. (templated)
    :param max_wait_duration: On a resource: as the other operators on one have it. With Flex Start: how long each
        trial may wait for machines; 0: for ever; default: the service's, 24 hours. (templated)
    :param max_run_duration: How long each trial may run. Default: the service's, 7 days. (templated)
    :param config: A HyperparameterTuningJob body (``studySpec``, ``trialJobSpec``), or the path of a ``.yaml`` or
        ``.json`` file with one, as ``gcloud ai hp-tuning-jobs create --config`` takes it. (templated)
    :param base_output_dir: ``gs://`` folder; each trial has a folder of its own in it, by its number. (templated)
    :param save_trials: Write all trials with their measurements to ``trials.jsonl`` there. (templated)
    :param save_report: Write a picture of the search to ``report.html`` there, which the button *Tuning report*
        opens; needs the extra ``report``. (templated)
    :param allow_unlisted_accelerators: See
        :class:`~airflow_vertex_persistent.operators.flex_start.FlexStartTrainingOperator`. (templated)
    :param kwargs: The work and everything else, see
        :class:`~airflow_vertex_persistent.operators.training.on_resource.ResourceTrainingOperator`,
        :class:`~airflow_vertex_persistent.operators.training.parameters.TrainingParameters` and
        :class:`~airflow_vertex_persistent.operators.base.WaitingOperator`. The arguments of the Google provider's
        ``CreateHyperparameterTuningJobOperator`` are understood too.
    :return: As :class:`~airflow_vertex_persistent.operators.custom_job.PersistentResourceCustomJobOperator`, with
        ``best_trial`` (``id``, ``parameters``, ``metrics``, ``model_dir``, ``custom_job``; ``None`` if there is
        none), ``trial_counts`` (``succeeded``, ``infeasible``, ``running``, ``total``), ``trials_uri`` and
        ``report_uri``. ``model_dir`` is that of the best trial.
    """

    kind = TUNING_JOBS
    trigger_class = TuningJobTrigger
    operator_extra_links = (*ResourceTrainingOperator.operator_extra_links, TuningReportLink())
    template_fields: Sequence[str] = (
        "metrics",
        "parameters",
        "max_trial_count",
        "parallel_trial_count",
        "max_failed_trial_count",
        "algorithm",
        "measurement_selection",
        "early_stopping",
        "strategy",
        "save_trials",
        "save_report",
        "allow_unlisted_accelerators",
        *ResourceTrainingOperator.template_fields,
    )
    template_fields_renderers: ClassVar[dict[str, str]] = {
        **ResourceTrainingOperator.template_fields_renderers,
        **dict.fromkeys(("metrics", "parameters", "early_stopping"), "json"),
    }

    def __init__(
        self,
        *,
        metrics: dict[str, str] | list[dict[str, Any]] | None = None,
        parameters: dict[str, Any] | list[dict[str, Any]] | None = None,
        max_trial_count: int | str | None = None,
        parallel_trial_count: int | str | None = None,
        max_failed_trial_count: int | str | None = None,
        algorithm: str | None = None,
        measurement_selection: str | None = None,
        early_stopping: str | dict[str, Any] | None = None,
        persistent_resource_id: str | None = None,
        strategy: str | None = None,
        max_wait_duration: Duration | None = None,
        save_trials: bool | str = False,
        save_report: bool | str = False,
        allow_unlisted_accelerators: bool | str = False,
        **kwargs: Any,
    ) -> None:
        study = {
            "metrics": metrics,
            "parameters": parameters,
            "algorithm": algorithm,
            "measurement_selection": measurement_selection,
        }
        arguments = our_arguments({**study, **kwargs})
        study = {field: arguments.pop(field) for field in study}
        super().__init__(
            persistent_resource_id=persistent_resource_id, max_wait_duration=max_wait_duration, **arguments
        )
        # A template may render to nothing: then the search must not run, and cost, on machines of its own.
        self._on_resource = persistent_resource_id is not None
        self.metrics = study["metrics"]
        self.parameters = plain_parameters(study["parameters"])
        self.max_trial_count = max_trial_count
        self.parallel_trial_count = parallel_trial_count
        self.max_failed_trial_count = max_failed_trial_count
        self.algorithm = study["algorithm"]
        self.measurement_selection = study["measurement_selection"]
        self.early_stopping = early_stopping
        self.strategy = strategy
        self.save_trials = save_trials
        self.save_report = save_report
        self.allow_unlisted_accelerators = allow_unlisted_accelerators

    def job_requests(self, config: Any, default_display_name: str, problems: Problems) -> list[JobRequest]:
        """Return the one tuning job that is asked for."""
        fields = (*STUDY_FIELDS, *COUNT_FIELDS, *JOB_FIELDS, *WARM_FIELDS, *QUEUE_FIELDS)
        wanted = {field: getattr(self, field) for field in fields}
        wanted["config"] = config
        if self._on_resource:
            wanted["max_wait_duration"] = None  # the task counts: the service knows no limit there
        request = tuning_job(wanted, problems, default_display_name=default_display_name)
        check_machines = self._check_warm_machines if self._on_resource else self._check_own_machines
        check_machines(request, problems)
        self._check_files(request, problems)
        return [request]

    def _check_warm_machines(self, request: JobRequest, problems: Problems) -> None:
        if self.persistent_resource_id is None:
            check_persistent_resource_id(None, problems)
        check_warm_machines(
            request.job["job_spec"],
            problems,
            instead="leave persistent_resource_id out",
            strategy_field="scheduling.strategy" if self.strategy is None else "strategy",
        )

    def _check_own_machines(self, request: JobRequest, problems: Problems) -> None:
        spec = dict(request.job["job_spec"])
        if spec.pop("persistent_resource_id", None) is not None:
            fix = "write it as the parameter: with the config alone nothing is checked against the resource"
            problems.add_hidden("config.persistent_resource_id", fix)
        scheduling = spec.get("scheduling") or {}
        if "max_wait_duration" in scheduling and scheduling.get("strategy") != FLEX_START:
            fix = "goes with strategy='flex_start', or with a persistent_resource_id"
            problems.add("max_wait_duration", self.max_wait_duration, fix)
        for field in ("resource_pool", "when_busy"):
            value, default = getattr(self, field), "queue" if field == "when_busy" else None
            if value != default:
                problems.add(field, value, "goes with a persistent_resource_id")
        unlisted = boolean("allow_unlisted_accelerators", self.allow_unlisted_accelerators, problems)
        for warning in check_own_machines(
            spec,
            problems,
            rename=short_form_field if request.short_form else str,
            allow_unlisted_accelerators=bool(unlisted),
        ):
            self.log.warning(warning)

    def _check_files(self, request: JobRequest, problems: Problems) -> None:
        """Check that what is to be written has a place, before anything is paid for."""
        for field in ("save_trials", "save_report"):
            if not boolean(field, getattr(self, field), problems):
                continue
            if not self.wait_for_completion:
                problems.add(
                    field, getattr(self, field), "needs wait_for_completion: there are no trials before"
                )
            if not request.job["job_spec"].get("base_output_directory"):
                problems.add(field, getattr(self, field), "needs a base_output_dir to write to")
            if field == "save_report" and find_spec("plotly") is None:
                fix = "needs plotly: pip install 'airflow-provider-vertex-persistent[report]'"
                problems.add(field, getattr(self, field), fix)

    def machines(self, problems: Problems) -> Machines:
        """Return the machines of the resource, or those that the trials get for themselves."""
        if self._on_resource:
            return super().machines(problems)
        fields = ("region", "machine_type", "strategy", "max_wait_duration")
        place = Place.read({field: getattr(self, field) for field in fields}, default=STANDARD)
        return OwnMachines((place,), next_on_quota=False, kind=self.kind)

    def body(self, request: JobRequest, job: dict[str, Any]) -> dict[str, Any]:
        """Return the tuning job of trials as they fit their machines."""
        return tuning_body(request, job)

    def result(self, job: JobSnapshot, execution: Execution | None) -> dict[str, Any]:
        """Return what the task hands to the tasks after it."""
        base = super().result(job, execution)
        tuning = {"best_trial": None, "trial_counts": None, "trials_uri": None, "report_uri": None}
        if job_phase(job["state"]) is not JobPhase.SUCCEEDED:
            return {**base, "model_dir": None, **tuning}
        search = self._search(job)
        best = best_trial_result(search["trials"], search["goals"], job["output_dir"])
        if best is None:
            self.log.warning(
                "There is no best trial: none has succeeded with a finite value of %r",
                next(iter(search["goals"]), ""),
            )
        return {
            **base,
            **tuning,
            "model_dir": best and best["model_dir"],
            "best_trial": best,
            "trial_counts": trial_counts(search["trials"]),
            **self._written(job, search),
        }

    def _search(self, job: JobSnapshot) -> TuningSnapshot:
        """Return the trials of a job that has ended."""
        # Imported here: a DAG file that imports an operator must not import Google's client.
        from airflow_vertex_persistent.hooks.tuning import tuning_snapshot

        name, hook = ResourceName.parse(job["job"]), self.job_hook
        limit = seconds("max_outage", self.max_outage, Problems(self.subject)) or 0.0
        with typed_errors(f"result of the {self.subject}"):
            ended = answered(lambda: hook.get_job(name, once=True), limit, self.log)
        search = tuning_snapshot(cast("HyperparameterTuningJob", ended))
        trials, goals = search["trials"], search["goals"]
        self.log.info("All trials:\n%s", trial_table(trials, goals, best_trial(trials, goals)))
        return search

    def _written(self, job: JobSnapshot, search: TuningSnapshot) -> dict[str, str | None]:
        """Write what is to be written of the search, and return where it is."""
        writers = {"trials": write_trials, "report": write_report}
        wanted = [
            name
            for name in writers
            if boolean(f"save_{name}", getattr(self, f"save_{name}"), Problems(self.subject))
        ]
        if not wanted:
            return {}
        from airflow_vertex_persistent.hooks.storage import StorageHook

        hook = StorageHook(self.gcp_conn_id, self.impersonation_chain)
        return {f"{name}_uri": writers[name](hook, job, search, self.log) for name in wanted}

    def _succeeded(self, job: JobSnapshot) -> dict[str, Any]:
        result = super()._succeeded(job)
        if (report := result["report_uri"]) and self._context is not None:
            from airflow_vertex_persistent.hooks.storage import StorageHook

            TuningReportLink().persist(self._context, StorageHook.browser_url(report))
        return result
