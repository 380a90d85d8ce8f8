# SPDX-License-Identifier: Apache-2.0
"""Where a custom job is to run: whether its project may have the GPUs, and which pools of a resource fit."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import grpc

from airflow_vertex_persistent.emulator import messages
from airflow_vertex_persistent.emulator.cluster import NoSuchPoolError, TooManyReplicasError
from airflow_vertex_persistent.emulator.demand import job_quota
from airflow_vertex_persistent.emulator.errors import ApiError, invalid, not_found, refused
from airflow_vertex_persistent.emulator.lifecycle import ResourceState
from airflow_vertex_persistent.emulator.machines import shape_of
from airflow_vertex_persistent.emulator.names import Key

if TYPE_CHECKING:
    from google.cloud.aiplatform_v1.types import CustomJob, CustomJobSpec, PersistentResource

    from airflow_vertex_persistent.emulator.names import Location
    from airflow_vertex_persistent.emulator.world import JobPlan, World

JOB_SPEC = "custom_job.job_spec"
_USABLE = {ResourceState.RUNNING, ResourceState.UPDATING}


class Placement:
    """
    Finds machines for jobs, without taking them.

    :param world: quota, machines and settings.
    """

    def __init__(self, world: World) -> None:
        self._world = world

    def place(self, location: Location, job: CustomJob, plan: JobPlan, field: str = JOB_SPEC) -> JobPlan:
        """
        Complete the plan of a job that is to be created.

        :param field: path of its spec in the request.
        :raises ApiError: when it can never run, or is refused by the state of its persistent resource.
        """
        spec = job.job_spec
        self._check_quota(location, spec)
        if not spec.persistent_resource_id:
            return plan
        key = Key(location, spec.persistent_resource_id)
        resource = self._world.store.resources.get(key)
        if resource is None:
            raise not_found(messages.RESOURCE_MISSING)
        if resource.state not in _USABLE:
            raise refused(f'PersistentResource "{key.id}" is {resource.state.name}, not RUNNING.')
        _check_agreement(job, resource, field)
        needs = self._needs(key, spec, field)
        if self._world.settings.busy_policy == "reject" and not self._world.pools.cluster.fits(key, needs):
            raise ApiError(grpc.StatusCode.RESOURCE_EXHAUSTED, messages.resource_busy(key.id))
        return replace(plan, resource=key, needs=needs)

    def place_again(self, location: Location, job: CustomJob, plan: JobPlan) -> JobPlan:
        """
        Complete the plan of a job that waited when the emulator before us ended.

        :raises ApiError: when the quota, or the resource, was made smaller meanwhile.
        """
        spec = job.job_spec
        self._check_quota(location, spec)
        if not spec.persistent_resource_id:
            return plan
        key = Key(location, spec.persistent_resource_id)
        return replace(plan, resource=key, needs=self._needs(key, spec, JOB_SPEC))

    def _check_quota(self, location: Location, spec: CustomJobSpec) -> None:
        """Refuse what a project can never have; what others of it use at the moment is worth waiting for."""
        if spec.persistent_resource_id:
            return
        if metrics := self._world.quota.exceeded(job_quota(spec, location)):
            raise ApiError(grpc.StatusCode.RESOURCE_EXHAUSTED, messages.quota_limits(metrics))

    def _needs(self, key: Key, spec: CustomJobSpec, field: str) -> dict[str, int]:
        """Count the machines of each pool of a persistent resource that a job takes."""
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


def _check_agreement(job: CustomJob, resource: PersistentResource, field: str) -> None:
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
                f"{field}.service_account: the persistent resource enforces a custom service account"
                + (f", {wanted}." if wanted else "; set it on the job.")
            )
    elif spec.service_account:
        raise invalid(
            f"{field}.service_account: the persistent resource was created without "
            "enable_custom_service_account and runs everything as the Custom Code Service Agent."
        )
