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
from typing import TYPE_CHECKING, Any

from airflow_vertex_persistent.names import ResourceName
from airflow_vertex_persistent.specs.checks import Problems
from airflow_vertex_persistent.specs.messages import comparable
from airflow_vertex_persistent.specs.pool_hardware import (
    Hardware,
    Row,
    compare,
    hardware_of,
    most_machines,
    pool_list,
    side_by_side,
)
from airflow_vertex_persistent.specs.worker_pools import short_form_field

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from airflow_vertex_persistent.specs.custom_job import JobRequest


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
            most = most_machines(pool)
            free = max(most - int(pool.get("used_replica_count", 0)), 0)
            if free < wanted:
                found.append(
                    f"resource pool {pool_id!r} has {free} of {most} machines free, the job needs {wanted}"
                )
        return found


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
    hardware = kinds = hardware_of(resource)
    spec = request.job["job_spec"]
    pools = []
    chosen: list[tuple[Hardware, int]] = []
    for index, pool in enumerate(spec["worker_pool_specs"]):
        path = f"worker_pool_specs[{index}]"
        kind = _choose(pool, request.resource_pools[index], kinds, path, found) if pool else None
        if kind is None:
            pools.append(pool)
            continue
        kind.take(pool["replica_count"])
        chosen.append((kind, pool["replica_count"]))
        if request.short_form:
            # Its worker pools are written once: advice for different hardware would go in circles.
            kinds = [kind]
        filled = {"machine_spec": kind.machine, "disk_spec": kind.disk}
        pools.append({**pool, **filled})
    if not found:
        _take_for_trials(chosen, request.at_once, found)
    problems.absorb(found, short_form_field if request.short_form else str)
    machines = {pool: taken for kind in hardware for pool, taken in kind.taken.items() if taken}
    return PoolNeeds({**request.job, "job_spec": {**spec, "worker_pool_specs": pools}}, machines)


def _take_for_trials(chosen: Sequence[tuple[Hardware, int]], at_once: int, problems: Problems) -> None:
    """
    Take the machines for the trials besides the first that run at the same time, trial by trial as the service does.

    :param chosen: Hardware and replicas of each worker pool.
    """
    for fitting in range(1, at_once):
        for kind, replicas in chosen:
            if not kind.fits(replicas):
                needed = sum(number for other, number in chosen if other is kind)
                machines = "1 machine" if needed == 1 else f"{needed} machines"
                problems.add(
                    "parallel_trial_count",
                    at_once,
                    f"write at most {fitting}, or give the resource more machines: each trial needs {machines} of "
                    f"{kind.title}, which can have {' and '.join(map(str, kind.most.values()))}",
                )
                return
            kind.take(replicas)


def _choose(
    pool: Mapping[str, Any], name: str | None, kinds: Sequence[Hardware], path: str, problems: Problems
) -> Hardware | None:
    """Return the hardware that a worker pool runs on, the nearest if none fits, ``None`` if it has to be named."""
    named = [kind for kind in kinds if name is None or name in kind.most]
    if not named:
        fix = f"the persistent resource has no such pool; write the id of one:\n{pool_list(kinds)}"
        problems.add(f"{path}.resource_pool", name, fix)
        return None
    fitting = [kind for kind in named if not _differing(pool, kind)]
    if len(fitting) > 1:
        fix = f"several pools fit; write the id of one:\n{pool_list(fitting)}"
        problems.add_hidden(f"{path}.resource_pool", fix)
        return None
    if fitting:
        return fitting[0]
    nearest = min(named, key=lambda kind: _distance(pool, kind))
    title = nearest.title if len(named) == 1 else f"{nearest.title}, the nearest"
    _tell_differences(pool, nearest, title, path, problems)
    return nearest


def _distance(pool: Mapping[str, Any], kind: Hardware) -> tuple[int, list[bool]]:
    """Return how far a worker pool is from some hardware: among as many fields, the first ones weigh most."""
    differs = [row.differs for row in compare(pool, kind)]
    return sum(differs), differs


def _differing(pool: Mapping[str, Any], kind: Hardware) -> list[Row]:
    return [row for row in compare(pool, kind) if row.differs]


def _tell_differences(
    pool: Mapping[str, Any], kind: Hardware, title: str, path: str, problems: Problems
) -> None:
    """Tell each field that differs, and with the last one show everything side by side."""
    *others, last = _differing(pool, kind)
    for row in others:
        problems.add(f"{path}.{row.field}", row.ours, _fix(row, title))
    table = side_by_side(compare(pool, kind), title)
    if last.field != "replica_count":
        problems.add(f"{path}.{last.field}", last.ours, f"{_fix(last, title)}\n{table}")
        return
    text = f"{last.ours} machines are more than {title} can have, {kind.most[kind.widest]}"
    if kind.room(kind.widest) > 0:
        problems.add_hidden(f"{path}.replica_count", f"{text}\n{table}")
    else:  # no number would do
        fix = "leave this worker pool out, or use other machines"
        problems.add_hidden(path, f"{text}; {fix}\n{table}")


def _fix(row: Row, title: str) -> str:
    theirs = "leave it out" if comparable(row.theirs) is None else f"write {row.theirs!r}"
    return f"{theirs}, as in {title}"


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
