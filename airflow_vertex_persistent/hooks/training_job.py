# SPDX-License-Identifier: Apache-2.0
"""Training jobs of all kinds on Vertex AI: create, look, cancel."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from google.cloud.aiplatform_v1 import JobServiceAsyncClient, JobServiceClient
from google.cloud.aiplatform_v1.types import CustomJob, JobState, Scheduling
from google.protobuf.field_mask_pb2 import FieldMask

from airflow_vertex_persistent.hooks.client import (
    ASYNC_CANCEL_RETRY,
    CALL_TIMEOUT,
    CANCEL_RETRY,
    CANCEL_TIMEOUT,
    CREATE_TIMEOUT,
    RETRY,
    VertexAsyncHook,
    VertexHook,
)
from airflow_vertex_persistent.hooks.job_kinds import JOB_KINDS, TrainingJob, spec_of
from airflow_vertex_persistent.hooks.tuning import tuning_snapshot
from airflow_vertex_persistent.hooks.values import enum_name, timestamp
from airflow_vertex_persistent.names import ResourceName, location_name

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from google.cloud.aiplatform_v1.types import HyperparameterTuningJob

    from airflow_vertex_persistent.states import JobSnapshot


PAGE_SIZE = 100  # what users send; the largest that the service takes is not documented
# What `job_snapshot` needs: a job's arguments and environment are not even sent.
_JOB_FIELDS = ("name", "state", "create_time", "start_time", "end_time", "error")
_SPEC_FIELDS = ("scheduling", "persistent_resource_id", "base_output_directory")


def job_snapshot(job: TrainingJob) -> JobSnapshot:
    """
    Return the small part of a job that the rest of this package looks at.

    Of a tuning job, how long each trial may run is left out: it says nothing of the whole.
    """
    spec = spec_of(job)
    scheduling: Any = spec.scheduling
    limited = isinstance(job, CustomJob) and "timeout" in scheduling
    return {
        "job": job.name,
        "state": enum_name(JobState, job.state),
        "persistent_resource_id": spec.persistent_resource_id or None,
        "strategy": enum_name(Scheduling.Strategy, scheduling.strategy) if scheduling.strategy else None,
        "output_dir": spec.base_output_directory.output_uri_prefix or None,
        "max_run_seconds": scheduling.timeout.total_seconds() if limited else None,
        "max_wait_seconds": (
            scheduling.max_wait_duration.total_seconds() if "max_wait_duration" in scheduling else None
        ),
        "create_time": timestamp(job.create_time),
        "start_time": timestamp(job.start_time),
        "end_time": timestamp(job.end_time),
        "error_code": job.error.code,
        "error_message": job.error.message,
    }


class TrainingJobHook(VertexHook):
    """
    Training jobs, one method per call. Each has a deadline; all but the create are retried.

    ``kind`` is the collection of the jobs, as in their names: ``customJobs`` or ``hyperparameterTuningJobs``.
    """

    def create_job(self, project_id: str, region: str, kind: str, job: Mapping[str, Any]) -> TrainingJob:
        """
        Create a job. Never retried: a lost reply does not say that nothing was created.

        :param job: A ``CustomJob`` or ``HyperparameterTuningJob`` in the API's JSON form.
        :return: The job as the service keeps it, with its name and first state.
        """
        parent, calls = location_name(project_id, region), JOB_KINDS[kind]
        with self.calling(calls.method("Create"), parent):
            create = calls.call(self.client(JobServiceClient, region), "create")
            body = {calls.noun: calls.parse(job)}
            created: TrainingJob = create(parent=parent, **body, retry=None, timeout=CREATE_TIMEOUT)
        return created

    def get_job(self, name: ResourceName, *, quickly: bool = False, once: bool = False) -> TrainingJob:
        """
        Return a job as it is now.

        :param quickly: With the short deadline and the few retries of a cancel.
        :param once: Not retried, for who looks again by itself.
        """
        retry, timeout = (CANCEL_RETRY, CANCEL_TIMEOUT) if quickly else (RETRY, CALL_TIMEOUT)
        calls = JOB_KINDS[name.kind]
        with self.calling(calls.method("Get"), str(name)):
            get = calls.call(self.client(JobServiceClient, name.region), "get")
            job: TrainingJob = get(name=str(name), retry=None if once else retry, timeout=timeout)
        return job

    def list_jobs(
        self,
        project_id: str,
        region: str,
        kind: str,
        filter_: str,
        *,
        quickly: bool = False,
        once: bool = False,
    ) -> Iterator[TrainingJob]:
        """
        Yield the jobs that match, page after page; those of a tuning come without their trials.

        :param filter_: In the grammar of ``ListCustomJobsRequest.filter``.
        :param quickly: With the short deadline and the few retries of a cancel.
        :param once: Not retried, for who looks again by itself.
        """
        parent, calls = location_name(project_id, region), JOB_KINDS[kind]
        request = {"parent": parent, "filter": filter_, "page_size": PAGE_SIZE}
        retry, timeout = (CANCEL_RETRY, CANCEL_TIMEOUT) if quickly else (RETRY, CALL_TIMEOUT)
        with self.calling(calls.method("List"), parent):
            list_ = calls.call(self.client(JobServiceClient, region), "list")
            yield from list_(request, retry=None if once else retry, timeout=timeout)

    def cancel_job(self, name: ResourceName) -> None:
        """Ask the service to cancel a job. It happens later; a job that has ended stays as it is."""
        calls = JOB_KINDS[name.kind]
        with self.calling(calls.method("Cancel"), str(name)):
            cancel = calls.call(self.client(JobServiceClient, name.region), "cancel")
            cancel(name=str(name), retry=CANCEL_RETRY, timeout=CANCEL_TIMEOUT)


class TrainingJobAsyncHook(VertexAsyncHook):
    """Training jobs from the event loop, one method per call."""

    async def get_job(self, name: ResourceName) -> TrainingJob:
        """Return a job as it is now. Not retried: who watches a job looks again by itself."""
        calls = JOB_KINDS[name.kind]
        client = await self.client(JobServiceAsyncClient, name.region)
        async with self.calling(calls.method("Get"), str(name)):
            job: TrainingJob = await calls.call(client, "get")(
                name=str(name), retry=None, timeout=CALL_TIMEOUT
            )
        return job

    async def snapshot(self, name: ResourceName) -> JobSnapshot:
        """Return what a job is like now."""
        return job_snapshot(await self.get_job(name))

    async def tuning_snapshot(self, name: ResourceName) -> dict[str, Any]:
        """Return what a tuning job is like now, and in ``tuning`` its trials."""
        job = cast("HyperparameterTuningJob", await self.get_job(name))
        return {**job_snapshot(job), "tuning": tuning_snapshot(job, measurements=False)}

    async def snapshot_page(
        self, project_id: str, region: str, kind: str, filter_: str, page_token: str
    ) -> tuple[list[JobSnapshot], str]:
        """
        Return what up to a hundred of the jobs that match are like now. One call, not retried.

        :param filter_: In the grammar of ``ListCustomJobsRequest.filter``.
        :param page_token: Empty for the first page.
        :return: The jobs, and the token of the next page, empty after the last one.
        """
        parent, calls = location_name(project_id, region), JOB_KINDS[kind]
        spec_fields = [f"{calls.spec_field}.{field}" for field in _SPEC_FIELDS]
        request = calls.list_request(
            parent=parent,
            filter=filter_,
            page_size=PAGE_SIZE,
            page_token=page_token,
            read_mask=FieldMask(paths=[*_JOB_FIELDS, *spec_fields]),
        )
        client = await self.client(JobServiceAsyncClient, region)
        async with self.calling(calls.method("List"), parent):
            pager = await calls.call(client, "list")(request, retry=None, timeout=CALL_TIMEOUT)
        # A pager has the fields of its first page.
        return [job_snapshot(job) for job in calls.page(pager)], pager.next_page_token

    async def cancel_job(self, name: ResourceName) -> None:
        """Ask the service to cancel a job. It happens later; a job that has ended stays as it is."""
        calls = JOB_KINDS[name.kind]
        client = await self.client(JobServiceAsyncClient, name.region)
        async with self.calling(calls.method("Cancel"), str(name)):
            cancel = calls.call(client, "cancel")
            await cancel(name=str(name), retry=ASYNC_CANCEL_RETRY, timeout=CANCEL_TIMEOUT)
