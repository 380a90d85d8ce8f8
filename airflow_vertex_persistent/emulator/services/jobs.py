# SPDX-License-Identifier: Apache-2.0
"""JobService: custom jobs."""

from __future__ import annotations

import time
from datetime import timedelta
from itertools import dropwhile
from typing import TYPE_CHECKING

import grpc
from google.cloud.aiplatform_v1.types import (
    CustomJob,
    DeleteOperationMetadata,
    JobState,
    ListCustomJobsResponse,
)
from google.protobuf.empty_pb2 import Empty
from google.rpc import code_pb2
from google.rpc.status_pb2 import Status

from airflow_vertex_persistent.emulator import messages
from airflow_vertex_persistent.emulator.cluster import NoSuchPoolError, TooManyReplicasError
from airflow_vertex_persistent.emulator.demand import job_quota
from airflow_vertex_persistent.emulator.errors import ApiError, invalid, not_found, refused
from airflow_vertex_persistent.emulator.lifecycle import (
    ENDED,
    WAITING,
    ResourceState,
    job_created,
    job_explained,
    job_moved,
)
from airflow_vertex_persistent.emulator.machines import shape_of
from airflow_vertex_persistent.emulator.names import CUSTOM_JOBS, Key, Location, parse_name, parse_parent
from airflow_vertex_persistent.emulator.paging import first_page, last_place
from airflow_vertex_persistent.emulator.world import JobPlan

from .checks import check_job
from .job_filter import job_test, label_needs
from .read_mask import masking

if TYPE_CHECKING:
    from google.cloud.aiplatform_v1.types import (
        CancelCustomJobRequest,
        CreateCustomJobRequest,
        CustomJobSpec,
        DeleteCustomJobRequest,
        GetCustomJobRequest,
        ListCustomJobsRequest,
        PersistentResource,
    )
    from google.longrunning.operations_pb2 import Operation

    from airflow_vertex_persistent.emulator.runs import JobRuns
    from airflow_vertex_persistent.emulator.world import World

    from . import Call
    from .operations import Operations

_USABLE = {ResourceState.RUNNING, ResourceState.UPDATING}


