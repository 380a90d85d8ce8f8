# SPDX-License-Identifier: Apache-2.0
"""Worker pools: what runs, on which machines, how many times."""

from __future__ import annotations

import re
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
# A variable, as :func:`short_form_field` finds it in the path of a field.
_ENV = re.compile(r"env\[.*")
_RESOURCE_POOL = ("resource_pool", "resourcePool")

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

    :param short: The fields of :data:`SHORT_FORM` and the ``resource_pool`` that are not ``None``.
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
    if "resource_pool" in short:
        pool["resource_pool"] = short["resource_pool"]
    replicas = whole_number("replica_count", short.get("replica_count", 1), problems, least=1) or 1
    pools = [{**pool, "replica_count": 1}]
    if replicas > 1:
        pools.append({**pool, "replica_count": replicas - 1})
    return pools


def short_form_field(field: str) -> str:
    """Return the parameter of the short form that a field of its worker pools comes from."""
    if variable := _ENV.search(field):
        return variable[0]
    last = field.rsplit(".", 1)[-1]
    if last.startswith("worker_pool_specs["):
        return "replica_count"
    return "container_uri" if last == "image_uri" else last


def _environment(env: Any, problems: Problems) -> list[Any]:
    """Return the API's list form; a mapping is how people write it. A variable that is ``None`` is left out."""
    if isinstance(env, Mapping):
        for name, value in env.items():
            if isinstance(value, Mapping | list | tuple):
                problems.add_hidden(f"env[{str(name)!r}]", "write a text")
        return [{"name": str(name), "value": str(value)} for name, value in env.items() if value is not None]
    if not isinstance(env, list | tuple):
        problems.add_hidden("env", "write a mapping of texts")
        return []
    return list(env)


def read_worker_pools(
    value: Any, pool: Descriptor, problems: Problems, *, warm: bool
) -> tuple[list[dict[str, Any]], tuple[str | None, ...]]:
    """
    Check worker pools and complete them: a replica count that is left out is 1, a disk is always said.

    On a persistent resource, machine and disk may be left out and stay out: they are those of one of its pools,
    which ``resource_pool`` (``resourcePool``) in a worker pool may name.

    :param value: List of worker pools; a single mapping is one pool, as gcloud's config files have it.
        An empty mapping skips a pool and keeps the numbers of the others.
    :param pool: Descriptor of ``WorkerPoolSpec``.
    :param warm: Whether they are to run on a persistent resource.
    :return: The worker pools, and for each the id of the resource pool that it names.
    """
    field = "worker_pool_specs"
    pools = [value] if isinstance(value, Mapping) else value
    if isinstance(pools, str) or not isinstance(pools, Sequence) or not pools:
        problems.add_hidden(field, "write a list of worker pools, the first with the primary replica")
        return [], ()
    if len(pools) > _MAX_POOLS:
        fix = f"at most {_MAX_POOLS} are allowed: primary, workers, parameter servers, evaluators"
        problems.add(field, f"{len(pools)} pools", fix)
    clean, names = [], []
    for index, written in enumerate(pools):
        path = f"{field}[{index}]"
        rest, name = _take_resource_pool(written, path, problems, warm=warm)
        item = read_message(rest, pool, path, problems)
        if item or name is not None or index == 0:
            _complete_pool(item, index, path, problems, warm=warm)
        clean.append(item)
        names.append(name)
    return clean, tuple(names)


def _take_resource_pool(pool: Any, path: str, problems: Problems, *, warm: bool) -> tuple[Any, str | None]:
    """Return a worker pool without the name of a resource pool, which the API does not know, and that name."""
    if not isinstance(pool, Mapping):
        return pool, None
    rest = {key: value for key, value in pool.items() if key not in _RESOURCE_POOL}
    given = [pool[key] for key in _RESOURCE_POOL if pool.get(key) is not None]
    if not given:
        return rest, None
    name, path = given[0], f"{path}.resource_pool"
    if len(given) > 1:
        problems.add_hidden(path, "is given twice, as 'resource_pool' and 'resourcePool'")
    elif not isinstance(name, str) or not name:
        problems.add(path, name, "write the id of a pool of the persistent resource")
    elif not warm:
        problems.add(path, name, "goes with persistent_resource_id")
    return rest, name


def _complete_pool(pool: dict[str, Any], index: int, path: str, problems: Problems, *, warm: bool) -> None:
    replicas = pool.setdefault("replica_count", 1)
    if index == 0 and replicas != 1:
        problems.add(
            f"{path}.replica_count", replicas, "the first pool holds the one primary replica: write 1"
        )
    elif replicas is not None and replicas < 1:
        problems.add(f"{path}.replica_count", replicas, "must be 1 or more")
    machine, disk = _said(pool.pop("machine_spec", None) or {}), pool.pop("disk_spec", None) or {}
    if not machine.get("machine_type") and (machine or not warm):
        problems.add_hidden(f"{path}.machine_spec.machine_type", "say a machine type, like 'n1-standard-8'")
    check_accelerators(machine, f"{path}.machine_spec", problems)
    if not warm:
        disk = complete_disk(disk, machine.get("machine_type"))
    check_disk(disk, path, problems)
    # What is left out of a worker pool on a persistent resource, that resource will tell.
    pool |= {field: spec for field, spec in (("machine_spec", machine), ("disk_spec", disk)) if spec}
    _check_work(pool, path, problems)


def _said(machine: Mapping[str, Any]) -> dict[str, Any]:
    """Return a machine without accelerators that say that there are none, as the API has it by default."""
    none = {"accelerator_type": (None, "ACCELERATOR_TYPE_UNSPECIFIED"), "accelerator_count": (None, 0)}
    says_none = all(machine.get(field) in values for field, values in none.items())
    return {field: value for field, value in machine.items() if not (says_none and field in none)}


def complete_disk(disk: Mapping[str, Any] | None, machine_type: Any) -> dict[str, Any]:
    """
    Return a ``DiskSpec`` with nothing left to the service's defaults.

    They are documented in two ways, and a job's disk must equal its pool's: it is always said.
    """
    return {"boot_disk_type": default_disk_type(machine_type), "boot_disk_size_gb": 100, **(disk or {})}


def check_disk(disk: Mapping[str, Any], path: str, problems: Problems) -> None:
    """
    Check the size of a disk.

    :param path: Where its pool stands, for the problems' text.
    """
    size = disk.get("boot_disk_size_gb")
    if size is not None and size not in _DISK_SIZES_GB:
        fix = f"must be {_DISK_SIZES_GB.start} to {_DISK_SIZES_GB.stop - 1}"
        problems.add(f"{path}.disk_spec.boot_disk_size_gb", size, fix)


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
