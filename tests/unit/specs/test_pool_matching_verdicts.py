# SPDX-License-Identifier: Apache-2.0
"""What is said of a job before it is sent, and what the emulator's own, independent code says of it."""

from __future__ import annotations

import ast
import re
from contextlib import suppress
from copy import deepcopy
from types import SimpleNamespace
from typing import Any

import pytest
from google.cloud.aiplatform_v1.types import CustomJob, PersistentResource
from google.protobuf.json_format import ParseDict
from hypothesis import assume, given
from hypothesis import strategies as st

from airflow_vertex_persistent.emulator.errors import ApiError
from airflow_vertex_persistent.emulator.machine_pools import MachinePools
from airflow_vertex_persistent.emulator.names import Key, Location
from airflow_vertex_persistent.emulator.services.checks import check_job, check_resource
from airflow_vertex_persistent.emulator.services.placement import Placement
from airflow_vertex_persistent.emulator.services.resource_pools import completed, machine_pools, with_counts
from airflow_vertex_persistent.emulator.settings import EmulatorSettings
from airflow_vertex_persistent.emulator.world import JobPlan
from airflow_vertex_persistent.exceptions import InvalidRequestError
from airflow_vertex_persistent.hooks.persistent_resource import resource_body
from airflow_vertex_persistent.specs.checks import Problems
from airflow_vertex_persistent.specs.custom_job import JobRequest, custom_job
from airflow_vertex_persistent.specs.pool_matching import PoolNeeds, fit_to_pools

HERE = Location("123456789012", "europe-west4")
KEY = Key(HERE, "nightly")
NETWORKS = [f"projects/123456789012/global/networks/{name}" for name in ("one", "two")]
KEYS = [f"projects/acme/locations/europe-west4/keyRings/ring/cryptoKeys/{name}" for name in ("one", "two")]
ACCOUNTS = [f"{name}@acme.iam.gserviceaccount.com" for name in ("one", "two")]
SECRET = "h1dden-v4lue"
CONTAINER = {"image_uri": "image", "args": [SECRET], "env": [{"name": "TOKEN", "value": SECRET}]}


class Service:
    """
    The emulator's decisions about jobs on one persistent resource.

    :param resource: As it was asked for.
    :param used: Machines that other jobs use, for each of its pools.
    """

    def __init__(self, resource: PersistentResource, used: list[int]) -> None:
        check_resource(resource, KEY.id)
        name, state = KEY.name("persistentResources"), PersistentResource.State.RUNNING
        self._resource = PersistentResource(completed(resource), name=name, state=state)
        settings = EmulatorSettings()
        pools = MachinePools(settings)
        self._cluster = pools.cluster
        self._cluster.add(KEY, machine_pools(self._resource))
        store = SimpleNamespace(resources={KEY: self._resource})
        world: Any = SimpleNamespace(store=store, pools=pools, settings=settings)
        self._placement = Placement(world)
        for pool, count in zip(self._cluster.pools(KEY).values(), used, strict=True):
            pool.used = pool.promised = min(count, pool.maximum)
            pool.size = max(pool.size, pool.used)

    @property
    def resource(self) -> PersistentResource:
        """The resource as it is now."""
        return with_counts(self._resource, self._cluster.pools(KEY))

    def needs(self, job: CustomJob) -> dict[str, int]:
        """
        Return the machines of a job by pool.

        :raises ApiError: The job is refused.
        """
        check_job(job)
        return dict(self._placement.place(HERE, job, JobPlan()).needs)

    def is_free(self, needs: dict[str, int]) -> bool:
        """Tell whether a job would get these machines at once."""
        return self._cluster.fits(KEY, needs)

    def accepted(self, request: JobRequest) -> CustomJob | None:
        """
        Return the one job that takes what it leaves out from the resource's pools and is not refused.

        ``None`` if there is none, or more than one.
        """
        job: Any = _message(request.job)
        wanted = list(job.job_spec.worker_pool_specs)
        job.job_spec.worker_pool_specs = []
        for pool, name in zip(wanted, request.resource_pools, strict=True):
            before = list(job.job_spec.worker_pool_specs)
            good = []
            for way in self._ways(pool, name):
                job.job_spec.worker_pool_specs = [*before, way]
                with suppress(ApiError):
                    self.needs(job)
                    good.append(way)
            if len(good) != 1:
                return None
            job.job_spec.worker_pool_specs = [*before, *good]
        accepted: CustomJob = job
        return accepted

    def _ways(self, pool: Any, name: str | None) -> list[Any]:
        """Return the different ways to fill in a worker pool."""
        ways: list[Any] = [] if pool else [pool]
        for theirs in self._resource.resource_pools if pool else []:
            way = _filled(pool, theirs)
            is_theirs = (way.machine_spec, way.disk_spec) == (theirs.machine_spec, theirs.disk_spec)
            if way not in ways and (name is None or (name == theirs.id and is_theirs)):
                ways.append(way)
        return ways


