# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest
from google.api_core.exceptions import InvalidArgument, NotFound, ServiceUnavailable
from google.cloud.aiplatform_v1.types import JobState

from airflow_vertex_persistent.hooks.training_job import TrainingJobAsyncHook, TrainingJobHook, job_snapshot
from airflow_vertex_persistent.names import CUSTOM_JOBS, ResourceName

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from google.cloud.aiplatform_v1.types import CustomJob

    from tests.conftest import Relay
    from tests.contract.conftest import Cloud

PROJECT, REGION = "demo-project", "europe-west4"

pytestmark = pytest.mark.usefixtures("relay")


def body(cloud: Cloud, code: str = "pass", **spec: Any) -> dict[str, Any]:
    """Return a job as the specs write it."""
    return cloud.job(cloud.pool(code), **spec)


def created(cloud: Cloud, code: str = "pass", **spec: Any) -> ResourceName:
    """Create a job through the hook and return its name."""
    return ResourceName.parse(
        TrainingJobHook().create_job(PROJECT, REGION, CUSTOM_JOBS, body(cloud, code, **spec)).name
    )


def from_the_loop(call: Callable[[TrainingJobAsyncHook], Awaitable[Any]]) -> Any:
    """Return what the async hook answers."""

    async def run() -> Any:
        async with TrainingJobAsyncHook() as hook:
            return await call(hook)

    return asyncio.run(run())


def test_a_job_is_created_and_read(cloud: Cloud) -> None:
    """A created job comes back with its name and first state, and both hooks read the same."""
    hook = TrainingJobHook()
    job = hook.create_job(PROJECT, REGION, CUSTOM_JOBS, body(cloud))
    name = ResourceName.parse(job.name)
    assert (name.region, name.kind) == (REGION, "customJobs")
    assert job.state in {JobState.JOB_STATE_QUEUED, JobState.JOB_STATE_PENDING}
    ended = cloud.ended(job)
    assert hook.get_job(name) == ended
    assert from_the_loop(lambda loop: loop.snapshot(name)) == job_snapshot(ended)


def test_the_project_s_id_and_number_name_the_same_job(cloud: Cloud) -> None:
    """A job is found under the project's id although the service answers with the number."""
    name = created(cloud)
    by_id = ResourceName(PROJECT, name.region, name.kind, name.id)
    assert by_id.project != name.project
    assert ResourceName.parse(TrainingJobHook().get_job(by_id).name) == name


def test_jobs_are_listed_by_filter(cloud: Cloud) -> None:
    """A list gives the jobs that match, over as many pages as it takes."""
    names = {created(cloud, labels={"test": "list"}).id for _ in range(3)}
    created(cloud, labels={"test": "other"})
    found = TrainingJobHook().list_jobs(PROJECT, REGION, CUSTOM_JOBS, 'labels.test="list"')
    assert {ResourceName.parse(job.name).id for job in found} == names


@pytest.mark.parametrize("way", ["sync", "async"])
def test_a_job_is_cancelled(cloud: Cloud, way: str) -> None:
    """Cancelling ends a running job, and cancelling what has ended changes nothing."""
    name = created(cloud, "import time; time.sleep(600)")
    job = TrainingJobHook().get_job(name)
    cloud.running(job)
    for _ in range(2):
        if way == "sync":
            TrainingJobHook().cancel_job(name)
        else:
            from_the_loop(lambda loop: loop.cancel_job(name))
        ended = cloud.ended(job)
        assert ended.state == JobState.JOB_STATE_CANCELLED
    assert job_snapshot(ended)["error_code"] == 1


def test_a_page_of_jobs_is_what_each_of_them_is_like(cloud: Cloud) -> None:
    """Jobs that are read together look as those that are read alone, though only what is needed is sent."""
    names = {created(cloud, labels={"test": "page"}).id for _ in range(3)}
    for name in names:
        cloud.ended(TrainingJobHook().get_job(ResourceName(PROJECT, REGION, "customJobs", name)))

    async def both(loop: TrainingJobAsyncHook) -> tuple[list[Any], list[Any], str]:
        page, token = await loop.snapshot_page(PROJECT, REGION, CUSTOM_JOBS, 'labels.test="page"', "")
        alone = [await loop.snapshot(ResourceName.parse(job["job"])) for job in page]
        return list(page), alone, token

    page, alone, token = from_the_loop(both)
    assert page == alone
    assert {ResourceName.parse(job["job"]).id for job in page} == names
    assert token == ""


def test_a_job_that_is_not_there() -> None:
    """A job that nobody created is an error of its own kind, in both hooks."""
    name = ResourceName(PROJECT, REGION, "customJobs", "1")
    with pytest.raises(NotFound):
        TrainingJobHook().get_job(name)
    with pytest.raises(NotFound):
        from_the_loop(lambda loop: loop.snapshot(name))


def test_a_request_that_is_refused(cloud: Cloud) -> None:
    """The service's refusal reaches the caller with its text."""
    wrong = body(cloud)
    wrong["display_name"] = ""
    with pytest.raises(InvalidArgument, match="display_name"):
        TrainingJobHook().create_job(PROJECT, REGION, CUSTOM_JOBS, wrong)


def ended_snapshot(cloud: Cloud, code: str, **spec: Any) -> tuple[Any, CustomJob]:
    """Return the snapshot of a job that has ended, and the job."""
    name = created(cloud, code, **spec)
    cloud.ended(TrainingJobHook().get_job(name))
    job = TrainingJobHook().get_job(name)
    return job_snapshot(job), job


