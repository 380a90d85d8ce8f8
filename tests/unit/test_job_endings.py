# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from airflow_vertex_persistent.endings import failed_replica, job_error, resource_error
from airflow_vertex_persistent.exceptions import (
    CapacityError,
    JobCancelledError,
    JobFailedError,
    JobInterruptedError,
    JobTimedOutError,
    MaxWaitExceededError,
    QuotaExceededError,
)
from airflow_vertex_persistent.names import ResourceName, job_console_url, job_logs_url

if TYPE_CHECKING:
    from airflow_vertex_persistent.states import JobSnapshot

JOB = "projects/123/locations/europe-west4/customJobs/456"
NAME = ResourceName.parse("projects/123/locations/europe-west4/persistentResources/nightly")
QUOTA_AT_CREATE = (
    "The following quota metrics exceed quota limits: "
    "aiplatform.googleapis.com/custom_model_training_nvidia_v100_gpus"
)
QUOTA_OF_RESOURCE = "The following quotas are exceeded: CustomModelTrainingT4GPUsPerProjectPerRegion"
STOCKOUT = "Resources are insufficient in region: R. Try a different region or use a different accelerator."
EXIT_1 = (
    "The replica workerpool0-0 exited with a non-zero status of 1. Termination reason: Error. To find out "
    "more about why your job exited please check the logs"
)


def snapshot(**changes: object) -> JobSnapshot:
    """Return what a look at a failed job says."""
    values: JobSnapshot = {
        "job": JOB,
        "state": "JOB_STATE_FAILED",
        "persistent_resource_id": "nightly",
        "strategy": None,
        "output_dir": None,
        "max_run_seconds": None,
        "max_wait_seconds": None,
        "create_time": "2026-11-22T02:00:00.000+00:00",
        "start_time": "2026-11-22T02:05:00.000+00:00",
        "end_time": "2026-11-22T02:15:00.000+00:00",
        "error_code": 3,
        "error_message": EXIT_1,
    }
    values.update(changes)  # type: ignore[typeddict-item]
    return values


@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        ({}, JobFailedError),
        ({"error_message": "The replica workerpool0-0 ran out of memory and exited."}, JobFailedError),
        ({"error_message": "Internal error occurred for the current attempt"}, JobInterruptedError),
        ({"error_message": "", "error_code": 13}, JobInterruptedError),
        ({"error_message": ""}, JobFailedError),
        ({"state": "JOB_STATE_PARTIALLY_SUCCEEDED"}, JobFailedError),
        ({"error_message": STOCKOUT, "error_code": 3}, CapacityError),
        ({"error_message": "nothing there", "error_code": 8}, CapacityError),
        ({"error_message": QUOTA_AT_CREATE, "error_code": 8}, QuotaExceededError),
        ({"error_message": QUOTA_OF_RESOURCE}, QuotaExceededError),
        ({"state": "JOB_STATE_CANCELLED", "error_code": 1, "error_message": ""}, JobCancelledError),
        ({"max_run_seconds": 600.0}, JobFailedError),
        ({"max_run_seconds": 600.0, "error_message": "The job ran out of time."}, JobTimedOutError),
        ({"max_run_seconds": 600.0, "state": "JOB_STATE_CANCELLED", "error_code": 1}, JobTimedOutError),
        ({"max_run_seconds": 600.0, "state": "JOB_STATE_EXPIRED"}, JobTimedOutError),
        ({"max_run_seconds": 600.0, "error_message": STOCKOUT, "strategy": "SPOT"}, CapacityError),
        ({"max_run_seconds": 600.0, "error_message": "", "error_code": 13}, JobInterruptedError),
        ({"max_run_seconds": 601.0}, JobFailedError),
        ({"max_run_seconds": 601.0, "state": "JOB_STATE_CANCELLED"}, JobCancelledError),
        ({"max_run_seconds": 1.0, "start_time": None}, JobFailedError),
        ({"max_run_seconds": 1.0, "end_time": None, "state": "JOB_STATE_CANCELLED"}, JobCancelledError),
    ],
)
def test_what_ended_a_job(changes: dict[str, object], kind: type[Exception]) -> None:
    """The kind of error follows from the state, the times and the service's documented texts."""
    assert type(job_error(snapshot(**changes))) is kind


def test_the_error_of_a_job_says_everything() -> None:
    """The message holds the job, its state, the service's text, both links and the next step."""
    message, name = str(job_error(snapshot())), ResourceName.parse(JOB)
    for part in (JOB, "JOB_STATE_FAILED", EXIT_1, job_console_url(name), job_logs_url(name), "Next step: "):
        assert part in message
    assert "the service gave no reason" in str(job_error(snapshot(error_message="")))


@pytest.mark.parametrize(
    ("trial", "told"),
    [
        (
            {"state": "JOB_STATE_SUCCEEDED"},
            "have the code report a finite value of loss and accuracy, not NaN",
        ),
        (
            {"max_run_seconds": 600.0, "error_message": "The job ran out of time."},
            "raise max_run_duration: the",
        ),
        ({"max_run_seconds": 600.0, "state": "JOB_STATE_CANCELLED"}, "raise max_run_duration: the trial was"),
        ({}, "read the log of the replica named above"),
    ],
)
def test_what_to_do_about_the_trial_that_failed(trial: dict[str, object], told: str) -> None:
    """Its code failed, it reported nothing that counts, or it was stopped at its limit; others may do better."""
    job = JOB.replace("customJobs", "hyperparameterTuningJobs")
    details = {"trial": snapshot(**trial), "metrics": ["loss", "accuracy"], "no_failure_limit": True}
    fix = str(job_error(snapshot(job=job), details)).partition("Next step: ")[2]
    assert fix.startswith(told)
    assert "set max_failed_trial_count" in fix


