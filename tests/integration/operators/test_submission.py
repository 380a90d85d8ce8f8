# SPDX-License-Identifier: Apache-2.0
"""The way from an execution to its job, where calls fail and lists are behind."""

from __future__ import annotations

import logging
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from google.api_core.exceptions import ServiceUnavailable
from google.cloud.aiplatform_v1.types import CustomJob, JobState

from airflow_vertex_persistent.exceptions import JobCancelledError, ServiceUnreachableError
from airflow_vertex_persistent.hooks.training_job import TrainingJobHook
from airflow_vertex_persistent.operators.training.cancelling import cancel_jobs_of, cancel_older
from airflow_vertex_persistent.operators.training.execution import Execution
from airflow_vertex_persistent.operators.training.listing import jobs_of
from airflow_vertex_persistent.operators.training.submission import Submission
from airflow_vertex_persistent.triggers.training_job import TrainingJobTrigger

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_vertex_persistent.hooks.job_kinds import TrainingJob
    from tests.conftest import Relay
    from tests.integration.conftest import Cloud

PROJECT, REGION = "demo-project", "europe-west4"
LAG = 3.0
LOG: Any = logging.getLogger("submission")


def ended(_: str) -> Any:
    """Fail: no job here is being cancelled when it is found."""
    raise AssertionError


def cancelled(job: str) -> Any:
    """Wait until a job has ended."""
    return TrainingJobTrigger(
        job=job,
        cancel_on_kill=False,
        region=REGION,
        gcp_conn_id="google_cloud_default",
        impersonation_chain=None,
        poll_interval=0.05,
        max_outage=60.0,
    ).watch_here()


def cancel_all_of(older: Execution) -> None:
    """Cancel the jobs of an execution that is over."""
    cancel_older(TrainingJobHook(), older, 60.0, wait_for=cancelled, log=LOG, stopped=lambda: False)


def submission(cloud: Cloud, execution: Execution, **changes: Any) -> Submission:
    """Return a submission of a job that does not end by itself."""
    pool = {
        "machine_spec": {"machine_type": "n1-standard-4"},
        "replica_count": 1,
        "container_spec": {"image_uri": cloud.IMAGE, "args": ["sleep", "600"]},
    }
    request = {
        "display_name": "train",
        "job_spec": {"worker_pool_specs": [pool]},
        "labels": {"airflow_execution": execution.key, "airflow_request": "0123"},
    }
    usual: dict[str, Any] = {
        "hook": TrainingJobHook(),
        "execution": execution,
        "fingerprint": "0123",
        "request": lambda: request,
        "max_outage": 60.0,
        "before_create": lambda: None,
        "after_create": lambda _: None,
        "refused": lambda _: None,
        "after_end": lambda _: None,
        "none_goes_on": lambda _: None,
        "wait_for": ended,
        "stopped": lambda: False,
        "log": LOG,
    }
    return Submission(**usual | changes)


@pytest.fixture
def execution() -> Execution:
    """An execution that has no job yet."""
    return Execution.new(0, PROJECT, REGION)


@pytest.fixture
def lagging(start_cloud: Callable[..., Cloud]) -> Cloud:
    """A service whose lists are three seconds behind."""
    return start_cloud(list_lag_seconds=LAG)


def states(cloud: Cloud) -> list[str]:
    """Return the states of all jobs, the oldest first."""
    jobs = sorted(cloud.all_jobs(), key=lambda job: job.name)
    return [job.state.name.removeprefix("JOB_STATE_") for job in jobs]


class ImpatientHook(TrainingJobHook):
    """Asks for a list again for ten seconds only, not for a minute."""

    def list_jobs(self, project_id: str, region: str, kind: str, filter_: str, **_: Any) -> Any:
        """Return the jobs that match."""
        return super().list_jobs(project_id, region, kind, filter_, quickly=True)


class BlindHook(TrainingJobHook):
    """Sees no jobs, as one whose lists are far behind."""

    def list_jobs(self, *_: Any, **__: Any) -> Any:
        """Return nothing."""
        return []