def _message(job: dict[str, Any]) -> CustomJob:
    return CustomJob(ParseDict(job, CustomJob.pb()()))


def _filled(pool: Any, theirs: Any) -> Any:
    """Return a worker pool that takes what it leaves out from a pool of the resource."""
    way = type(pool)(pool)
    if not pool.machine_spec:
        way.machine_spec = theirs.machine_spec
    way.disk_spec = {
        "boot_disk_type": pool.disk_spec.boot_disk_type or theirs.disk_spec.boot_disk_type,
        "boot_disk_size_gb": pool.disk_spec.boot_disk_size_gb or theirs.disk_spec.boot_disk_size_gb,
    }
    return way


def _machine(machine_type: str, accelerator: str = "", count: int = 0) -> dict[str, Any]:
    gpu = {"accelerator_type": accelerator, "accelerator_count": count}
    return {"machine_type": machine_type, **(gpu if count else {})}


MACHINES = st.sampled_from(
    [
        _machine("n1-standard-4"),
        _machine("n1-standard-8"),
        _machine("n1-standard-8", "NVIDIA_TESLA_T4", 1),
        _machine("n1-standard-8", "NVIDIA_TESLA_T4", 2),
        _machine("g2-standard-24", "NVIDIA_L4", 2),
        _machine("a4-highgpu-8g", "NVIDIA_B200", 8),
    ]
)
DISKS = st.fixed_dictionaries(
    {},
    optional={
        "boot_disk_type": st.sampled_from(["pd-ssd", "pd-standard"]),
        "boot_disk_size_gb": st.sampled_from([100, 200]),
    },
)
SIZES = st.builds(lambda count: {"replica_count": count}, st.integers(1, 4)) | st.builds(
    lambda least, more: {"autoscaling_spec": {"min_replica_count": least, "max_replica_count": least + more}},
    st.integers(1, 2),
    st.integers(1, 2),
)
RULES = st.sampled_from(
    [
        {},
        {"enable_custom_service_account": False},
        {"enable_custom_service_account": True},
        {"enable_custom_service_account": True, "service_account": ACCOUNTS[0]},
    ]
)


@st.composite
def services(draw: st.DrawFn) -> Service:
    """Draw a persistent resource and how busy it is."""
    few = draw(st.lists(MACHINES, min_size=1, max_size=2))
    pools = draw(
        st.lists(
            st.builds(
                lambda machine, disk, size: {"machine_spec": machine, "disk_spec": disk, **size},
                st.sampled_from(few),
                DISKS,
                SIZES,
            ),
            min_size=1,
            max_size=4,
        )
    )
    resource: dict[str, Any] = {
        "resource_pools": pools,
        "resource_runtime_spec": {"service_account_spec": draw(RULES)},
    }
    if draw(st.booleans()):
        resource["network"] = NETWORKS[0]
    if draw(st.booleans()):
        resource["encryption_spec"] = {"kms_key_name": KEYS[0]}
    used = [draw(st.integers(0, 4)) for _ in pools]
    return Service(PersistentResource(ParseDict(resource, PersistentResource.pb()())), used)


@st.composite
def hardware(draw: st.DrawFn, service: Service) -> dict[str, Any]:
    """Draw machine and disk of a worker pool: those of a pool, others, parts of them, or none."""
    theirs = draw(st.sampled_from(resource_body(service.resource)["resource_pools"]))
    machine = draw(st.sampled_from([None, theirs["machine_spec"], theirs["machine_spec"]]) | MACHINES)
    disk = draw(st.sampled_from([None, theirs["disk_spec"], theirs["disk_spec"]]) | DISKS)
    name = draw(st.sampled_from([None, None, None, theirs["id"], "nobody"]))
    return {"machine_spec": machine, "disk_spec": disk, "resource_pool": name}


@st.composite
def written_out(draw: st.DrawFn, service: Service) -> dict[str, Any]:
    """Draw the worker pools of a job."""
    pools: list[dict[str, Any]] = []
    for index in range(draw(st.integers(1, 4))):
        if index and draw(st.sampled_from([False, False, True])):
            pools.append({})
            continue
        pool = {"container_spec": CONTAINER, **draw(hardware(service))}
        pools.append({**pool, "replica_count": draw(st.integers(1, 4)) if index else 1})
    return {"worker_pool_specs": pools}


@st.composite
def short_forms(draw: st.DrawFn, service: Service) -> dict[str, Any]:
    """Draw a job in the short form."""
    parts = draw(hardware(service))
    given = {**(parts["machine_spec"] or {}), **(parts["disk_spec"] or {})}
    replicas = draw(st.integers(1, 5))
    return {
        "container_uri": "image",
        "args": [SECRET],
        "env": {"TOKEN": SECRET},
        "replica_count": replicas,
        "resource_pool": parts["resource_pool"],
        **given,
    }