def test_the_snapshot_of_a_job_that_succeeded(cloud: Cloud) -> None:
    """A snapshot holds plain values: names, times as text, seconds, and null for what is not set."""
    cloud.resource("snapshot")
    snapshot, job = ended_snapshot(
        cloud,
        "pass",
        persistent_resource_id="snapshot",
        base_output_directory={"output_uri_prefix": f"gs://{cloud.BUCKET}/out"},
        scheduling={"timeout": "90.5s", "strategy": "STANDARD"},
    )
    assert json.loads(json.dumps(snapshot)) == snapshot
    times = [snapshot.pop(field) for field in ("create_time", "start_time", "end_time")]
    assert times == sorted(times)
    assert all(time.endswith("+00:00") for time in times)
    assert snapshot == {
        "job": job.name,
        "state": "JOB_STATE_SUCCEEDED",
        "persistent_resource_id": "snapshot",
        "strategy": "STANDARD",
        "output_dir": f"gs://{cloud.BUCKET}/out",
        "max_run_seconds": 90.5,
        "max_wait_seconds": None,
        "error_code": 0,
        "error_message": "",
    }


def test_the_snapshot_of_a_job_that_failed(cloud: Cloud) -> None:
    """The error's code and text are there, and nothing that the job was given."""
    secret = "print('h1dden'); raise SystemExit(3)"
    snapshot, _ = ended_snapshot(cloud, secret)
    assert snapshot["state"] == "JOB_STATE_FAILED"
    assert snapshot["error_code"] != 0
    assert "exited with a non-zero status of 3" in snapshot["error_message"]
    for field in ("persistent_resource_id", "strategy", "output_dir", "max_run_seconds"):
        assert snapshot[field] is None
    assert "SystemExit(3)" not in json.dumps({**snapshot, "error_message": ""})


def test_the_snapshot_of_a_job_that_was_just_created(cloud: Cloud) -> None:
    """Times that are not there yet are null."""
    snapshot = job_snapshot(TrainingJobHook().create_job(PROJECT, REGION, CUSTOM_JOBS, body(cloud)))
    assert snapshot["create_time"] is not None
    assert snapshot["start_time"] is None
    assert snapshot["end_time"] is None


@pytest.mark.parametrize(
    ("method", "limit"),
    [
        ("CreateCustomJob", 60.0),
        ("GetCustomJob", 30.0),
        ("ListCustomJobs", 30.0),
        ("CancelCustomJob", 30.0),
    ],
)
def test_every_call_has_a_deadline(cloud: Cloud, relay: Relay, method: str, limit: float) -> None:
    """No call can hang for ever, in either hook."""
    name = created(cloud)
    hook = TrainingJobHook()
    hook.get_job(name)
    list(hook.list_jobs(PROJECT, REGION, CUSTOM_JOBS, ""))
    hook.cancel_job(name)
    from_the_loop(lambda loop: loop.snapshot(name))
    from_the_loop(lambda loop: loop.cancel_job(name))
    deadlines = relay.deadlines(method)
    assert len(deadlines) == (1 if method in {"CreateCustomJob", "ListCustomJobs"} else 2)
    assert [seconds for seconds in deadlines if seconds is None or not 0 < seconds < limit + 1] == []


def test_reading_and_cancelling_are_repeated(cloud: Cloud, relay: Relay) -> None:
    """A call that may be repeated is, when the service is away for a moment."""
    name = created(cloud)
    hook = TrainingJobHook()
    calls: dict[str, Callable[[], object]] = {
        "GetCustomJob": lambda: hook.get_job(name),
        "ListCustomJobs": lambda: list(hook.list_jobs(PROJECT, REGION, CUSTOM_JOBS, "")),
        "CancelCustomJob": lambda: hook.cancel_job(name),
    }
    for method, call in calls.items():
        relay.refuse(method)
        call()
        assert relay.count(method) == 2
    relay.refuse("CancelCustomJob")
    from_the_loop(lambda loop: loop.cancel_job(name))
    assert relay.count("CancelCustomJob") == 4


def test_what_is_not_repeated(cloud: Cloud, relay: Relay) -> None:
    """A create is never sent twice, nor does a watch's look repeat itself."""
    relay.lose_reply("CreateCustomJob")
    with pytest.raises(ServiceUnavailable):
        created(cloud)
    assert relay.count("CreateCustomJob") == 1
    name = created(cloud)
    relay.refuse("GetCustomJob")
    with pytest.raises(ServiceUnavailable):
        from_the_loop(lambda loop: loop.snapshot(name))
    assert relay.count("GetCustomJob") == 1


def test_what_does_not_pass_is_not_repeated(relay: Relay) -> None:
    """A refusal is told at once."""
    name = ResourceName(PROJECT, REGION, "customJobs", "1")
    for code, error in (("PERMISSION_DENIED", "PermissionDeniedError"), ("NOT_FOUND", "NotFound")):
        before = relay.count("GetCustomJob")
        relay.refuse("GetCustomJob", code=code)
        with pytest.raises(Exception, match="away") as caught:
            TrainingJobHook().get_job(name)
        assert type(caught.value).__name__ == error
        assert relay.count("GetCustomJob") == before + 1