class StaleHook(TrainingJobHook):
    """Lists every job for ever as it saw it first."""

    def __init__(self) -> None:
        super().__init__()
        self._seen: dict[str, TrainingJob] = {}

    def list_jobs(self, *of: Any, **how: Any) -> Any:
        """Return the jobs that match."""
        self._seen = {job.name: job for job in super().list_jobs(*of, **how)} | self._seen
        return list(self._seen.values())


def test_an_outage_is_waited_out_before_a_create(
    empty_cloud: Cloud, relay: Relay, execution: Execution
) -> None:
    """A list without an answer does not end an attempt before max_outage, and one job is the end."""
    relay.refuse("ListCustomJobs", times=15)
    snapshot = submission(empty_cloud, execution, hook=ImpatientHook(), max_outage=30.0).job(0.0)
    assert [job.name for job in empty_cloud.all_jobs()] == [snapshot["job"]]
    assert relay.count("ListCustomJobs") > 15


def test_a_create_without_an_answer_is_not_repeated_within_a_minute(
    empty_cloud: Cloud, relay: Relay, execution: Execution
) -> None:
    """While a job may still show up none is created, even if the attempt's time is over before."""
    relay.refuse("CreateCustomJob", times=1000)
    with pytest.raises(ServiceUnreachableError, match="created no job for max_outage"):
        submission(empty_cloud, execution, max_outage=4.0).job(None)
    assert relay.count("CreateCustomJob") == 1
    assert relay.count("ListCustomJobs") >= 1


def test_an_outage_of_everything_ends_after_max_outage(
    empty_cloud: Cloud, relay: Relay, execution: Execution
) -> None:
    """Where no call is answered, the attempt says so once its time is over, and nothing was created."""
    for method in ("CreateCustomJob", "ListCustomJobs"):
        relay.refuse(method, times=1000)
    with pytest.raises(ServiceUnreachableError, match="created no job for max_outage"):
        submission(empty_cloud, execution, hook=ImpatientHook(), max_outage=5.0).job(None)
    assert relay.count("ListCustomJobs") > 1
    assert empty_cloud.all_jobs() == []


def test_a_job_that_is_not_listed_yet_is_found(lagging: Cloud, execution: Execution) -> None:
    """An attempt that follows a create without an answer looks until the job shows up, and creates none."""
    first = submission(lagging, execution).job(None)
    again = submission(lagging, execution).job(LAG + 20)
    assert again["job"] == first["job"]
    lagging.wait_for(lagging.all_jobs, "the job is listed")
    assert len(lagging.all_jobs()) == 1


def test_a_job_whose_name_is_kept_needs_no_list(lagging: Cloud, execution: Execution) -> None:
    """A job that lists do not show yet is found by its name at once."""
    first = submission(lagging, execution).job(None)
    known = execution.created(first["job"])
    assert lagging.all_jobs() == []
    assert [job.name for job in jobs_of(TrainingJobHook(), known, REGION)] == [first["job"]]
    assert submission(lagging, known).job(0.0)["job"] == first["job"]


def test_a_deleted_job_is_no_job(empty_cloud: Cloud, execution: Execution) -> None:
    """A kept name of a job that somebody deleted does not stand in the way of a new one."""
    assert empty_cloud.all_jobs() == []
    gone = execution.created(f"projects/1/locations/{REGION}/customJobs/1")
    assert submission(empty_cloud, gone).job(0.0)["job"] != gone.job


@pytest.mark.parametrize("deleted", [False, True])
def test_a_list_that_is_behind_revives_no_job(
    empty_cloud: Cloud, execution: Execution, *, deleted: bool
) -> None:
    """A job that has been cancelled, though lists still show it as waiting, is not taken over."""
    stale = submission(empty_cloud, execution, hook=StaleHook())
    first = stale.job(None)["job"]
    empty_cloud.jobs.cancel_custom_job(name=first)
    cancelled(first)
    if deleted:
        empty_cloud.jobs.delete_custom_job(name=first)
    assert stale.job(0.0)["job"] != first


