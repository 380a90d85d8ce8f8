# SPDX-License-Identifier: Apache-2.0
"""JobService: hyperparameter tuning jobs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from google.cloud.aiplatform_v1.types import (
    DeleteOperationMetadata,
    HyperparameterTuningJob,
    JobState,
    ListHyperparameterTuningJobsResponse,
    Trial,
)
from google.protobuf.empty_pb2 import Empty
from google.rpc.status_pb2 import Status

from airflow_vertex_persistent.emulator import messages
from airflow_vertex_persistent.emulator.endings import LOST, cancelled
from airflow_vertex_persistent.emulator.errors import not_found, refused
from airflow_vertex_persistent.emulator.lifecycle import ENDED, job_created, job_explained, job_moved
from airflow_vertex_persistent.emulator.names import CUSTOM_JOBS, TUNING_JOBS, Key, parse_name, parse_parent
from airflow_vertex_persistent.emulator.tuning.trial_job import trial_job
from airflow_vertex_persistent.emulator.world import JobPlan, Outcome

from .job_lists import fill_page
from .placement import Placement
from .tuning_checks import JOB, check_tuning_job

if TYPE_CHECKING:
    from google.cloud.aiplatform_v1.types import (
        CancelHyperparameterTuningJobRequest,
        CreateHyperparameterTuningJobRequest,
        DeleteHyperparameterTuningJobRequest,
        GetHyperparameterTuningJobRequest,
        ListHyperparameterTuningJobsRequest,
    )
    from google.longrunning.operations_pb2 import Operation

    from airflow_vertex_persistent.emulator.tuning.runs import TuningRuns
    from airflow_vertex_persistent.emulator.world import World

    from . import Call
    from .jobs import CustomJobs
    from .operations import Operations

_DONE = {Trial.State.SUCCEEDED, Trial.State.INFEASIBLE}


class TuningJobs:
    """
    Create, get, list, cancel and delete hyperparameter tuning jobs.

    :param world: store, machines and settings.
    :param runs: the tuning jobs at work.
    :param operations: long-running operations.
    """

    def __init__(self, world: World, runs: TuningRuns, operations: Operations) -> None:
        self._world = world
        self._jobs = world.store.tuning_jobs
        self._runs = runs
        self._operations = operations
        self._placement = Placement(world)

    async def create(
        self, request: CreateHyperparameterTuningJobRequest, call: Call
    ) -> HyperparameterTuningJob:
        """Create a job and start it."""
        location, wanted = parse_parent(request.parent), request.hyperparameter_tuning_job
        check_tuning_job(wanted)
        plan = JobPlan(stockout=call.stockout, error_delay=call.error_delay)
        # What no trial could ever get is told now.
        self._placement.place(location, trial_job(wanted, "1", ()), plan, f"{JOB}.trial_job_spec")
        key = Key(location, self._world.store.next_job_id())
        job = job_created(wanted, key.name(TUNING_JOBS), self._world.clock())
        self._jobs.put(key, job)
        self._runs.start(key, plan)
        return job

    def resume(self, custom_jobs: CustomJobs) -> None:
        """
        Take up the jobs of the emulator before us, of both kinds.

        Waiting ones go on, with their trials; those that it was killed with are lost, and so are their trials.
        """
        waiting: list[Key] = []
        trials: dict[Key, str] = {}
        for key, job in reversed(self._jobs.newest_first()):
            if job.state == JobState.JOB_STATE_PENDING:
                waiting.append(key)
                trials |= {
                    parse_name(one.custom_job, CUSTOM_JOBS): one.id for one in job.trials if one.custom_job
                }
            else:
                self._end(key, job, custom_jobs)
        custom_jobs.resume(trials)
        for key in waiting:
            self._runs.start(key, JobPlan())

    def _end(self, key: Key, job: HyperparameterTuningJob, custom_jobs: CustomJobs) -> None:
        """End a job that no run takes care of, unless it has ended."""
        if job.state == JobState.JOB_STATE_FAILED and "error" not in job:  # it was to come later
            self._jobs.put(key, job_explained(job, LOST.error or Status(), self._world.clock()))
        elif job.state not in ENDED:
            stopped = job.state == JobState.JOB_STATE_CANCELLING
            self._lose(key, job, cancelled(messages.CANCELED_BY_USER) if stopped else LOST, custom_jobs)

    def _lose(
        self, key: Key, job: HyperparameterTuningJob, outcome: Outcome, custom_jobs: CustomJobs
    ) -> None:
        ended = job_moved(job, outcome.state, self._world.clock(), outcome.error)
        for trial in HyperparameterTuningJob.pb(ended).trials:
            if trial.state not in _DONE:
                custom_jobs.lose(parse_name(trial.custom_job, CUSTOM_JOBS), outcome)
                trial.state = Trial.State.INFEASIBLE
                trial.infeasible_reason = outcome.error.message if outcome.error else ""
                trial.end_time.FromDatetime(self._world.clock())
        self._jobs.put(key, ended)
        self._world.logs.say(key.id, messages.END_OF_JOB[JobState(outcome.state)])

    def _find(self, name: str) -> tuple[Key, HyperparameterTuningJob]:
        key = parse_name(name, TUNING_JOBS)
        job = self._jobs.get(key)
        if job is None:
            raise not_found(messages.TUNING_JOB_MISSING)
        return key, job

    async def get(self, request: GetHyperparameterTuningJobRequest, _: Call) -> HyperparameterTuningJob:
        """Get one job, with its trials."""
        return self._find(request.name)[1]

    async def list(
        self, request: ListHyperparameterTuningJobsRequest, call: Call
    ) -> ListHyperparameterTuningJobsResponse:
        """List jobs, newest first, without their trials."""
        response = ListHyperparameterTuningJobsResponse()
        found = ListHyperparameterTuningJobsResponse.pb(response).hyperparameter_tuning_jobs
        response.next_page_token = fill_page(self._world, self._jobs, request, call, found)
        for job in found:
            job.ClearField("trials")
        return response

    async def cancel(self, request: CancelHyperparameterTuningJobRequest, _: Call) -> Empty:
        """Ask a job to end; it is CANCELLING until all its trials have ended."""
        key, job = self._find(request.name)
        if job.state in ENDED and self._world.settings.cancel_finished == "refuse":
            raise refused(f"The HyperparameterTuningJob is {job.state.name} and cannot be cancelled.")
        if job.state not in ENDED:
            self._runs.stop(key, messages.CANCELED_BY_USER)
        return Empty()

    async def delete(self, request: DeleteHyperparameterTuningJobRequest, _: Call) -> Operation:
        """Delete a job that has ended; its trials' jobs stay."""
        key, job = self._find(request.name)
        if job.state not in ENDED:
            raise refused(
                f"The HyperparameterTuningJob is {job.state.name}: cancel it and wait for its end before deleting it."
            )
        self._jobs.remove(key)
        operation = self._operations.start(key.location, DeleteOperationMetadata)
        return self._operations.finish(operation, Empty())
