# SPDX-License-Identifier: Apache-2.0
"""Faults that a test orders, as the real clients meet them, and the record of calls."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from google.api_core import exceptions
from google.cloud.aiplatform_v1.types import CustomJob, JobState, PersistentResource

from airflow_vertex_persistent.emulator import EmulatorControl

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.contract.conftest import Cloud

PARENT = "projects/demo-project/locations/europe-west4"
STOCKOUT = "Resources are insufficient in region: europe-west4."
SLEEP = "import time; time.sleep(600)"


@pytest.fixture
def control(cloud: Cloud) -> Iterator[EmulatorControl]:
    """The emulator's control, with no faults and no calls before the test and no faults after it."""
    control = cloud.emulator.control
    control.clear_faults()
    control.reset_calls()
    yield control
    control.clear_faults()


def names(cloud: Cloud) -> set[str]:
    """Names of all jobs."""
    return {job.name for job in cloud.jobs.list_custom_jobs(parent=cloud.PARENT)}


def create(cloud: Cloud, **options: Any) -> CustomJob:
    """Create a job without the client's own retries."""
    job = CustomJob(cloud.job(cloud.pool("print('hello')")))
    return cloud.jobs.create_custom_job(parent=cloud.PARENT, custom_job=job, retry=None, **options)


@pytest.mark.parametrize(
    ("kind", "error", "words"),
    [
        ("unavailable", exceptions.ServiceUnavailable, "currently unavailable"),
        ("deadline_exceeded", exceptions.DeadlineExceeded, "Deadline expired"),
        ("internal", exceptions.InternalServerError, "Internal error"),
        ("rate_limit", exceptions.ResourceExhausted, "requests per minute"),
        ("quota", exceptions.ResourceExhausted, "The following quota metrics exceed quota limits: "),
        (
            "permission_denied",
            exceptions.PermissionDenied,
            "Permission 'aiplatform.customJobs.create' denied",
        ),
    ],
)
def test_a_refused_call_does_not_happen(
    cloud: Cloud, control: EmulatorControl, kind: str, error: type[Exception], words: str
) -> None:
    """The client raises what it raises for the service's status, nothing is created, the next call goes well."""
    before = names(cloud)
    control.add_fault("CreateCustomJob", kind)
    with pytest.raises(error, match=words):
        create(cloud)
    assert names(cloud) == before
    job = create(cloud)
    assert names(cloud) - before == {job.name}


JOB, NIGHTLY = f"{PARENT}/customJobs/1", f"{PARENT}/persistentResources/nightly"


@pytest.mark.parametrize(
    ("method", "fields", "permission"),
    [
        ("create_custom_job", {"parent": PARENT, "custom_job": {}}, "customJobs.create"),
        ("get_custom_job", {"name": JOB}, "customJobs.get"),
        ("list_custom_jobs", {"parent": PARENT}, "customJobs.list"),
        ("cancel_custom_job", {"name": JOB}, "customJobs.cancel"),
        ("delete_custom_job", {"name": JOB}, "customJobs.delete"),
        (
            "create_persistent_resource",
            {"parent": PARENT, "persistent_resource": {"name": "nightly"}},
            "persistentResources.create",
        ),
        ("get_persistent_resource", {"name": NIGHTLY}, "persistentResources.get"),
        ("list_persistent_resources", {"parent": PARENT}, "persistentResources.list"),
        (
            "update_persistent_resource",
            {"persistent_resource": {"name": NIGHTLY}},
            "persistentResources.update",
        ),
        ("reboot_persistent_resource", {"name": NIGHTLY}, "persistentResources.update"),
        ("delete_persistent_resource", {"name": NIGHTLY}, "persistentResources.delete"),
    ],
)
def test_a_denial_reads_like_the_services(
    cloud: Cloud, control: EmulatorControl, method: str, fields: dict[str, Any], permission: str
) -> None:
    """It names the permission of the call, and the thing, or its place, as the caller named it."""
    control.add_fault(method.title().replace("_", ""), "permission_denied")
    client = cloud.jobs if hasattr(cloud.jobs, method) else cloud.resources
    with pytest.raises(exceptions.PermissionDenied) as caught:
        getattr(client, method)(fields)
    about = PARENT if "parent" in fields else NIGHTLY if "persistent" in method else JOB
    assert caught.value.message == (
        f"Permission 'aiplatform.{permission}' denied on resource '//aiplatform.googleapis.com/{about}' "
        "(or it may not exist)."
    )