def test_the_job_of_an_older_execution_is_cancelled_though_not_listed_yet(
    lagging: Cloud, execution: Execution
) -> None:
    """A task that starts anew waits for what a create of its past may have left, and cancels it."""
    submission(lagging, execution).job(None)
    cancel_all_of(execution.creating())
    lagging.wait_for(lambda: states(lagging) == ["CANCELLED"], "the job is cancelled")


def test_an_older_execution_without_a_job_does_not_keep_a_task_waiting(
    empty_cloud: Cloud, relay: Relay, execution: Execution
) -> None:
    """Where no create was on its way, one look is enough."""
    assert empty_cloud.all_jobs() == []
    cancel_all_of(execution)
    old = (datetime.now(UTC) - timedelta(minutes=2)).isoformat()
    cancel_all_of(replace(execution, creating_since=old))
    assert relay.count("ListCustomJobs") == 2


def test_nothing_is_created_for_a_task_that_was_stopped(empty_cloud: Cloud, execution: Execution) -> None:
    """Stopped before its create, a task creates nothing."""
    with pytest.raises(JobCancelledError):
        submission(empty_cloud, execution, stopped=lambda: True).job(None)
    assert empty_cloud.all_jobs() == []


def test_a_job_whose_task_was_stopped_meanwhile_is_told_of(empty_cloud: Cloud, execution: Execution) -> None:
    """Stopped while its create was on the way, a task hears of the job, to cancel it, and ends without it."""
    names: list[str] = []
    stopped = submission(empty_cloud, execution, stopped=lambda: bool(names), after_create=names.append)
    with pytest.raises(JobCancelledError):
        stopped.job(None)
    assert [job.name for job in empty_cloud.all_jobs()] == names


def test_a_job_that_lists_do_not_show_yet_is_cancelled_beside_a_known_one(
    lagging: Cloud, execution: Execution
) -> None:
    """The name of an older job does not end the look for one that was being created when the task was cleared."""
    known = execution.created(submission(lagging, execution).job(None)["job"])
    lagging.wait_for(lagging.all_jobs, "the first is listed")
    submission(lagging, execution, hook=BlindHook()).job(None)
    cancel_all_of(known.creating())
    lagging.wait_for(lambda: states(lagging) == ["CANCELLED", "CANCELLED"], "both are cancelled")


def test_what_was_trained_already_is_not_trained_again(empty_cloud: Cloud, execution: Execution) -> None:
    """A job of this execution that has succeeded is its job, though the DAG was changed since."""
    first = submission(empty_cloud, execution)
    short: Any = first.request()
    short["job_spec"]["worker_pool_specs"][0]["container_spec"]["args"] = ["succeed"]
    name = first.job(None)["job"]
    empty_cloud.wait_for(
        lambda: empty_cloud.jobs.get_custom_job(name=name).state == JobState.JOB_STATE_SUCCEEDED, "it has"
    )
    changed = submission(empty_cloud, execution, fingerprint="4567")
    assert changed.job(0.0)["job"] == name


def test_a_region_that_is_away_keeps_no_job_of_another_from_its_end() -> None:
    """What can be cancelled is, listed or known by name, and then the error is raised."""
    jobs = {
        region: CustomJob(name=f"projects/1/locations/{region}/customJobs/1", state="JOB_STATE_PENDING")
        for region in ("europe-west4", "us-central1", "us-east4")
    }
    execution = Execution.new(0, PROJECT, *jobs)
    execution = replace(execution, racing=tuple(job.name for job in jobs.values()))
    cancelled_jobs: list[str] = []

    class HalfThere(TrainingJobHook):
        def list_jobs(self, project_id: str, region: str, *_: Any, **__: Any) -> Any:
            if region == "europe-west4":
                raise ServiceUnavailable("away")
            return [jobs[region]]

        def cancel_job(self, name: Any) -> None:
            cancelled_jobs.append(str(name))

    with pytest.raises(ServiceUnavailable):
        cancel_jobs_of(HalfThere(), execution, LOG, "its task was stopped")
    assert sorted(cancelled_jobs) == [job.name for job in jobs.values()]  # regions are asked side by side
