# SPDX-License-Identifier: Apache-2.0
"""What create requests may say: limits, patterns and rules of the API, all problems in one answer."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from google.cloud.aiplatform_v1.types import WorkerPoolSpec

from airflow_vertex_persistent.emulator.errors import Problems, unimplemented
from airflow_vertex_persistent.emulator.machines import check_disk, check_machine
from airflow_vertex_persistent.emulator.names import RESOURCE_ID

from .scheduling_checks import check_scheduling

if TYPE_CHECKING:
    from collections.abc import Mapping

    from google.cloud.aiplatform_v1.types import (
        ContainerSpec,
        CustomJob,
        CustomJobSpec,
        PersistentResource,
        ResourcePool,
    )

_MOST_POOLS = 4  # primary, workers, parameter servers, evaluators
_MOST_ENV = 100
_MOST_ARG_CHARS = 100_000
_MOST_LABELS = 64
_LABEL_LENGTH = 64
_NAME_LENGTH = 128
_MOST_REPLICAS = 1000
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_BUCKET_PATH = re.compile(r"gs://[a-z0-9][a-z0-9._-]{1,220}[a-z0-9](/.*)?", re.DOTALL)
_NETWORK = re.compile(r"projects/[0-9]+/global/networks/[a-z]([a-z0-9-]*[a-z0-9])?")


def check_job(job: CustomJob) -> None:
    """
    Check a CustomJob that is to be created.

    :raises ApiError: INVALID_ARGUMENT with all problems, UNIMPLEMENTED for what is not emulated.
    """
    problems = Problems()
    check_texts(job.display_name, job.labels, "custom_job", problems)
    check_job_spec(job.job_spec, "custom_job.job_spec", problems)
    problems.answer()
    refuse_packages(job.job_spec)


def check_job_spec(spec: CustomJobSpec, field: str, problems: Problems) -> None:
    """
    Check the spec of a custom job.

    :param field: path of the spec in the request.
    """
    _check_worker_pools(spec, f"{field}.worker_pool_specs", problems)
    check_scheduling(spec, field, problems)
    output = spec.base_output_directory.output_uri_prefix
    problems.check(
        not output or _BUCKET_PATH.fullmatch(output),
        f"{field}.base_output_directory.output_uri_prefix",
        f"{output!r} is not of the form gs://BUCKET/FOLDER.",
    )
    _check_network(spec.network, f"{field}.network", problems)
    problems.check(
        not spec.persistent_resource_id or RESOURCE_ID.fullmatch(spec.persistent_resource_id),
        f"{field}.persistent_resource_id",
        f"{spec.persistent_resource_id!r} does not match {RESOURCE_ID.pattern}.",
    )
    problems.check(
        not spec.tensorboard or spec.service_account,
        f"{field}.service_account",
        "A job with a tensorboard needs a service account.",
    )


def refuse_packages(spec: CustomJobSpec) -> None:
    """
    Refuse what the service can run and the emulator cannot.

    :raises ApiError: UNIMPLEMENTED.
    """
    if any(pool.python_package_spec.executor_image_uri for pool in spec.worker_pool_specs):
        raise unimplemented("python_package_spec is not emulated; use container_spec.")


def _check_worker_pools(spec: CustomJobSpec, field: str, problems: Problems) -> None:
    pools = spec.worker_pool_specs
    problems.check(pools, field, "Required field is not set.")
    problems.check(
        len(pools) <= _MOST_POOLS, field, f"{len(pools)} worker pools; at most {_MOST_POOLS} exist."
    )
    for index, pool in enumerate(pools):
        path = f"{field}[{index}]"
        if index == 0:
            problems.check(
                pool.replica_count == 1,
                f"{path}.replica_count",
                f"The primary worker pool must have exactly 1 replica, not {pool.replica_count}.",
            )
        elif pool == WorkerPoolSpec():
            continue  # skipped: later pools keep their index
        else:
            problems.check(
                0 < pool.replica_count <= _MOST_REPLICAS,
                f"{path}.replica_count",
                f"{pool.replica_count} is not between 1 and {_MOST_REPLICAS}.",
            )
        check_machine(pool.machine_spec, f"{path}.machine_spec", problems)
        check_disk(pool.disk_spec, f"{path}.disk_spec", problems)
        if "python_package_spec" not in pool:
            _check_container(pool.container_spec, f"{path}.container_spec", problems)


def _check_container(container: ContainerSpec, field: str, problems: Problems) -> None:
    problems.check(container.image_uri, f"{field}.image_uri", "Required field is not set.")
    problems.check(
        len(container.env) <= _MOST_ENV,
        f"{field}.env",
        f"{len(container.env)} variables; at most {_MOST_ENV} are allowed.",
    )
    for index, variable in enumerate(container.env):
        problems.check(
            _VARIABLE.fullmatch(variable.name) and "\0" not in variable.value,
            f"{field}.env[{index}]",
            f"{variable.name!r} is not a valid variable name, or its value has a zero byte.",
        )
    words = [*container.command, *container.args]
    problems.check(
        sum(map(len, container.args)) <= _MOST_ARG_CHARS,
        f"{field}.args",
        f"All args together have more than {_MOST_ARG_CHARS} characters.",
    )
    problems.check(
        all("\0" not in word for word in words), field, "command and args must not have zero bytes."
    )


def check_resource(resource: PersistentResource, resource_id: str) -> None:
    """
    Check a persistent resource that is to be created.

    :raises ApiError: INVALID_ARGUMENT with all problems.
    """
    problems = Problems()
    field = "persistent_resource"
    problems.check(
        RESOURCE_ID.fullmatch(resource_id),
        "persistent_resource_id",
        f"{resource_id!r} does not match {RESOURCE_ID.pattern}.",
    )
    _check_texts(resource.display_name, resource.labels, field, problems)
    _check_network(resource.network, f"{field}.network", problems)
    account = resource.resource_runtime_spec.service_account_spec
    problems.check(
        not account.service_account or account.enable_custom_service_account,
        f"{field}.resource_runtime_spec.service_account_spec.service_account",
        "Set enable_custom_service_account to use a service account.",
    )
    problems.check(resource.resource_pools, f"{field}.resource_pools", "Required field is not set.")
    ids = [pool.id for pool in resource.resource_pools if pool.id]
    problems.check(len(ids) == len(set(ids)), f"{field}.resource_pools", "Two pools have the same id.")
    is_ray = "ray_spec" in resource.resource_runtime_spec
    for index, pool in enumerate(resource.resource_pools):
        _check_pool(pool, f"{field}.resource_pools[{index}]", problems, is_ray=is_ray)
    problems.answer()


def _check_pool(pool: ResourcePool, field: str, problems: Problems, *, is_ray: bool) -> None:
    problems.check(
        not pool.id or RESOURCE_ID.fullmatch(pool.id), f"{field}.id", f"{pool.id!r} is not a valid id."
    )
    check_machine(pool.machine_spec, f"{field}.machine_spec", problems)
    check_disk(pool.disk_spec, f"{field}.disk_spec", problems)
    count = pool.replica_count
    if "autoscaling_spec" not in pool:
        problems.check(
            0 < count <= _MOST_REPLICAS,
            f"{field}.replica_count",
            f"{count} is not between 1 and {_MOST_REPLICAS}.",
        )
        return
    low, high = pool.autoscaling_spec.min_replica_count, pool.autoscaling_spec.max_replica_count
    path = f"{field}.autoscaling_spec"
    problems.check(low >= (0 if is_ray else 1), f"{path}.min_replica_count", f"{low} is too small.")
    problems.check(
        low < high <= _MOST_REPLICAS,
        f"{path}.max_replica_count",
        f"{high} is not greater than min_replica_count ({low}) and at most {_MOST_REPLICAS}.",
    )
    if "replica_count" in pool:
        problems.check(
            low <= count <= high, f"{field}.replica_count", f"{count} is not between {low} and {high}."
        )


def _check_network(network: str, field: str, problems: Problems) -> None:
    problems.check(
        not network or _NETWORK.fullmatch(network),
        field,
        f"{network!r} is not of the form projects/PROJECT_NUMBER/global/networks/NAME.",
    )


def check_texts(display_name: str, labels: Mapping[str, str], field: str, problems: Problems) -> None:
    """
    Check the display name and the labels of a job, which must have a name.

    :param field: path of the job in the request.
    """
    problems.check(display_name, f"{field}.display_name", "Required field is not set.")
    _check_texts(display_name, labels, field, problems)


def _check_texts(display_name: str, labels: Mapping[str, str], field: str, problems: Problems) -> None:
    problems.check(
        len(display_name) <= _NAME_LENGTH,
        f"{field}.display_name",
        f"{len(display_name)} characters; at most {_NAME_LENGTH} are allowed.",
    )
    problems.check(
        len(labels) <= _MOST_LABELS,
        f"{field}.labels",
        f"{len(labels)} labels; at most {_MOST_LABELS} are allowed.",
    )
    for key, value in labels.items():
        problems.check(
            key and _is_label(key) and _is_label(value),
            f"{field}.labels[{key!r}]",
            f"{key!r}={value!r}: keys and values have at most {_LABEL_LENGTH} lower-case letters, digits, _ and -.",
        )


def _is_label(text: str) -> bool:
    return len(text) <= _LABEL_LENGTH and all(
        character in "_-" or (character.isalnum() and not character.isupper()) for character in text
    )