def test_the_end_of_the_log_is_in_the_message() -> None:
    """What the failed replica printed last, or why that could not be read, stands between reason and addresses."""
    lines = ["epoch 3", "ValueError: the loss is not a number"]
    message = str(job_error(snapshot(), {"log_lines": lines}))
    assert "Its log ends:\n  epoch 3\n  ValueError: the loss is not a number\nConsole: " in message
    message = str(job_error(snapshot(), {"log_problem": "403 missing logging.logEntries.list"}))
    assert "Its log could not be read: 403 missing logging.logEntries.list\nConsole: " in message
    nothing: list[dict[str, list[str]] | None] = [None, {}, {"log_lines": []}]
    for details in nothing:
        assert "Its log" not in str(job_error(snapshot(), details)).partition("Console: ")[0]


@pytest.mark.parametrize(
    ("text", "replica"),
    [
        ("The replica workerpool0-0 exited with a non-zero status of 1.", "workerpool0-0"),
        ("The replicas workerpool1-12, workerpool1-13 exited with", "workerpool1-12"),
        ("Resources are insufficient in region: europe-west4.", None),
        ("", None),
    ],
)
def test_the_replica_that_failed(text: str, replica: str | None) -> None:
    """The service's text names the replica whose log is worth reading."""
    assert failed_replica(text) == replica


DAY = 24 * 3600


def never_ran(state: str, waited: int, limit: float | None, **changes: object) -> JobSnapshot:
    """Return what a look at a Flex Start job says that has ended without having run."""
    created = datetime(2026, 11, 22, 2, tzinfo=UTC)
    values: dict[str, object] = {
        "state": state,
        "strategy": "FLEX_START",
        "max_wait_seconds": limit,
        "create_time": created.isoformat(),
        "start_time": None,
        "end_time": (created + timedelta(seconds=waited)).isoformat(),
        "error_code": 0,
        "error_message": "",
    }
    return snapshot(**{**values, **changes})


@pytest.mark.parametrize("state", ["JOB_STATE_FAILED", "JOB_STATE_CANCELLED", "JOB_STATE_EXPIRED"])
@pytest.mark.parametrize(
    ("waited", "limit", "in_vain"),
    [
        (1800, 1800.0, True),
        (1799, 1800.0, True),
        (1700, 1800.0, False),
        (DAY, None, True),
        (DAY - 60, None, False),
        (30 * DAY, 0.0, False),
    ],
)
def test_flex_start_that_waited_in_vain(
    state: str, waited: int, limit: float | None, *, in_vain: bool
) -> None:
    """Whatever state the service ends it in, a job that never ran in all its time for that has waited too long."""
    error = job_error(never_ran(state, waited, limit))
    assert isinstance(error, MaxWaitExceededError) is in_vain


@pytest.mark.parametrize(
    ("state", "waited", "text", "kind"),
    [
        ("FAILED", 1800, STOCKOUT, MaxWaitExceededError),
        ("FAILED", 9000, "The job timed out while it waited for machines.", MaxWaitExceededError),
        ("FAILED", 1900, "Image not found: europe-docker.pkg.dev/acme/training/llm:1", JobFailedError),
        ("FAILED", 1900, EXIT_1, JobFailedError),
        ("FAILED", 1900, QUOTA_AT_CREATE, QuotaExceededError),
        ("FAILED", 1900, "Internal error occurred for the current attempt", JobInterruptedError),
        ("EXPIRED", 1800, "The job has expired.", MaxWaitExceededError),
        ("CANCELLED", 1800, STOCKOUT, MaxWaitExceededError),
        ("CANCELLED", 1801, "CANCELED", MaxWaitExceededError),
        ("CANCELLED", 1900, "CANCELED", JobCancelledError),
        ("CANCELLED", 1800, "Cancelled by ann@acme.com.", JobCancelledError),
    ],
)
def test_what_else_ends_a_job_after_its_wait(
    state: str, waited: int, text: str, kind: type[Exception]
) -> None:
    """A job that gets its machines late and fails before it runs has ended for what its text says."""
    job = never_ran(f"JOB_STATE_{state}", waited, 1800.0, error_message=text)
    assert type(job_error(job)) is kind


@pytest.mark.parametrize(("strategy", "told"), [("FLEX_START", True), ("STANDARD", True), (None, False)])
def test_what_to_do_without_machines(strategy: str | None, *, told: bool) -> None:
    """Every lack of machines has one advice; who can name other places and a longer wait is told how."""
    job = snapshot(strategy=strategy, start_time=None, error_message=STOCKOUT)
    texts = [str(job_error(job)).rpartition("Next step: ")[2]]
    if strategy is None:
        texts.append(str(resource_error(NAME, "ERROR", STOCKOUT)).rpartition("; ")[2])
    for text in texts:
        assert text.startswith("try again later, in another region, or with fewer or other machines")
        assert ("(candidates)" in text and "(max_wait_duration)" in text) is told


@pytest.mark.parametrize(("strategy", "told"), [("FLEX_START", True), ("SPOT", True), (None, False)])
def test_whose_quota_it_is(strategy: str | None, *, told: bool) -> None:
    """An error of quota says that Flex Start draws on the preemptible one."""
    text = "The following quota metrics exceed quota limits: aiplatform.googleapis.com/some_gpus"
    error = job_error(snapshot(strategy=strategy, start_time=None, error_message=text))
    assert type(error) is QuotaExceededError
    assert ("'preemptible'" in str(error)) is told