def test_a_text_of_ones_own(cloud: Cloud, control: EmulatorControl) -> None:
    """Replaces the service's."""
    control.add_fault("GetCustomJob", "internal", text="{resource} is broken on purpose")
    with pytest.raises(exceptions.InternalServerError, match=r"projects/.*/1 is broken on purpose$"):
        cloud.jobs.get_custom_job(name=f"{cloud.PARENT}/customJobs/1")


def test_a_lost_reply_leaves_the_job(cloud: Cloud, control: EmulatorControl) -> None:
    """The caller is told UNAVAILABLE, and the job exists."""
    before = names(cloud)
    control.add_fault("CreateCustomJob", "lost_reply")
    with pytest.raises(exceptions.ServiceUnavailable):
        create(cloud)
    assert len(names(cloud) - before) == 1


def test_a_refusal_can_be_lost_as_well(cloud: Cloud, control: EmulatorControl) -> None:
    """The caller cannot tell it from a lost success."""
    control.add_fault("GetCustomJob", "lost_reply", text="gone")
    with pytest.raises(exceptions.ServiceUnavailable, match="gone"):
        cloud.jobs.get_custom_job(name=f"{cloud.PARENT}/customJobs/1", retry=None)


def test_slow_calls_take_their_time(cloud: Cloud, control: EmulatorControl) -> None:
    """A patient caller gets its answer after the wait."""
    control.add_fault("CreateCustomJob", "slow_request", seconds=0.3)
    control.add_fault("CreateCustomJob", "slow_reply", seconds=0.3)
    for _ in range(2):
        start = time.monotonic()
        job = create(cloud)
        assert time.monotonic() - start >= 0.3
        assert job.name in names(cloud)


def test_a_slow_reply_has_happened(cloud: Cloud, control: EmulatorControl) -> None:
    """A caller that does not wait for the reply leaves a job behind."""
    before = names(cloud)
    control.add_fault("CreateCustomJob", "slow_reply", seconds=60)
    with pytest.raises(exceptions.DeadlineExceeded):
        create(cloud, timeout=1)
    assert len(names(cloud) - before) == 1


def test_a_slow_request_without_its_caller_never_happens(cloud: Cloud, control: EmulatorControl) -> None:
    """A caller that has gone before the wait is over leaves nothing behind."""
    before = names(cloud)
    control.add_fault("CreateCustomJob", "slow_request", seconds=1)
    with pytest.raises(exceptions.DeadlineExceeded):
        create(cloud, timeout=0.2)
    # A slow call that began later ends later: by then the first one's wait is over.
    control.add_fault("GetCustomJob", "slow_request", seconds=1)
    with pytest.raises(exceptions.NotFound):
        cloud.jobs.get_custom_job(name=f"{cloud.PARENT}/customJobs/1", retry=None)
    assert names(cloud) == before


def test_a_job_without_machines_fails(cloud: Cloud, control: EmulatorControl) -> None:
    """It is created, never runs, and its error has the service's text for the region."""
    control.add_fault("CreateCustomJob", "stockout")
    job = cloud.create(cloud.job(cloud.pool("print('hello')")))
    assert job.state == JobState.JOB_STATE_PENDING
    job = cloud.ended(job)
    assert job.state == JobState.JOB_STATE_FAILED
    assert job.error.message.startswith(STOCKOUT)
    assert "start_time" not in job
    assert cloud.log(job) == []


def test_a_persistent_resource_without_machines_fails(cloud: Cloud, control: EmulatorControl) -> None:
    """It ends in ERROR with the service's text; its name can be used again after a delete."""
    control.add_fault("CreatePersistentResource", "stockout")
    resource = cloud.resource("no-machines")
    assert resource.state == PersistentResource.State.ERROR
    assert resource.error.message.startswith(STOCKOUT)
    cloud.resources.delete_persistent_resource(name=resource.name).result()


def test_a_job_without_machines_takes_none_of_its_resource(cloud: Cloud, control: EmulatorControl) -> None:
    """Another job on the persistent resource runs meanwhile."""
    resource = cloud.resource("one-machine")
    control.add_fault("CreateCustomJob", "stockout", text="none in {region}")
    jobs = [
        cloud.create(cloud.job(cloud.pool("print('hello')"), persistent_resource_id="one-machine"))
        for _ in range(2)
    ]
    assert [cloud.ended(job).state for job in jobs] == [
        JobState.JOB_STATE_FAILED,
        JobState.JOB_STATE_SUCCEEDED,
    ]
    assert cloud.get(jobs[0]).error.message == "none in europe-west4"
    cloud.resources.delete_persistent_resource(name=resource.name).result()


