# SPDX-License-Identifier: Apache-2.0
"""Custom jobs through the real client: their life, names and errors."""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from google.api_core import exceptions
from google.cloud.aiplatform_v1.services.job_service import JobServiceAsyncClient
from google.cloud.aiplatform_v1.services.job_service.transports.grpc_asyncio import (
    JobServiceGrpcAsyncIOTransport,
)
from google.cloud.aiplatform_v1.types import CustomJob, JobState

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.contract.conftest import Cloud

SLEEP = "import time; print('up'); time.sleep(600)"


def test_a_job_runs_and_succeeds(cloud: Cloud) -> None:
    """A job is PENDING when created, really runs its code, and has all its times when it has succeeded."""
    job = cloud.create(cloud.job(cloud.pool("print('trained')"), labels={"team": "iris"}))
    assert job.state == JobState.JOB_STATE_PENDING
    assert "start_time" not in job
    ended = cloud.ended(job)
    assert ended.state == JobState.JOB_STATE_SUCCEEDED
    raw = CustomJob.pb(ended)
    times = [raw.create_time, raw.start_time, raw.end_time, raw.update_time]
    assert times == sorted(times, key=lambda time: time.ToNanoseconds())
    assert all(time.seconds for time in times)
    assert "error" not in ended
    assert dict(ended.labels) == {"team": "iris"}
    assert cloud.log(job) == ["trained"]


def test_names_carry_the_project_number(cloud: Cloud) -> None:
    """Id and number of a project mean the same, answers always hold the number, job ids are numeric."""
    job = cloud.create(cloud.job(cloud.pool("")))
    match = re.fullmatch(r"projects/(\d{12})/locations/europe-west4/customJobs/(\d+)", job.name)
    assert match
    by_id = cloud.jobs.get_custom_job(name=f"{cloud.PARENT}/customJobs/{match[2]}")
    assert by_id.name == job.name
    again = cloud.create(cloud.job(cloud.pool("")), parent=f"projects/{match[1]}/locations/europe-west4")
    assert again.name.startswith(f"projects/{match[1]}/")
    cloud.ended(job)
    cloud.ended(again)


def test_the_image_says_what_runs(cloud: Cloud) -> None:
    """Without command and args the Dockerfile's ENTRYPOINT and CMD run; args replace CMD alone."""
    assert cloud.log(cloud.run(cloud.pool())) == ["arguments: from-cmd"]
    with_args = cloud.pool(container_spec={"image_uri": cloud.IMAGE, "args": ["--epochs", "3"]})
    assert cloud.log(cloud.run(with_args)) == ["arguments: --epochs 3"]


def test_a_command_replaces_entrypoint_and_cmd(cloud: Cloud) -> None:
    """With a command, the Dockerfile's CMD is not added to it."""
    job = cloud.run(cloud.pool("import sys; print(sys.argv)"))
    assert cloud.log(job) == ["['-c']"]


def test_training_code_that_fails_fails_the_job(cloud: Cloud) -> None:
    """The error names replica, exit status, end of the traceback and the log page; its code is 3."""
    job = cloud.run(cloud.pool("raise ValueError('no data')"))
    assert job.state == JobState.JOB_STATE_FAILED
    assert job.error.code == 3
    number, job_id = job.name.split("/")[1], job.name.split("/")[-1]
    assert job.error.message.startswith(
        "The replica workerpool0-0 exited with a non-zero status of 1. Termination reason: Error. "
    )
    assert "ValueError: no data" in job.error.message
    assert job.error.message.endswith(
        "To find out more about why your job exited please check the logs: "
        f"https://console.cloud.google.com/logs/viewer?project={number}&resource=ml_job%2Fjob_id%2F{job_id}"
        "&advancedFilter=resource.type%3D%22ml_job%22%0Aresource.labels.job_id%3D%22" + job_id + "%22"
    )


def test_an_unknown_image_fails_the_job(cloud: Cloud) -> None:
    """A missing image is the job's failure, and the log says how to map it."""
    job = cloud.run(cloud.pool(container_spec={"image_uri": "nowhere/no-image:1"}))
    assert job.state == JobState.JOB_STATE_FAILED
    assert "'nowhere/no-image:1'" in job.error.message
    assert "start_time" not in job
    assert any("--image nowhere/no-image:1=FOLDER" in line for line in cloud.log(job, "service"))


def test_a_command_that_does_not_exist_fails_the_job(cloud: Cloud) -> None:
    """Status 127 as in a shell, and the log names the command."""
    job = cloud.run(cloud.pool(container_spec={"image_uri": cloud.IMAGE, "command": ["no-such-program"]}))
    assert job.state == JobState.JOB_STATE_FAILED
    assert "non-zero status of 127" in job.error.message
    assert "no-such-program" in cloud.log(job)[0]


@pytest.mark.parametrize("number", [6, 11])
def test_aborts_and_segfaults_are_retried(cloud: Cloud, number: int) -> None:
    """A job whose replica dies of SIGABRT or SIGSEGV is run four times in all, then it fails."""
    job = cloud.run(cloud.pool(f"import os; print('try'); os.kill(os.getpid(), {number})"))
    assert job.state == JobState.JOB_STATE_FAILED
    assert cloud.log(job) == ["try"] * 4
    assert f"non-zero status of {128 + number}" in job.error.message


