# SPDX-License-Identifier: Apache-2.0
"""
Which pools of a persistent resource a job runs on, told before it is sent.

::

    request = custom_job(wanted, problems)
    needs = fit_to_pools(request, resource_body(live), problems, project_id=project_id, region=region)
    problems.raise_if_any()
    needs.job                                  # complete: what is sent, also to machines on demand
    needs.machines                             # {"gpus": 2}
    needs.short_of(resource_body(live))        # ["resource pool 'gpus' has 1 of 4 machines free, ..."]

Whether the resource runs at all is not asked here but of :func:`~airflow_vertex_persistent.states.resource_phase`:
it says nothing about the request.

Vertex AI knows no name of a pool in a job: a worker pool goes to the first pool of its hardware that can ever have
enough machines. ``resource_pool`` therefore chooses the hardware, and among pools of the same hardware nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from airflow_vertex_persistent.names import ResourceName
from airflow_vertex_persistent.specs.checks import Problems
from airflow_vertex_persistent.specs.messages import comparable
from airflow_vertex_persistent.specs.worker_pools import complete_disk, short_form_field

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from airflow_vertex_persistent.specs.custom_job import JobRequest

_MACHINE_FIELDS = ("machine_type", "accelerator_type", "accelerator_count")
_DISK_FIELDS = ("boot_disk_type", "boot_disk_size_gb")
_MAX_CELL = 60


@dataclass(frozen=True)
class PoolNeeds:
    """
    A job with the machines it needs.

    :param job: The ``CustomJob``, each worker pool with its machine and disk.
    :param machines: How many it needs of each resource pool, by the pool's id.
    """

    job: dict[str, Any]
    machines: dict[str, int]

    def short_of(self, resource: Mapping[str, Any]) -> list[str]:
        """
        Return what is missing now, a text for each pool with too few free machines; nothing when the job could start.

        :param resource: The live resource, as :func:`fit_to_pools` takes it.
        """
        pools = {pool["id"]: pool for pool in resource["resource_pools"]}
        found = []
        for pool_id, wanted in self.machines.items():
            pool = pools.get(pool_id, {})
            most = _most_machines(pool)
            free = max(most - int(pool.get("used_replica_count", 0)), 0)
            if free < wanted:
                found.append(
                    f"resource pool {pool_id!r} has {free} of {most} machines free, the job needs {wanted}"
                )
        return found


def _most_machines(pool: Mapping[str, Any]) -> int:
    """Return how many machines a resource pool can ever have; the API's JSON form has 64-bit numbers as texts."""
    scaling = pool.get("autoscaling_spec")
    return int(pool.get("replica_count", 0) if scaling is None else scaling["max_replica_count"])


@dataclass(frozen=True)
class _Hardware:
    """
    The pools of a resource that have the same machine and disk.

    :param most: Machines that each of them can ever have, by its id.
    :param taken: Machines that worker pools of this job have taken of each so far.
    """

    machine: dict[str, Any]
    disk: dict[str, Any]
    most: dict[str, int]
    taken: dict[str, int]

    @property
    def title(self) -> str:
        ids = list(map(repr, self.most))
        return f"resource pool{'s' if len(ids) > 1 else ''} {' and '.join(ids)}"

    @property
    def roomiest(self) -> str:
        return max(self.most, key=lambda pool: self.most[pool] - self.taken[pool])

    def room(self) -> int:
        """Return how many more replicas one worker pool can have here."""
        return self.most[self.roomiest] - self.taken[self.roomiest]

    def take(self, replicas: int) -> None:
        """Give machines to a worker pool: of the first pool that has enough."""
        enough = (pool for pool in self.most if self.most[pool] - self.taken[pool] >= replicas)
        self.taken[next(enough, self.roomiest)] += replicas


def _hardware(resource: Mapping[str, Any]) -> list[_Hardware]:
    kinds: list[_Hardware] = []
    for pool in resource["resource_pools"]:
        machine = pool.get("machine_spec") or {}
        disk = complete_disk(pool.get("disk_spec"), machine.get("machine_type"))
        for kind in kinds:
            if comparable([kind.machine, kind.disk]) == comparable([machine, disk]):
                break
        else:
            kinds.append(kind := _Hardware(machine, disk, {}, {}))
        kind.most[pool["id"]] = _most_machines(pool)
        kind.taken[pool["id"]] = 0
    return kinds