@st.composite
def cases(draw: st.DrawFn) -> tuple[Service, dict[str, Any]]:
    """Draw a resource and a job that may or may not fit it."""
    service = draw(services())
    resource = service.resource
    account = resource.resource_runtime_spec.service_account_spec
    right_account = (
        (account.service_account or ACCOUNTS[1]) if account.enable_custom_service_account else None
    )

    def mostly(right: str | None, *wrong: str | None) -> Any:
        return draw(st.sampled_from([right] * 8 + list(wrong)))

    return service, {
        "display_name": "nightly",
        "persistent_resource_id": KEY.id,
        **draw(written_out(service) | short_forms(service)),
        "network": mostly(resource.network or None, None, *NETWORKS),
        "encryption_spec_key_name": mostly(resource.encryption_spec.kms_key_name or None, None, *KEYS),
        "service_account": mostly(right_account, None, *ACCOUNTS),
    }


def request_of(wanted: dict[str, Any]) -> JobRequest:
    """Return the request that is wanted, which is good as far as one can tell without the resource."""
    problems = Problems("custom job")
    request = custom_job(wanted, problems)
    problems.raise_if_any()
    return request


def verdict(service: Service, request: JobRequest) -> tuple[PoolNeeds, tuple[str, ...]]:
    """Return what a job needs of the resource, and why it does not fit."""
    problems = Problems("custom job")
    resource = resource_body(service.resource)
    needs = fit_to_pools(request, resource, problems, project_id="acme", region="europe-west4")
    try:
        problems.raise_if_any()
    except InvalidRequestError as error:
        return needs, error.problems
    return needs, ()


@given(cases())
def test_the_verdict_is_the_emulators(case: tuple[Service, dict[str, Any]]) -> None:
    """A job fits if and only if one way to fill it in is not refused, and needs the same machines."""
    service, wanted = case
    request = request_of(wanted)
    before = deepcopy(request)
    expected = service.accepted(request)
    needs, problems = verdict(service, request)
    assert request == before
    assert bool(problems) == (expected is None)
    if expected is not None:
        assert _message(needs.job) == expected
        assert needs.machines == service.needs(expected)
        assert service.is_free(needs.machines) == (not needs.short_of(resource_body(service.resource)))


WRITE = re.compile(r"write (?P<value>'[^']*'|\d+), as ")
TOO_MANY = re.compile(
    r"(?:(?P<taken>\d+) \+ )?(?P<more>\d+) machines are more than .* can have, (?P<most>\d+)"
)
PLACE = re.compile(r"worker_pool_specs\[(?P<index>\d+)\]\.?(?P<rest>.*)")


def corrected(wanted: dict[str, Any], problem: str) -> dict[str, Any]:
    """Return a job with the one field changed that a problem names, as its text says."""
    field, told = re.split(r": | = ", problem, maxsplit=1)
    if place := PLACE.fullmatch(field):
        pools = list(wanted["worker_pool_specs"])
        index, path = int(place["index"]), place["rest"].split(".")
        pools[index] = _with(pools[index], path, told) if path != [""] else {}
        return {**wanted, "worker_pool_specs": pools}
    return _with(wanted, [field], told)


def _with(body: dict[str, Any], path: list[str], told: str) -> dict[str, Any]:
    head, *rest = path
    return {**body, head: _with(body[head], rest, told) if rest else _value(head, body, told)}


def _value(field: str, body: dict[str, Any], told: str) -> Any:
    if field == "resource_pool":
        return told.splitlines()[2].split()[0]  # the first of the list
    if too_many := TOO_MANY.search(told):
        excess = int(too_many["taken"] or 0) + int(too_many["more"]) - int(too_many["most"])
        return body["replica_count"] - excess
    if write := WRITE.search(told):
        return ast.literal_eval(write["value"])
    if "say which account" in told:
        return ACCOUNTS[0]
    assert "leave it out" in told
    return None


@given(cases())
def test_what_is_refused_is_accepted_once_the_named_fields_are_corrected(
    case: tuple[Service, dict[str, Any]],
) -> None:
    """Whoever does as the errors say, and changes nothing else, ends with a job that the emulator takes."""
    service, wanted = case
    needs, problems = verdict(service, request_of(wanted))
    assume(problems)
    for _ in range(5):
        for problem in problems:
            assert SECRET not in problem
            wanted = corrected(wanted, problem)
        needs, problems = verdict(service, request_of(wanted))
        if not problems:
            assert service.needs(_message(needs.job)) == needs.machines
            return
    pytest.fail(f"{wanted} is still refused")