def test_an_error_can_come_late(cloud: Cloud, control: EmulatorControl) -> None:
    """The job is FAILED without an error first, and has it some time later."""
    control.add_fault("CreateCustomJob", "late_error", seconds=0.5)
    job = cloud.in_state(
        cloud.create(cloud.job(cloud.pool("raise SystemExit(3)"))), JobState.JOB_STATE_FAILED
    )
    assert "error" not in job
    cloud.wait_for(lambda: "status of 3" in cloud.get(job).error.message, "the error")


def test_faults_can_be_read(cloud: Cloud, control: EmulatorControl) -> None:
    """In order, with what they have done."""
    control.add_fault("GetCustomJob", "unavailable", times=2, skip=1)
    control.add_fault("ListCustomJobs", "slow_reply", seconds=0.5)
    for _ in range(2):
        with pytest.raises((exceptions.NotFound, exceptions.ServiceUnavailable)):
            cloud.jobs.get_custom_job(name=f"{cloud.PARENT}/customJobs/1", retry=None)
    first, second = control.faults()
    assert first == {
        "method": "GetCustomJob",
        "kind": "unavailable",
        "times": 2,
        "skip": 1,
        "seconds": 0,
        "text": "The service is currently unavailable.",
        "passed": 1,
        "used": 1,
    }
    assert [second["method"], second["seconds"], second["used"]] == ["ListCustomJobs", 0.5, 0]


def test_wrong_faults_are_told_at_once(control: EmulatorControl) -> None:
    """With the names that exist."""
    with pytest.raises(ValueError, match=r"'GetJob' is not one of .*GetCustomJob"):
        control.add_fault("GetJob", "unavailable")
    with pytest.raises(ValueError, match=r"'sad' is not one of .*lost_reply"):
        control.add_fault("GetCustomJob", "sad")
    with pytest.raises(ValueError, match=r"times=1\.5 is no whole number"):
        control.add_fault("GetCustomJob", "internal", times=1.5)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="'GetJob' is not one of"):
        control.call_deadlines("GetJob")
    assert control.faults() == []


def test_calls_are_counted(cloud: Cloud, control: EmulatorControl) -> None:
    """Refused ones too, each with its deadline; the control's own calls are not among them."""
    control.add_fault("GetCustomJob", "unavailable")
    for timeout in (5.0, 20.0):
        with pytest.raises((exceptions.NotFound, exceptions.ServiceUnavailable)):
            cloud.jobs.get_custom_job(name=f"{cloud.PARENT}/customJobs/1", retry=None, timeout=timeout)
    counts = control.call_counts()
    assert counts["GetCustomJob"] == 2
    assert counts["CreateCustomJob"] == 0
    assert not {"AddFault", "CountCalls"} & set(counts)
    assert control.call_deadlines("GetCustomJob") == [pytest.approx(5, abs=1), pytest.approx(20, abs=1)]
    control.reset_calls()
    assert control.call_counts()["GetCustomJob"] == 0
    assert control.call_deadlines("GetCustomJob") == []


def test_a_call_without_deadline_has_none(cloud: Cloud, control: EmulatorControl) -> None:
    """It is told from one with a deadline."""
    call = cloud.channel.unary_unary("/google.cloud.aiplatform.v1.JobService/ListCustomJobs", None, None)
    with pytest.raises(grpc.RpcError):
        call(b"")
    assert control.call_deadlines("ListCustomJobs") == [None]


def test_submissions_are_limited(cloud_with: Callable[..., Cloud]) -> None:
    """Creates and deletes of jobs above the limit are too many for this minute; other calls go on."""
    cloud = cloud_with(submissions_per_minute=2)
    job = cloud.ended(create(cloud))
    cloud.jobs.delete_custom_job(name=job.name).result()
    with pytest.raises(exceptions.ResourceExhausted, match="requests per minute"):
        create(cloud)
    assert names(cloud) == set()


def test_a_control_without_emulator_says_so() -> None:
    """With the address, and how to start one."""
    with EmulatorControl("127.0.0.1:1") as control, pytest.raises(OSError, match="no emulator answers"):
        control.faults()
