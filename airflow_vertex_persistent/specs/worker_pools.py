# SPDX-License-Identifier: Apache-2.0
"""Worker pools: what runs, on which machines, how many times."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from airflow_vertex_persistent.specs.checks import texts, whole_number
from airflow_vertex_persistent.specs.machines import check_accelerators, default_disk_type
from airflow_vertex_persistent.specs.messages import read_message

if TYPE_CHECKING:
    from google.protobuf.descriptor import Descriptor

    from airflow_vertex_persistent.specs.checks import Problems

# The short form: what describes one container on one kind of machine.
SHORT_FORM = (
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
)

# Limits of WorkerPoolSpec, ContainerSpec and PythonPackageSpec.
_MAX_POOLS = 4
_MAX_ENV = 100
_MAX_PACKAGES = 100
_MAX_ARGS_LENGTH = 100_000
_DISK_SIZES_GB = range(100, 64_001)


def short_form_pools(short: Mapping[str, Any], problems: Problems) -> list[dict[str, Any]]:
    """
    Turn the short form into worker pools.

    More than one replica means one primary in the first pool and the others in the second, as the service
    wants it.

    :param short: The fields of :data:`SHORT_FORM` that are not ``None``.
    """
    container: dict[str, Any] = {"image_uri": short["container_uri"]}
    for field in ("command", "args"):
        if field in short:
            container[field] = texts(field, short[field], problems)
    if "env" in short:
        container["env"] = _environment(short["env"], problems)
    pool: dict[str, Any] = {"container_spec": container}
    groups = {
        "machine_spec": ("machine_type", "accelerator_type", "accelerator_count"),
        "disk_spec": ("boot_disk_type", "boot_disk_size_gb"),
    }
    for group, fields in groups.items():
        if given := {field: short[field] for field in fields if field in short}:
            pool[group] = given
    replicas = whole_number("replica_count", short.get("replica_count", 1), problems, least=1) or 1
    pools = [{**pool, "replica_count": 1}]
    if replicas > 1:
        pools.append({**pool, "replica_count": replicas - 1})
    return pools


def _environment(env: Any, problems: Problems) -> list[Any]:
    """Return the API's list form; a mapping is how people write it. A variable that is ``None`` is left out."""
    if isinstance(env, Mapping):
        return [
            {"name": str(name), "value": value if isinstance(value, Mapping | list | tuple) else str(value)}
            for name, value in env.items()
            if value is not None
        ]
    if not isinstance(env, list | tuple):
        problems.add_hidden("env", "write a mapping of texts")
        return []
    return list(env)


def read_worker_pools(value: Any, pool: Descriptor, problems: Problems) -> list[dict[str, Any]]:
    """
    Check worker pools and complete them: a replica count that is left out is 1, a disk is always said.

    :param value: List of worker pools; a single mapping is one pool, as gcloud's config files have it.
        An empty mapping skips a pool and keeps the numbers of the others.
    :param pool: Descriptor of ``WorkerPoolSpec``.
    """
    field = "worker_pool_specs"
    pools = [value] if isinstance(value, Mapping) else value
    if isinstance(pools, str) or not isinstance(pools, Sequence) or not pools:
        problems.add_hidden(field, "write a list of worker pools, the first with the primary replica")
        return []
    if len(pools) > _MAX_POOLS:
        fix = f"at most {_MAX_POOLS} are allowed: primary, workers, parameter servers, evaluators"
        problems.add(field, f"{len(pools)} pools", fix)
    clean = [read_message(item, pool, f"{field}[{index}]", problems) for index, item in enumerate(pools)]
    for index, item in enumerate(clean):
        if item or index == 0:
            _complete_pool(item, index, f"{field}[{index}]", problems)
    return clean


def _complete_pool(pool: dict[str, Any], index: int, path: str, problems: Problems) -> None:
    replicas = pool.setdefault("replica_count", 1)
    if index == 0 and replicas != 1:
        problems.add(
            f"{path}.replica_count", replicas, "the first pool holds the one primary replica: write 1"
        )
    elif replicas is not None and replicas < 1:
        problems.add(f"{path}.replica_count", replicas, "must be 1 or more")
    machine = pool.get("machine_spec") or {}
    if not machine.get("machine_type"):
        problems.add_hidden(f"{path}.machine_spec.machine_type", "say a machine type, like 'n1-standard-8'")
    check_accelerators(machine, f"{path}.machine_spec", problems)
    pool["disk_spec"] = complete_disk(pool.get("disk_spec"), machine.get("machine_type"), path, problems)
    _check_work(pool, path, problems)


def complete_disk(
    disk: Mapping[str, Any] | None, machine_type: Any, path: str, problems: Problems
) -> dict[str, Any]:
    """
    Return a ``DiskSpec`` with nothing left to the service's defaults.

    They are documented in two ways, and a job's disk must equal its pool's: it is always said.
    """
    complete = {"boot_disk_type": default_disk_type(machine_type), "boot_disk_size_gb": 100, **(disk or {})}
    size = complete["boot_disk_size_gb"]
    if size is not None and size not in _DISK_SIZES_GB:
        fix = f"must be {_DISK_SIZES_GB.start} to {_DISK_SIZES_GB.stop - 1}"
        problems.add(f"{path}.disk_spec.boot_disk_size_gb", size, fix)
    return complete


def _check_work(pool: Mapping[str, Any], path: str, problems: Problems) -> None:
    container, package = pool.get("container_spec"), pool.get("python_package_spec")
    if (container is None) == (package is None):
        problems.add_hidden(path, "write one of container_spec and python_package_spec")
        return
    work, name = (container, "container_spec") if package is None else (package, "python_package_spec")
    required = ("image_uri",) if package is None else ("executor_image_uri", "package_uris", "python_module")
    for field in required:
        if not (work or {}).get(field):
            problems.add_hidden(f"{path}.{name}.{field}", "is required")
    for field, most in (("env", _MAX_ENV), ("package_uris", _MAX_PACKAGES)):
        count = len((work or {}).get(field) or ())
        if count > most:
            problems.add(f"{path}.{name}.{field}", f"{count} entries", f"at most {most} are allowed")
    length = sum(len(arg or "") for arg in (work or {}).get("args") or ())
    if length > _MAX_ARGS_LENGTH:
        fix = f"at most {_MAX_ARGS_LENGTH} are allowed; pass a gs:// address instead"
        problems.add(f"{path}.{name}.args", f"{length} characters", fix)
