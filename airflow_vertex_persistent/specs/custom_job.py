# SPDX-License-Identifier: Apache-2.0
"""A custom job: the three ways to write one, turned into one checked ``CustomJob``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from airflow_vertex_persistent.names import CUSTOM_JOBS, NOUNS, TUNING_JOBS
from airflow_vertex_persistent.specs import checks
from airflow_vertex_persistent.specs.checks import Problems
from airflow_vertex_persistent.specs.messages import camel_case, read_message
from airflow_vertex_persistent.specs.scheduling import read_strategy
from airflow_vertex_persistent.specs.worker_pools import (
    SHORT_FORM,
    read_worker_pools,
    short_form_field,
    short_form_pools,
)

# Parameters that are fields of CustomJobSpec under their own name.
_SPEC_FIELDS = (
    "service_account",
    "network",
    "psc_interface_config",
    "reserved_ip_ranges",
    "tensorboard",
    "experiment",
    "experiment_run",
    "enable_web_access",
    "enable_dashboard_access",
)
# Parameters that are fields of Scheduling under their own name.
_SCHEDULING_FIELDS = ("restart_job_on_worker_restart", "disable_retries")
# What `custom_job` reads of every job.
JOB_FIELDS = (
    "region",
    "display_name",
    "labels",
    "worker_pool_specs",
    *SHORT_FORM,
    "config",
    "base_output_dir",
    *_SPEC_FIELDS,
    "encryption_spec_key_name",
    "max_run_duration",
    *_SCHEDULING_FIELDS,
)

# What it reads of a job that is to have machines of its own, and of one that is to run on a persistent resource.
QUEUE_FIELDS = ("strategy", "max_wait_duration")
WARM_FIELDS = ("persistent_resource_id", "resource_pool")


class JobRequest(NamedTuple):
    """
    A custom job that is wanted, and what of it the API has no field for.

    :param job: A ``CustomJob`` in the API's JSON form with snake-case keys. On a persistent resource, its worker
        pools may lack ``machine_spec`` and ``disk_spec``, or one half of the latter, until
        :func:`~airflow_vertex_persistent.specs.pool_matching.fit_to_pools` has filled them in.
    :param resource_pools: For each worker pool, the id of the resource pool that it is to run on, if it names one.
    :param short_form: Whether the worker pools were made of ``container_uri`` and the parameters that go with it.
    :param region: Where it is to run.
    :param tuning: The fields that a ``HyperparameterTuningJob`` has besides those of the custom job that each of its
        trials is; ``None``: the job is no tuning job.
    """

    job: dict[str, Any]
    resource_pools: tuple[str | None, ...]
    short_form: bool
    region: str
    tuning: dict[str, Any] | None = None

    @property
    def asked(self) -> tuple[Any, ...]:
        """What is asked for, to tell whether that has changed."""
        return self if self.tuning is not None else self[:-1]

    @property
    def subject(self) -> str:
        """What it is called in errors."""
        return NOUNS[CUSTOM_JOBS if self.tuning is None else TUNING_JOBS]

    @property
    def at_once(self) -> int:
        """How many times it may run at the same time: as many trials as may, or once."""
        return 1 if self.tuning is None else int(self.tuning["parallel_trial_count"])


def custom_job(
    wanted: Mapping[str, Any], problems: Problems, *, default_display_name: str | None = None
) -> JobRequest:
    """
    Return the custom job that is wanted.

    What is written as a parameter wins over the same field in ``config``.

    :param wanted: The fields of :data:`JOB_FIELDS`, and of :data:`QUEUE_FIELDS` or :data:`WARM_FIELDS`, after
        templates were rendered. ``config`` is a mapping: a CustomJob body (``displayName``, ``jobSpec``) or a
        CustomJobSpec (``workerPoolSpecs``).
    :param problems: Hears of everything that is wrong.
    :param default_display_name: For a job that has none.
    """
    from google.cloud.aiplatform_v1.types import CustomJob

    given = {field: value for field, value in wanted.items() if value is not None}
    body = _config_body(given.get("config"), problems)
    spec = _take(body, "job_spec", problems)
    spec = dict(spec) if isinstance(spec, Mapping) else {"job_spec": spec} if spec else {}
    pools = _work(given, spec, problems)
    _merge_parameters(given, body, spec, problems)
    if "displayName" not in body:
        body.setdefault("display_name", default_display_name)

    message = CustomJob.pb().DESCRIPTOR
    spec_message = message.fields_by_name["job_spec"].message_type
    pool_message = spec_message.fields_by_name["worker_pool_specs"].message_type
    job = read_message(body, message, "", problems)
    job["job_spec"] = read_message(spec, spec_message, "", problems)
    names: tuple[str | None, ...] = ()
    found = Problems(problems.subject)
    short_form = pools is None and "container_uri" in given
    if short_form:
        pools = short_form_pools(given, found)
    if pools is not None:
        warm = "persistent_resource_id" in job["job_spec"]
        clean, names = read_worker_pools(pools, pool_message, found, warm=warm)
        job["job_spec"]["worker_pool_specs"] = clean
    problems.absorb(found, short_form_field if short_form else str)
    _check_job(job, problems)
    return JobRequest(job, names, short_form, str(given.get("region", "")))


def _config_body(config: Any, problems: Problems) -> dict[str, Any]:
    if config is None:
        return {}
    if not isinstance(config, Mapping):
        problems.add_hidden("config", "write a mapping, or the path of a .yaml or .json file that holds one")
        return {}
    if "jobSpec" in config or "job_spec" in config:
        return dict(config)
    return {"job_spec": config}


def _take(message: dict[str, Any], field: str, problems: Problems) -> Any:
    """Take a field out of what ``config`` says, whichever way it is spelled there."""
    values = [message.pop(name) for name in (field, camel_case(field)) if name in message]
    if len(values) > 1:
        problems.add_hidden(f"config.{field}", f"is given twice, as {field!r} and {camel_case(field)!r}")
    return values[0] if values else None


def _work(given: Mapping[str, Any], spec: dict[str, Any], problems: Problems) -> Any:
    """Return the worker pools that are written out, ``None`` for the short form or no single place."""
    from_config = _take(spec, "worker_pool_specs", problems)
    places = {
        "container_uri": given.get("container_uri"),
        "worker_pool_specs": given.get("worker_pool_specs"),
        "config": from_config,
    }
    used = [name for name, work in places.items() if work is not None]
    if len(used) != 1:
        fix = "give exactly one of container_uri, worker_pool_specs and a config with workerPoolSpecs"
        problems.add_hidden(" and ".join(used) or "container_uri", fix)
        return None
    if used == ["container_uri"]:
        return None
    for field in (*SHORT_FORM, "resource_pool"):
        if field in given:
            fix = f"goes with container_uri, the short form; with {used[0]} it is said in the worker pools"
            problems.add_hidden(field, fix)
    return places[used[0]]


def _merge_parameters(
    given: Mapping[str, Any], body: dict[str, Any], spec: dict[str, Any], problems: Problems
) -> None:
    """Put the parameters where the API has them, over what ``config`` said."""
    for field in (*_SPEC_FIELDS, "persistent_resource_id"):
        _put(spec, field, given.get(field))
    if "base_output_dir" in given:
        _put(spec, "base_output_directory", {"output_uri_prefix": given["base_output_dir"]})
    scheduling = {field: given[field] for field in _SCHEDULING_FIELDS if field in given}
    if "max_run_duration" in given:
        limit = checks.seconds("max_run_duration", given["max_run_duration"], problems)
        scheduling["timeout"] = None if limit is None else checks.api_duration(limit)
    if "max_wait_duration" in given:
        limit = checks.seconds("max_wait_duration", given["max_wait_duration"], problems, zero=True)
        scheduling["max_wait_duration"] = None if limit is None else checks.api_duration(limit)
    if "strategy" in given:
        scheduling["strategy"] = read_strategy(given["strategy"], problems)
    _put(spec, "scheduling", _over(spec.get("scheduling"), scheduling))
    _put(body, "display_name", given.get("display_name"))
    _put(body, "labels", _over(body.get("labels"), given.get("labels")))
    if "encryption_spec_key_name" in given:
        _put(body, "encryption_spec", {"kms_key_name": given["encryption_spec_key_name"]})


def _over(config: Any, given: Any) -> Any:
    """Return one mapping laid over the other; what is no mapping is left for the check to tell."""
    if not config or not given:
        return given or config
    if not isinstance(config, Mapping) or not isinstance(given, Mapping):
        return config if isinstance(given, Mapping) else given
    merged = dict(config)
    for field, value in given.items():
        _put(merged, field, value)
    return merged


def _put(message: dict[str, Any], field: str, value: Any) -> None:
    """Set a field under its snake-case name, whichever way ``config`` spelled it."""
    if value is None:
        return
    message.pop(camel_case(field), None)
    message[field] = value


def _check_job(job: Mapping[str, Any], problems: Problems) -> None:
    spec = job["job_spec"]
    checks.check_display_name(job.get("display_name"), problems)
    checks.check_labels(job.get("labels", {}), problems)
    if "persistent_resource_id" in spec:
        checks.check_persistent_resource_id(spec["persistent_resource_id"], problems)
    output = (spec.get("base_output_directory") or {}).get("output_uri_prefix")
    if output is not None:
        checks.check_gs_uri("base_output_dir", output, problems)
    if "network" in spec:
        checks.check_network(spec["network"], problems)
    if "service_account" in spec:
        checks.check_service_account(spec["service_account"], problems)
    if "tensorboard" in spec and "service_account" not in spec:
        problems.add("tensorboard", spec["tensorboard"], "needs a service_account that may write to it")