def test_disable_retries_is_obeyed(cloud: Cloud) -> None:
    """With disable_retries a job is run once."""
    job = cloud.run(cloud.pool("import os; print('try'); os.abort()"), scheduling={"disable_retries": True})
    assert cloud.log(job)[0] == "try"
    assert cloud.log(job).count("try") == 1
    assert job.state == JobState.JOB_STATE_FAILED


def test_a_retry_can_succeed(cloud: Cloud) -> None:
    """A job that aborts once and then works has succeeded."""
    code = """
import os, pathlib
flag = pathlib.Path(os.environ["HOME"], os.environ["CLOUD_ML_JOB_ID"])
if not flag.exists():
    flag.touch()
    os.abort()
"""
    assert cloud.run(cloud.pool(code)).state == JobState.JOB_STATE_SUCCEEDED


def test_a_cancelled_job_has_error_code_1(cloud: Cloud) -> None:
    """Cancelling ends a running job as CANCELLED with code 1."""
    job = cloud.create(cloud.job(cloud.pool(SLEEP)))
    cloud.running(job)
    ended = cloud.stop(job)
    assert ended.state == JobState.JOB_STATE_CANCELLED
    assert ended.error.code == 1
    assert ended.end_time


def test_a_pending_job_can_be_cancelled(cloud: Cloud) -> None:
    """A job that has not started ends as CANCELLED and never starts."""
    job = cloud.create(cloud.job(cloud.pool(SLEEP)))
    ended = cloud.stop(job)
    assert ended.state == JobState.JOB_STATE_CANCELLED
    assert "start_time" not in ended
    assert cloud.log(job) == []


def test_cancelling_a_finished_job_does_nothing(cloud: Cloud) -> None:
    """A finished job stays what it is."""
    job = cloud.run(cloud.pool(""))
    cloud.jobs.cancel_custom_job(name=job.name)
    assert cloud.get(job) == job


def test_a_job_that_runs_too_long_is_ended(cloud: Cloud) -> None:
    """scheduling.timeout ends a running job; by default it is CANCELLED then."""
    job = cloud.run(cloud.pool(SLEEP), scheduling={"timeout": "1s"})
    assert job.state == JobState.JOB_STATE_CANCELLED
    assert job.error.message == "The job exceeded its timeout of 1 seconds."


def test_only_ended_jobs_are_deleted(cloud: Cloud) -> None:
    """Deleting a running job is refused; afterwards it works and the job is gone."""
    job = cloud.create(cloud.job(cloud.pool(SLEEP)))
    with pytest.raises(exceptions.FailedPrecondition, match="cancel it"):
        cloud.jobs.delete_custom_job(name=job.name)
    cloud.stop(job)
    cloud.jobs.delete_custom_job(name=job.name).result(timeout=10)
    with pytest.raises(exceptions.NotFound, match="The CustomJob does not exist"):
        cloud.get(job)


def test_what_was_asked_for_comes_back(cloud: Cloud) -> None:
    """Fields that change nothing here are kept and returned."""
    spec: dict[str, Any] = {
        "service_account": "trainer@demo-project.iam.gserviceaccount.com",
        "network": "projects/123456789012/global/networks/default",
        "enable_web_access": True,
        "reserved_ip_ranges": ["range"],
        "scheduling": {"restart_job_on_worker_restart": True, "timeout": "3600s"},
    }
    job = cloud.create(cloud.job(cloud.pool(""), **spec))
    asked = CustomJob(cloud.job(cloud.pool(""), **spec))
    assert job.job_spec == asked.job_spec
    cloud.ended(job)


def test_python_packages_answer_unimplemented(cloud: Cloud) -> None:
    """A python_package_spec is refused clearly."""
    pool = {
        "machine_spec": {"machine_type": "n1-standard-4"},
        "replica_count": 1,
        "python_package_spec": {"executor_image_uri": "image", "python_module": "trainer.task"},
    }
    with pytest.raises(exceptions.MethodNotImplemented, match="python_package_spec"):
        cloud.create(cloud.job(pool))


def test_the_async_client_works_too(cloud: Cloud) -> None:
    """The asyncio client, on a loop of its own, sees the same service."""

    async def story() -> Any:
        async with grpc.aio.insecure_channel(cloud.emulator.address) as channel:
            client = JobServiceAsyncClient(transport=JobServiceGrpcAsyncIOTransport(channel=channel))
            job = await client.create_custom_job(
                parent=cloud.PARENT, custom_job=CustomJob(cloud.job(cloud.pool("print(1)")))
            )
            async with asyncio.timeout(30):
                while job.state in (JobState.JOB_STATE_PENDING, JobState.JOB_STATE_RUNNING):
                    await asyncio.sleep(0.02)
                    job = await client.get_custom_job(name=job.name)
            return job.state

    assert asyncio.run(story()) == JobState.JOB_STATE_SUCCEEDED


def test_the_end_of_a_timed_out_job_is_a_setting(cloud_with: Callable[..., Cloud]) -> None:
    """timeout_state="failed" ends it as FAILED with DEADLINE_EXCEEDED; late errors come later."""
    cloud = cloud_with(timeout_state="failed", error_delay_seconds=1.0, cancel_finished="refuse")
    job = cloud.run(cloud.pool(SLEEP), scheduling={"timeout": "1s"})
    assert job.state == JobState.JOB_STATE_FAILED
    assert not job.error.message
    late = cloud.wait_for(lambda: now if (now := cloud.get(job)).error.message else None)
    assert late.error.code == 4
    assert late.end_time == job.end_time
    with pytest.raises(exceptions.FailedPrecondition):
        cloud.jobs.cancel_custom_job(name=job.name)
