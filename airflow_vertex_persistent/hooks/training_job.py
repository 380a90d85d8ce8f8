# SPDX-License-Identifier: Apache-2.0
"""Training jobs on Vertex AI: create, look, cancel."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from google.cloud.aiplatform_v1 import JobServiceAsyncClient, JobServiceClient
from google.cloud.aiplatform_v1.types import CustomJob, JobState, ListCustomJobsRequest, Scheduling
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.json_format import ParseDict

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
from airflow_vertex_persistent.hooks.values import enum_name, timestamp
from airflow_vertex_persistent.names import ResourceName, location_name

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from airflow_vertex_persistent.states import JobSnapshot


PAGE_SIZE = 100  # what users send; the largest that the service takes is not documented
# What `job_snapshot` needs: a job's arguments and environment are not even sent.
_SNAPSHOT_FIELDS = (
    "name",
    "state",
    "create_time",
    "start_time",
    "end_time",
    "error",
    "job_spec.scheduling",
    "job_spec.persistent_resource_id",
    "job_spec.base_output_directory",
)


def job_snapshot(job: CustomJob) -> JobSnapshot:
    """Return the small part of a job that the rest of this package looks at."""
    spec = job.job_spec
    scheduling: Any = spec.scheduling
    return {
        "job": job.name,
        "state": enum_name(JobState, job.state),
        "persistent_resource_id": spec.persistent_resource_id or None,
        "strategy": enum_name(Scheduling.Strategy, scheduling.strategy) if scheduling.strategy else None,
        "output_dir": spec.base_output_directory.output_uri_prefix or None,
        "max_run_seconds": scheduling.timeout.total_seconds() if "timeout" in scheduling else None,
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
    """Training jobs, one method per call. Each has a deadline; all but the create are retried."""

    def create_custom_job(self, project_id: str, region: str, job: Mapping[str, Any]) -> CustomJob:
        """
        Create a custom job. Never retried: a lost reply does not say that nothing was created.

        :param job: A ``CustomJob`` in the API's JSON form, as ``specs.custom_job`` returns it.
        :return: The job as the service keeps it, with its name and first state.
        """
        parent = location_name(project_id, region)
        with self.calling("CreateCustomJob", parent):
            return self.client(JobServiceClient, region).create_custom_job(
                parent=parent,
                custom_job=CustomJob(ParseDict(dict(job), CustomJob.pb()())),
                retry=None,
                timeout=CREATE_TIMEOUT,
            )

    def get_custom_job(self, name: ResourceName, *, quickly: bool = False, once: bool = False) -> CustomJob:
        """
        Return a custom job as it is now.

        :param quickly: With the short deadline and the few retries of a cancel.
        :param once: Not retried, for who looks again by itself.
        """
        retry, timeout = (CANCEL_RETRY, CANCEL_TIMEOUT) if quickly else (RETRY, CALL_TIMEOUT)
        with self.calling("GetCustomJob", str(name)):
            return self.client(JobServiceClient, name.region).get_custom_job(
                name=str(name), retry=None if once else retry, timeout=timeout
            )

    def list_custom_jobs(
        self, project_id: str, region: str, filter_: str, *, quickly: bool = False, once: bool = False
    ) -> Iterator[CustomJob]:
        """
        Yield the custom jobs that match, page after page.

        :param filter_: In the grammar of ``ListCustomJobsRequest.filter``.
        :param quickly: With the short deadline and the few retries of a cancel.
        :param once: Not retried, for who looks again by itself.
        """
        parent = location_name(project_id, region)
        request = {"parent": parent, "filter": filter_, "page_size": PAGE_SIZE}
        retry, timeout = (CANCEL_RETRY, CANCEL_TIMEOUT) if quickly else (RETRY, CALL_TIMEOUT)
        with self.calling("ListCustomJobs", parent):
            client = self.client(JobServiceClient, region)
            yield from client.list_custom_jobs(request, retry=None if once else retry, timeout=timeout)

    def cancel_custom_job(self, name: ResourceName) -> None:
        """Ask the service to cancel a custom job. It happens later; a job that has ended stays as it is."""
        with self.calling("CancelCustomJob", str(name)):
            self.client(JobServiceClient, name.region).cancel_custom_job(
                name=str(name), retry=CANCEL_RETRY, timeout=CANCEL_TIMEOUT
            )


class TrainingJobAsyncHook(VertexAsyncHook):
    """Training jobs from the event loop, one method per call."""

    async def custom_job_snapshot(self, name: ResourceName) -> JobSnapshot:
        """Return what a custom job is like now. Not retried: who watches a job looks again by itself."""
        client = await self.client(JobServiceAsyncClient, name.region)
        async with self.calling("GetCustomJob", str(name)):
            job = await client.get_custom_job(name=str(name), retry=None, timeout=CALL_TIMEOUT)
        return job_snapshot(job)

    async def custom_job_page(
        self, project_id: str, region: str, filter_: str, page_token: str
    ) -> tuple[list[JobSnapshot], str]:
        """
        Return what up to a hundred of the custom jobs that match are like now. One call, not retried.

        :param filter_: In the grammar of ``ListCustomJobsRequest.filter``.
        :param page_token: Empty for the first page.
        :return: The jobs, and the token of the next page, empty after the last one.
        """
        parent = location_name(project_id, region)
        request = ListCustomJobsRequest(
            parent=parent,
            filter=filter_,
            page_size=PAGE_SIZE,
            page_token=page_token,
            read_mask=FieldMask(paths=_SNAPSHOT_FIELDS),
        )
        client = await self.client(JobServiceAsyncClient, region)
        async with self.calling("ListCustomJobs", parent):
            pager = await client.list_custom_jobs(request, retry=None, timeout=CALL_TIMEOUT)
        # A pager has the fields of its first page.
        return [job_snapshot(job) for job in pager.custom_jobs], pager.next_page_token

    async def cancel_custom_job(self, name: ResourceName) -> None:
        """Ask the service to cancel a custom job. It happens later; a job that has ended stays as it is."""
        client = await self.client(JobServiceAsyncClient, name.region)
        async with self.calling("CancelCustomJob", str(name)):
            await client.cancel_custom_job(name=str(name), retry=ASYNC_CANCEL_RETRY, timeout=CANCEL_TIMEOUT)
