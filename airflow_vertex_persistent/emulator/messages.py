# SPDX-License-Identifier: Apache-2.0
"""Texts of the service, word for word as it has been seen to write them: code that reads them must not care."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import quote

from google.cloud.aiplatform_v1.types import JobState

from . import logs
from .settings import QUOTA_LIMITS, STOCKOUT

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from google.cloud.aiplatform_v1.types import Trial

INTERNAL_ERROR = "Internal error occurred for the current attempt"
CANCELED_BY_USER = "CANCELED"
RESOURCE_GONE = "The persistent resource {id!r} is being deleted or restarted; its jobs are cancelled."
EMULATOR_STOPS = "The emulator was stopped."
JOB_MISSING = "The CustomJob does not exist."
TUNING_JOB_MISSING = "The HyperparameterTuningJob does not exist."
NOT_MEASURED = (
    "The trial has ended without a final measurement: it has reported no finite value of {metrics}."
)
TUNING_JOB_FAILED = "The tuning job has failed; its other trials are cancelled."
STOPPED_EARLY = "The trial was stopped early."
RESOURCE_MISSING = "The PersistentResource does not exist."
RESOURCE_EXISTS = (
    'There is an existing PersistentResource with the same ID "{id}" created or being created. '
    "Please use a different ID."
)
RESOURCE_BEING_CREATED = (
    'PersistentResource "{id}" is being created thus can not be deleted now. '
    "Please try again later after it's active."
)
UPDATE_RAY_ONLY = "Currently we only support the update function on Ray cluster"

CREATE_STARTED = "Create PersistentResource request received. Checking project configuration and quota..."
CREATE_DONE = "Your persistent resource is ready."
UPDATE_STARTED = "Updating the persistent resource."
UPDATE_DONE = "Your persistent resource is updated."
REBOOT_STARTED = "Waiting for persistent resource shut down."

END_OF_JOB = {
    JobState.JOB_STATE_SUCCEEDED: logs.SUCCEEDED,
    JobState.JOB_STATE_FAILED: logs.FAILED,
    JobState.JOB_STATE_CANCELLED: logs.CANCELLED,
    JobState.JOB_STATE_EXPIRED: logs.EXPIRED,
}


def log_link(project: str, job_id: str) -> str:
    """
    The sentence with the console's log page that ends a job's error text.

    :param project: project number.
    """
    advanced = quote(f'resource.type="ml_job"\nresource.labels.job_id="{job_id}"', safe="")
    return (
        "To find out more about why your job exited please check the logs: "
        f"https://console.cloud.google.com/logs/viewer?project={project}"
        f"&resource=ml_job%2Fjob_id%2F{job_id}&advancedFilter={advanced}"
    )


def replicas_failed(names: Sequence[str], code: int, traceback: str, link: str) -> str:
    """
    Error text of a job whose training code failed.

    :param names: replicas that failed, e.g. ``workerpool0-0``.
    :param traceback: end of the training code's traceback, may be empty.
    """
    who = f"The replica {names[0]}" if len(names) == 1 else f"The replicas {', '.join(names)}"
    reason = f"{who} exited with a non-zero status of {code}. Termination reason: Error."
    return " ".join([reason, *([f"\n{traceback}\n"] if traceback else []), link])


def timed_out(seconds: float) -> str:
    """Why a job ended that ran longer than its scheduling.timeout."""
    return f"The job exceeded its timeout of {seconds:g} seconds."


def resource_busy(resource_id: str) -> str:
    """Why a job is not run on a busy persistent resource."""
    return f'Resources are insufficient in persistent resource "{resource_id}": other jobs use its machines.'


def stockout(region: str) -> str:
    """Why a job has no machines."""
    return STOCKOUT.replace("{region}", region)


def wait_expired(region: str, seconds: float) -> str:
    """Why a Flex Start job has ended that waited longer than its max_wait_duration."""
    return (
        f"Resources are insufficient in region: {region}. "
        f"The job was not scheduled within its max_wait_duration of {seconds:g} seconds."
    )


def quota_limits(metrics: Iterable[str]) -> str:
    """Why a job is refused that needs more than its project may ever use."""
    return QUOTA_LIMITS.format(metrics=",".join(f"aiplatform.googleapis.com/{metric}" for metric in metrics))


def waits_for_quota(metric: str, limit: int, in_use: int) -> str:
    """What the log of a job says that is QUEUED; this is the emulator's own text."""
    return f"Waiting for quota: {in_use} of {limit} GPUs are in use of aiplatform.googleapis.com/{metric}"


def resource_quota(metrics: Iterable[str]) -> str:
    """Why a persistent resource has no machines that needs more than its project may use; metrics in another form."""
    names = (
        metric.removeprefix("custom_model_training_nvidia_").removesuffix("_gpus").replace("_", "").upper()
        for metric in metrics
    )
    quotas = ", ".join(f"CustomModelTraining{name}GPUsPerProjectPerRegion" for name in names)
    return f"The following quotas are exceeded: {quotas}"


def too_many_failed_trials(trial: Trial, limit: int) -> str:
    """
    Why a tuning job has failed with a trial; the text on the first failure is that of the service before Vertex AI.

    :param limit: how many failed trials end the job, 0 when the service decides.
    """
    parameters = "".join(f"{one.parameter_id}={one.value}, " for one in trial.parameters)
    reason = (
        f"As many trials have failed as max_failed_trial_count says, {limit}. The last was trial #{trial.id}, which"
        if limit
        else f"Hyperparameter Tuning Trial #{trial.id} Failed before any other successful trials were completed. "
        "The failed trial"
    )
    return f"{reason} had parameters: {parameters}. The trial's error message was: {trial.infeasible_reason}"