class _Row(NamedTuple):
    """
    One field of a worker pool beside that of a resource pool.

    :param left_out: Whether the worker pool says nothing of it, and takes what it gets.
    """

    field: str
    ours: Any
    theirs: Any
    left_out: bool
    differs: bool


def _compare(pool: Mapping[str, Any], kind: _Hardware) -> list[_Row]:
    """Put a worker pool and the hardware of resource pools side by side."""
    rows = []
    for group, usual, theirs in (
        ("machine_spec", _MACHINE_FIELDS, kind.machine),
        ("disk_spec", _DISK_FIELDS, kind.disk),
    ):
        ours = pool.get(group) or {}
        for field in dict.fromkeys((*usual, *ours, *theirs)):
            # A machine that is given is the whole machine, without accelerators if it names none.
            left_out = not ours if group == "machine_spec" else field not in ours
            mine, other = ours.get(field), theirs.get(field)
            differs = not left_out and comparable(mine) != comparable(other)
            rows.append(_Row(f"{group}.{field}", mine, other, left_out, differs))
    replicas, taken = pool["replica_count"], kind.taken[kind.roomiest]
    wanted = f"{taken} + {replicas}" if taken else str(replicas)
    most = f"at most {kind.most[kind.roomiest]}"
    rows.append(_Row("replica_count", wanted, most, left_out=False, differs=replicas > kind.room()))
    return rows


def _differing(pool: Mapping[str, Any], kind: _Hardware) -> list[_Row]:
    return [row for row in _compare(pool, kind) if row.differs]


def fit_to_pools(
    request: JobRequest, resource: Mapping[str, Any], problems: Problems, *, project_id: str, region: str
) -> PoolNeeds:
    """
    Fill in the machines and disks that a job leaves out, and check that a persistent resource can run it.

    What others use of it now is no problem of the request: ask :meth:`PoolNeeds.short_of`.

    :param request: As :func:`~airflow_vertex_persistent.specs.custom_job.custom_job` returns it, without problems.
    :param resource: The live resource in the API's JSON form with snake-case keys, as ``resource_body`` returns it.
    :param problems: Hears of everything that does not fit.
    :param project_id: Where the job is to run.
    :param region: Where the job is to run.
    :return: The job to send and its machines; of no use when there were problems.
    """
    found = Problems(problems.subject)
    name = ResourceName.parse(resource["name"])
    _check_place(name, project_id, region, found)
    _check_agreement(request.job, resource, name.id, found)
    kinds = _hardware(resource)
    spec = request.job["job_spec"]
    pools = []
    for index, pool in enumerate(spec["worker_pool_specs"]):
        path = f"worker_pool_specs[{index}]"
        kind = _choose(pool, request.resource_pools[index], kinds, path, found) if pool else None
        if kind is None:
            pools.append(pool)
            continue
        kind.take(pool["replica_count"])
        filled = {"machine_spec": kind.machine, "disk_spec": kind.disk}
        pools.append({**pool, **filled})
    problems.absorb(found, short_form_field if request.short_form else str)
    machines = {pool: taken for kind in kinds for pool, taken in kind.taken.items() if taken}
    return PoolNeeds({**request.job, "job_spec": {**spec, "worker_pool_specs": pools}}, machines)


def _choose(
    pool: Mapping[str, Any], name: str | None, kinds: Sequence[_Hardware], path: str, problems: Problems
) -> _Hardware | None:
    """Return the hardware that a worker pool runs on, the nearest if none fits, ``None`` if it has to be named."""
    named = [kind for kind in kinds if name is None or name in kind.most]
    if not named:
        fix = f"the persistent resource has no such pool; write the id of one:\n{_list(kinds)}"
        problems.add(f"{path}.resource_pool", name, fix)
        return None
    fitting = [kind for kind in named if not _differing(pool, kind)]
    if len(fitting) > 1:
        fix = f"several pools fit; write the id of one:\n{_list(fitting)}"
        problems.add_hidden(f"{path}.resource_pool", fix)
        return None
    if fitting:
        return fitting[0]
    nearest = min(named, key=lambda kind: len(_differing(pool, kind)))
    title = nearest.title if len(named) == 1 else f"{nearest.title}, the nearest"
    _tell_differences(pool, nearest, title, path, problems)
    return nearest