class CustomJobs:
    """
    Create, get, list, cancel and delete custom jobs.

    :param world: store, machines and settings.
    :param runs: the jobs at work.
    :param operations: long-running operations.
    """

    def __init__(self, world: World, runs: JobRuns, operations: Operations) -> None:
        self._world = world
        self._jobs = world.store.jobs
        self._runs = runs
        self._operations = operations
        self._last_id = max((int(key.id) for key, _ in self._jobs.newest_first()), default=0)

    async def create(self, request: CreateCustomJobRequest, call: Call) -> CustomJob:
        """Create a job and start it."""
        location = parse_parent(request.parent)
        check_job(request.custom_job)
        self._check_quota(location, request.custom_job.job_spec)
        resource, needs = self._place(location, request.custom_job)
        key = Key(location, self._next_id())
        job = job_created(request.custom_job, key.name(CUSTOM_JOBS), self._world.clock())
        self._jobs.put(key, job)
        self._runs.start(key, JobPlan(resource, needs, call.stockout, call.error_delay))
        return self._jobs.get(key) or job  # it may have to wait

    def _next_id(self) -> str:
        # Nineteen digits like the service's, and growing, so that the newest job has the largest id.
        self._last_id = max(self._last_id + 1, time.time_ns())
        return str(self._last_id)

    def _check_quota(self, location: Location, spec: CustomJobSpec) -> None:
        """Refuse what a project can never have; what others of it use at the moment is worth waiting for."""
        if spec.persistent_resource_id:
            return
        if metrics := self._world.quota.exceeded(job_quota(spec, location)):
            raise ApiError(grpc.StatusCode.RESOURCE_EXHAUSTED, messages.quota_limits(metrics))

    def _place(self, location: Location, job: CustomJob) -> tuple[Key | None, dict[str, int]]:
        """Find the pools of a persistent resource that a job is for."""
        spec = job.job_spec
        if not spec.persistent_resource_id:
            return None, {}
        key = Key(location, spec.persistent_resource_id)
        resource = self._world.store.resources.get(key)
        if resource is None:
            raise not_found(messages.RESOURCE_MISSING)
        if resource.state not in _USABLE:
            raise refused(f'PersistentResource "{key.id}" is {resource.state.name}, not RUNNING.')
        _check_agreement(job, resource)
        needs = self._needs(key, spec)
        if self._world.settings.busy_policy == "reject" and not self._world.pools.cluster.fits(key, needs):
            raise ApiError(grpc.StatusCode.RESOURCE_EXHAUSTED, messages.resource_busy(key.id))
        return key, needs

    def _needs(self, key: Key, spec: CustomJobSpec) -> dict[str, int]:
        """Count the machines of each pool of a persistent resource that a job takes."""
        field = "custom_job.job_spec"
        wanted = [
            (shape_of(pool.machine_spec, pool.disk_spec), pool.replica_count) if pool.replica_count else None
            for pool in spec.worker_pool_specs
        ]
        try:
            return self._world.pools.cluster.place(key, wanted)
        except NoSuchPoolError as error:
            raise invalid(
                f"{field}.worker_pool_specs[{error.index}]: machine_spec and disk_spec match no resource pool "
                f'of PersistentResource "{key.id}".'
            ) from error
        except TooManyReplicasError as error:
            raise invalid(
                f"{field}.worker_pool_specs: {error.wanted} replicas are more than resource pool "
                f'"{error.pool_id}" of PersistentResource "{key.id}" can have ({error.maximum}).'
            ) from error

    def resume(self) -> None:
        """Take up the jobs of the emulator before us: waiting ones go on, those that it was killed with are lost."""
        for key, job in reversed(self._jobs.newest_first()):
            if job.state in WAITING:
                self._wait_on(key, job)
            elif job.state == JobState.JOB_STATE_RUNNING:
                self._lose(key, JobState.JOB_STATE_FAILED, code_pb2.INTERNAL, messages.INTERNAL_ERROR)
            elif job.state == JobState.JOB_STATE_CANCELLING:
                self._lose(key, JobState.JOB_STATE_CANCELLED, code_pb2.CANCELLED, messages.CANCELED_BY_USER)
            elif job.state == JobState.JOB_STATE_FAILED and "error" not in job:  # it was to come later
                error = Status(code=code_pb2.INTERNAL, message=messages.INTERNAL_ERROR)
                self._jobs.put(key, job_explained(job, error, self._world.clock()))

    def _wait_on(self, key: Key, job: CustomJob) -> None:
        resource = job.job_spec.persistent_resource_id
        where = Key(key.location, resource) if resource else None
        try:
            self._check_quota(key.location, job.job_spec)
            needs = self._needs(where, job.job_spec) if where else {}
        except ApiError as error:  # the quota, or the resource, was made smaller meanwhile
            self._lose(key, JobState.JOB_STATE_FAILED, code_pb2.INVALID_ARGUMENT, error.text)
            return
        self._runs.start(key, JobPlan(where, needs))

    def _lose(self, key: Key, state: int, code: int, text: str) -> None:
        """End a job that no run takes care of."""
        if (job := self._jobs.get(key)) is not None:
            error = Status(code=code, message=text)
            self._jobs.put(key, job_moved(job, state, self._world.clock(), error))
            self._world.logs.say(key.id, messages.LAST_WORDS[JobState(state)])

    def _find(self, name: str) -> tuple[Key, CustomJob]:
        key = parse_name(name, CUSTOM_JOBS)
        job = self._jobs.get(key)
        if job is None:
            raise not_found(messages.JOB_MISSING)
        return key, job

    async def get(self, request: GetCustomJobRequest, _: Call) -> CustomJob:
        """Get one job."""
        return self._find(request.name)[1]

    async def list(self, request: ListCustomJobsRequest, call: Call) -> ListCustomJobsResponse:
        """List jobs, newest first."""
        location = call.parent(request.parent)
        question = f"{location} {request.filter}"
        test = job_test(request.filter)
        copy = masking(CustomJob.pb().DESCRIPTOR, request.read_mask)
        before = last_place(request.page_token, question)
        rows = self._jobs.rows(location, before, label_needs(test))
        if lag := self._world.settings.list_lag_seconds:
            seen_until = self._world.clock() - timedelta(seconds=lag)
            rows = dropwhile(lambda row: row.create_time > seen_until, rows)
        chosen, token = first_page(
            filter(test, rows), lambda row: row.number, size=request.page_size, question=question
        )
        # Raw protocol buffers: wrapping and copying each job once more would take most of the time.
        response = ListCustomJobsResponse(next_page_token=token)
        found = ListCustomJobsResponse.pb(response).custom_jobs
        for row in chosen:
            copy(row.raw, found.add())
        return response

    async def cancel(self, request: CancelCustomJobRequest, _: Call) -> Empty:
        """Ask a job to end; it is CANCELLING until all its processes are gone."""
        key, job = self._find(request.name)
        if job.state in ENDED and self._world.settings.cancel_finished == "refuse":
            raise refused(f"The CustomJob is {job.state.name} and cannot be cancelled.")
        if job.state not in ENDED:
            self._runs.stop(key, messages.CANCELED_BY_USER)
        return Empty()

    async def delete(self, request: DeleteCustomJobRequest, _: Call) -> Operation:
        """Delete a job that has ended."""
        key, job = self._find(request.name)
        if job.state not in ENDED:
            raise refused(
                f"The CustomJob is {job.state.name}: cancel it and wait for its end before deleting it."
            )
        self._jobs.remove(key)
        operation = self._operations.start(key.location, DeleteOperationMetadata)
        return self._operations.finish(operation, Empty())


def _check_agreement(job: CustomJob, resource: PersistentResource) -> None:
    """Check that a job has the network, key and kind of account of its persistent resource."""
    spec: CustomJobSpec = job.job_spec
    account = resource.resource_runtime_spec.service_account_spec
    for what, ours, theirs in (
        ("network", spec.network, resource.network),
        ("kms_key_name", job.encryption_spec.kms_key_name, resource.encryption_spec.kms_key_name),
    ):
        if ours != theirs:
            raise invalid(f"The job's {what} {ours!r} is not that of its persistent resource, {theirs!r}.")
    if account.enable_custom_service_account:
        wanted = account.service_account
        if not spec.service_account or (wanted and spec.service_account != wanted):
            raise invalid(
                "custom_job.job_spec.service_account: the persistent resource enforces a custom service account"
                + (f", {wanted}." if wanted else "; set it on the job.")
            )
    elif spec.service_account:
        raise invalid(
            "custom_job.job_spec.service_account: the persistent resource was created without "
            "enable_custom_service_account and runs everything as the Custom Code Service Agent."
        )
