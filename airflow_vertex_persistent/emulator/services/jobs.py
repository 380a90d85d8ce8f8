# SPDX-License-Identifier: Apache-2.0
"""JobService: custom jobs."""

from __future__ import annotations

from typing import TYPE_CHECKING

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
from airflow_vertex_persistent.emulator.endings import LOST, cancelled
from airflow_vertex_persistent.emulator.errors import ApiError, not_found, refused
from airflow_vertex_persistent.emulator.lifecycle import (
    ENDED,
    WAITING,
    job_created,
    job_explained,
    job_moved,
)
from airflow_vertex_persistent.emulator.names import CUSTOM_JOBS, Key, parse_name, parse_parent
from airflow_vertex_persistent.emulator.world import JobPlan, Outcome

from .checks import check_job
from .job_lists import fill_page
from .placement import Placement

if TYPE_CHECKING:
    from collections.abc import Mapping

    from google.cloud.aiplatform_v1.types import (
        CancelCustomJobRequest,
        CreateCustomJobRequest,
        DeleteCustomJobRequest,
        GetCustomJobRequest,
        ListCustomJobsRequest,
    )
    from google.longrunning.operations_pb2 import Operation

    from airflow_vertex_persistent.emulator.names import Location
    from airflow_vertex_persistent.emulator.runs import JobRuns
    from airflow_vertex_persistent.emulator.world import World

    from . import Call
    from .operations import Operations


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
        self._placement = Placement(world)

    async def create(self, request: CreateCustomJobRequest, call: Call) -> CustomJob:
        """Create a job and start it."""
        location = parse_parent(request.parent)
        check_job(request.custom_job)
        plan = JobPlan(stockout=call.stockout, error_delay=call.error_delay)
        key, job = self.start(location, request.custom_job, plan)
        return self._jobs.get(key) or job  # it may have to wait

    def start(self, location: Location, job: CustomJob, plan: JobPlan) -> tuple[Key, CustomJob]:
        """
        Start a job whose request has been checked.

        :param plan: where it is to run is added.
        :return: the job, as it was created.
        :raises ApiError: when there is no place for it.
        """
        plan = self._placement.place(location, job, plan)
        key = Key(location, self._world.store.next_job_id())
        created = job_created(job, key.name(CUSTOM_JOBS), self._world.clock())
        self._jobs.put(key, created)
        self._runs.start(key, plan)
        return key, created

    def resume(self, trials: Mapping[Key, str]) -> None:
        """
        Take up the jobs of the emulator before us: waiting ones go on, those that it was killed with are lost.

        :param trials: jobs that are trials, with their ids.
        """
        for key, job in reversed(self._jobs.newest_first()):
            if job.state in WAITING:
                self._wait_on(key, job, JobPlan(trial=trials.get(key, "")))
            elif job.state == JobState.JOB_STATE_RUNNING:
                self.lose(key, LOST)
            elif job.state == JobState.JOB_STATE_CANCELLING:
                self.lose(key, cancelled(messages.CANCELED_BY_USER))
            elif job.state == JobState.JOB_STATE_FAILED and "error" not in job:  # it was to come later
                error = Status(code=code_pb2.INTERNAL, message=messages.INTERNAL_ERROR)
                self._jobs.put(key, job_explained(job, error, self._world.clock()))

    def _wait_on(self, key: Key, job: CustomJob, plan: JobPlan) -> None:
        try:
            plan = self._placement.place_again(key.location, job, plan)
        except ApiError as error:
            status = Status(code=code_pb2.INVALID_ARGUMENT, message=error.text)
            self.lose(key, Outcome(JobState.JOB_STATE_FAILED, status))
            return
        self._runs.start(key, plan)

    def lose(self, key: Key, outcome: Outcome) -> None:
        """End a job that no run takes care of, unless it has ended."""
        job = self._jobs.get(key)
        if job is not None and job.state not in ENDED:
            self._jobs.put(key, job_moved(job, outcome.state, self._world.clock(), outcome.error))
            self._world.logs.say(key.id, messages.END_OF_JOB[JobState(outcome.state)])

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
        response = ListCustomJobsResponse()
        found = ListCustomJobsResponse.pb(response).custom_jobs
        response.next_page_token = fill_page(self._world, self._jobs, request, call, found)
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
