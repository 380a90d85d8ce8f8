# SPDX-License-Identifier: Apache-2.0
"""Which state may follow which, and what changes with it. Pure: time comes in, a changed copy goes out."""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, TypeVar

from google.cloud.aiplatform_v1.types import (
    CustomJob,
    HyperparameterTuningJob,
    JobState,
    PersistentResource,
)

if TYPE_CHECKING:
    from datetime import datetime

    from google.rpc.status_pb2 import Status

ResourceState = PersistentResource.State
Job = TypeVar("Job", CustomJob, HyperparameterTuningJob)

WAITING = frozenset({JobState.JOB_STATE_QUEUED, JobState.JOB_STATE_PENDING})
_AFTER_WORK = {JobState.JOB_STATE_SUCCEEDED, JobState.JOB_STATE_FAILED, JobState.JOB_STATE_CANCELLED}
ENDED = frozenset({*_AFTER_WORK, JobState.JOB_STATE_EXPIRED})
_BEFORE_WORK = {
    JobState.JOB_STATE_CANCELLING,
    JobState.JOB_STATE_FAILED,
    JobState.JOB_STATE_CANCELLED,
    JobState.JOB_STATE_EXPIRED,
}
_JOB_MOVES = {
    JobState.JOB_STATE_QUEUED: {JobState.JOB_STATE_PENDING, *_BEFORE_WORK},
    JobState.JOB_STATE_PENDING: {JobState.JOB_STATE_QUEUED, JobState.JOB_STATE_RUNNING, *_BEFORE_WORK},
    # A preempted job waits again.
    JobState.JOB_STATE_RUNNING: {JobState.JOB_STATE_PENDING, JobState.JOB_STATE_CANCELLING, *_AFTER_WORK},
    JobState.JOB_STATE_CANCELLING: _AFTER_WORK,
}
_RESOURCE_MOVES = {
    ResourceState.PROVISIONING: {ResourceState.RUNNING, ResourceState.ERROR},
    ResourceState.RUNNING: {
        ResourceState.REBOOTING,
        ResourceState.UPDATING,
        ResourceState.STOPPING,
        ResourceState.ERROR,
    },
    ResourceState.UPDATING: {ResourceState.RUNNING, ResourceState.STOPPING},
    ResourceState.REBOOTING: {ResourceState.RUNNING, ResourceState.ERROR},
    ResourceState.ERROR: {ResourceState.REBOOTING, ResourceState.STOPPING},
}
_WITH_ERROR = {ResourceState.STOPPING, ResourceState.ERROR}
_JOB_OUTPUT = ("start_time", "end_time", "error", "satisfies_pzs", "satisfies_pzi")
_OUTPUT_OF_KIND = {CustomJob: ("web_access_uris",), HyperparameterTuningJob: ("trials",)}
# SIGABRT and SIGSEGV, as the process reports them and as a shell does (128 + signal).
_RETRIED_EXIT_CODES = frozenset({6, 134, 11, 139})


class IllegalMoveError(Exception):
    """The emulator itself asked for a state that cannot follow: a bug of ours, never a caller's."""


class Verdict(enum.Enum):
    """What follows from a replica's non-zero exit."""

    RETRY = enum.auto()
    FAIL = enum.auto()


def job_created(job: Job, name: str, now: datetime) -> Job:
    """
    Accept a job: what only the service may say is cleared and filled.

    :param job: the job as requested.
    :param name: its full resource name.
    """
    accepted = type(job)(job)
    raw = type(job).pb(accepted)
    for field in (*_JOB_OUTPUT, *_OUTPUT_OF_KIND[type(job)]):
        raw.ClearField(field)
    raw.name = name
    raw.state = JobState.JOB_STATE_PENDING
    raw.create_time.FromDatetime(now)
    raw.update_time.FromDatetime(now)
    return accepted


def job_moved(job: Job, state: int, now: datetime, error: Status | None = None) -> Job:
    """
    Move a job to its next state.

    :param error: kept only where the service has one: FAILED and CANCELLED.
    :raises IllegalMoveError: when the state cannot follow.
    """
    if state not in _JOB_MOVES.get(job.state, ()):
        raise IllegalMoveError(f"{job.name}: {job.state.name} -> {JobState(state).name}")
    moved = type(job)(job)
    raw = type(job).pb(moved)
    raw.state = state
    raw.update_time.FromDatetime(now)
    if state == JobState.JOB_STATE_RUNNING and not raw.HasField("start_time"):  # the first time counts
        raw.start_time.FromDatetime(now)
    if state in ENDED:
        raw.end_time.FromDatetime(now)
    if error is not None and state in {JobState.JOB_STATE_FAILED, JobState.JOB_STATE_CANCELLED}:
        raw.error.CopyFrom(error)
    return moved


def job_explained(job: Job, error: Status, now: datetime) -> Job:
    """Fill the error of a failed job some time after its state, as the service does."""
    explained = type(job)(job)
    raw = type(job).pb(explained)
    raw.error.CopyFrom(error)
    raw.update_time.FromDatetime(now)
    return explained


def verdict(exit_code: int, retries: int, max_retries: int, *, disable_retries: bool) -> Verdict:
    """
    Decide what a replica's exit means for its job.

    A plain exit code is the training code's own error and permanent; SIGABRT and SIGSEGV are worth another run.

    :param exit_code: 1 to 255; a signal counts as 128 + its number.
    :param retries: how often the job was run again already.
    """
    if disable_retries or retries >= max_retries or exit_code not in _RETRIED_EXIT_CODES:
        return Verdict.FAIL
    return Verdict.RETRY


def resource_created(resource: PersistentResource, name: str, now: datetime) -> PersistentResource:
    """
    Accept a persistent resource: what only the service may say is cleared and filled.

    :param resource: as requested.
    :param name: its full resource name.
    """
    accepted = PersistentResource(resource)
    raw = PersistentResource.pb(accepted)
    for field in ("start_time", "resource_runtime"):
        raw.ClearField(field)
    raw.name = name
    raw.display_name = resource.display_name or name.rpartition("/")[2]
    raw.state = ResourceState.PROVISIONING
    raw.create_time.FromDatetime(now)
    raw.update_time.FromDatetime(now)
    raw.error.Clear()
    raw.error.SetInParent()  # recorded answers of the service have an empty one even when all is well
    for pool in raw.resource_pools:
        pool.used_replica_count = 0
    return accepted


def resource_moved(
    resource: PersistentResource, state: int, now: datetime, error: Status | None = None
) -> PersistentResource:
    """
    Move a persistent resource to its next state; one that is neither in ERROR nor STOPPING forgets its error.

    :raises IllegalMoveError: when the state cannot follow.
    """
    if state not in _RESOURCE_MOVES.get(resource.state, ()):
        raise IllegalMoveError(f"{resource.name}: {resource.state.name} -> {ResourceState(state).name}")
    moved = PersistentResource(resource)
    raw = PersistentResource.pb(moved)
    raw.state = state
    raw.update_time.FromDatetime(now)
    if state not in _WITH_ERROR:
        raw.error.Clear()
        raw.error.SetInParent()
    if state == ResourceState.RUNNING and not raw.HasField("start_time"):
        raw.start_time.FromDatetime(now)
    if error is not None:
        raw.error.CopyFrom(error)
    return moved