def _tell_differences(
    pool: Mapping[str, Any], kind: _Hardware, title: str, path: str, problems: Problems
) -> None:
    """Tell each field that differs, and with the last one show everything side by side."""
    rows = _compare(pool, kind)
    lines = [("", "field", "worker pool", title)]
    for row in rows:
        ours = "left out" if row.left_out else _cell(row.ours)
        lines.append(("*" if row.differs else "", row.field.rpartition(".")[2], ours, _cell(row.theirs)))
    *others, last = (row for row in rows if row.differs)
    for row in others:
        problems.add(f"{path}.{row.field}", row.ours, _fix(row, kind, title))
    fix = f"{_fix(last, kind, title)}\n{_table(lines)}"
    if last.field != "replica_count":
        problems.add(f"{path}.{last.field}", last.ours, fix)
    elif kind.room() > 0:
        problems.add_hidden(f"{path}.replica_count", fix)
    else:  # there is no replica count to write
        problems.add_hidden(path, fix)


def _fix(row: _Row, kind: _Hardware, title: str) -> str:
    if row.field == "replica_count":
        text = f"{row.ours} machines are more than {title} can have, {kind.most[kind.roomiest]}"
        return text if kind.room() > 0 else f"{text}; leave this worker pool out, or use other machines"
    theirs = "leave it out" if comparable(row.theirs) is None else f"write {row.theirs!r}"
    return f"{theirs}, as in {title}"


def _list(kinds: Sequence[_Hardware]) -> str:
    """List resource pools by id with what they have."""
    fields = ("id", *_MACHINE_FIELDS, *_DISK_FIELDS, "machines")
    lines: list[tuple[str, ...]] = [fields]
    for kind in kinds:
        hardware = [_cell({**kind.machine, **kind.disk}.get(field)) for field in fields[1:-1]]
        lines += [(pool, *hardware, f"at most {most}") for pool, most in kind.most.items()]
    return _table(lines)


def _cell(value: Any) -> str:
    return "none" if comparable(value) is None else str(value)[:_MAX_CELL]


def _table(lines: Sequence[tuple[str, ...]]) -> str:
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    padded = ("  ".join(map(str.ljust, line, widths)).rstrip() for line in lines)
    return "\n".join(f"      {line}" for line in padded)


def _check_place(resource: ResourceName, project_id: str, region: str, problems: Problems) -> None:
    """Check that a job goes where its resource is; the service tells the project's number, whatever it was asked."""
    if region != resource.region:
        problems.add("region", region, f"persistent resource {resource.id!r} is in {resource.region!r}")
    same_kind = project_id.isdecimal() == resource.project.isdecimal()
    if same_kind and project_id != resource.project:
        problems.add(
            "project_id", project_id, f"persistent resource {resource.id!r} is in {resource.project!r}"
        )


def _check_agreement(
    job: Mapping[str, Any], resource: Mapping[str, Any], resource_id: str, problems: Problems
) -> None:
    """Check what must be the same for everything on a resource: its network and its encryption key."""
    who = f"persistent resource {resource_id!r}"
    bodies = {
        "network": (job["job_spec"], resource, "network"),
        "encryption_spec_key_name": (
            job.get("encryption_spec"),
            resource.get("encryption_spec"),
            "kms_key_name",
        ),
    }
    for field, (ours, theirs, name) in bodies.items():
        mine, other = ((body or {}).get(name) for body in (ours, theirs))
        if comparable(mine) != comparable(other):
            fix = f"write {other!r}, as {who} has it" if other else f"leave it out: {who} has none"
            problems.add(field, mine, fix)
    _check_account(job["job_spec"].get("service_account"), resource, who, problems)


def _check_account(account: str | None, resource: Mapping[str, Any], who: str, problems: Problems) -> None:
    """Check whose account runs the code: one that the job names, or else the Custom Code Service Agent's."""
    rule = (resource.get("resource_runtime_spec") or {}).get("service_account_spec") or {}
    enforced, only = rule.get("enable_custom_service_account"), rule.get("service_account")
    if account and not enforced:
        fix = f"leave it out: {who} runs everything as the Custom Code Service Agent, since it was created without"
        problems.add("service_account", account, f"{fix} enable_custom_service_account")
    elif enforced and only and account != only:
        problems.add("service_account", account, f"write {only!r}, as {who} has it")
    elif enforced and not account:
        fix = f"say which account the code runs as: {who} was created with enable_custom_service_account"
        problems.add("service_account", None, fix)
