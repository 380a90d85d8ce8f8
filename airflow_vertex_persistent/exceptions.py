# SPDX-License-Identifier: Apache-2.0
"""
The errors of this package, and what an error of the service means.

.. code-block:: text

    VertexTrainingError
      JobFailedError            the training code failed
        JobTimedOutError        ran longer than max_run_duration
      JobInterruptedError       the service lost its machines
      JobCancelledError         someone or something else cancelled it
      CapacityError             no machines: worth another try
        MaxWaitExceededError    there were none for max_wait_duration
      QuotaExceededError        the project's limit, not the region's stock
      PersistentResourceError   the resource is in ERROR, or gone
      PermissionDeniedError     the caller lacks a permission
      ServiceUnreachableError   no answer for max_outage; the job is left alone
    ValueError
      InvalidRequestError       a wrong request; operators raise it without retries
"""

from __future__ import annotations

import re
from enum import Enum
from typing import TYPE_CHECKING, Any

from airflow_vertex_persistent.names import ResourceName, job_console_url, job_logs_url
from airflow_vertex_persistent.permissions import (
    ACT_AS,
    IMPERSONATE,
    ROLES,
    denied_account,
    denied_permission,
)
from airflow_vertex_persistent.states import (
    FLEX_START,
    SPOT,
    JobPhase,
    job_phase,
    max_wait_seconds,
    running_seconds,
    seconds_between,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from google.api_core.exceptions import GoogleAPICallError

    from airflow_vertex_persistent.states import JobSnapshot


class VertexTrainingError(Exception):
    """Base of everything that can go wrong once a request was good."""


class JobFailedError(VertexTrainingError):
    """The training code failed."""


class JobTimedOutError(JobFailedError):
    """The job ran longer than its ``max_run_duration``."""


class JobInterruptedError(VertexTrainingError):
    """The service could not go on with the job, through no fault of the training code: worth another try."""


class JobCancelledError(VertexTrainingError):
    """The job was cancelled by someone or something else than its task."""


class CapacityError(VertexTrainingError):
    """There were no machines for the job or the persistent resource: worth another try."""


class MaxWaitExceededError(CapacityError):
    """Flex Start, a busy persistent resource, or its creation did not get machines in time."""


class QuotaExceededError(VertexTrainingError):
    """The project's own limit was reached, whatever the region has in stock."""


class PersistentResourceError(VertexTrainingError):
    """The persistent resource is in ERROR, or gone."""


class PermissionDeniedError(VertexTrainingError):
    """The account that calls lacks a permission. The message names it, a role that has it, and the account."""


class ServiceUnreachableError(VertexTrainingError):
    """
    The service gave no answer: for ``max_outage`` while a job was created or a job or resource was watched,
    else for a minute.

    What was there was left alone, unless it was the task's last attempt.
    """


class InvalidRequestError(ValueError):
    """
    A request that the service would refuse, or do something else with than was meant.

    :param subject: What was asked for, for example ``"custom job"``.
    :param problems: One line each: field, value, fix.
    """

    def __init__(self, subject: str, problems: Sequence[str]) -> None:
        count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
        lines = "".join(f"\n  - {problem}" for problem in problems)
        super().__init__(f"The {subject} was not sent, {count}:{lines}")
        self.problems = tuple(problems)


class CallProblem(Enum):
    """What an unsuccessful call to the service means for the caller."""

    TRANSIENT = "passes by itself"
    RATE_LIMITED = "too many calls a minute, this one did nothing"
    EXHAUSTED = "too many calls a minute, or no machines: it does not say, and did nothing"
    CAPACITY = "there are no machines now"
    QUOTA = "the project's quota is used up"
    MISSING = "the thing is not there"
    EXISTS = "the thing is there already"
    NOT_NOW = "the thing is in a state that does not allow it"
    DENIED = "the caller may not"
    REFUSED = "the request is wrong"


_CALL_PROBLEMS = {
    "ABORTED": CallProblem.TRANSIENT,
    "CANCELLED": CallProblem.TRANSIENT,  # a server or proxy that restarts ends its calls so
    "DEADLINE_EXCEEDED": CallProblem.TRANSIENT,
    "INTERNAL": CallProblem.TRANSIENT,
    "UNAVAILABLE": CallProblem.TRANSIENT,
    "UNKNOWN": CallProblem.TRANSIENT,
    "RESOURCE_EXHAUSTED": CallProblem.EXHAUSTED,  # unless the text says what
    "NOT_FOUND": CallProblem.MISSING,
    "ALREADY_EXISTS": CallProblem.EXISTS,
    "FAILED_PRECONDITION": CallProblem.NOT_NOW,
    "PERMISSION_DENIED": CallProblem.DENIED,
    "UNAUTHENTICATED": CallProblem.DENIED,
}

# Jobs are refused with "quota metrics exceed quota limits", persistent resources end with "quotas are
# exceeded". A rate limit also speaks of a quota, but of one "per minute".
_QUOTA_TEXT = re.compile(r"quota metrics exceed|quotas are exceeded", re.IGNORECASE)
_RATE_TEXT = re.compile(r"per minute|rate limit|too many requests", re.IGNORECASE)
_STOCKOUT_TEXT = re.compile(r"resources are insufficient|insufficient resources|stockout", re.IGNORECASE)
_EXIT_TEXT = re.compile(r"exited with a non-zero status")
_INTERRUPTED_TEXT = re.compile(r"internal error", re.IGNORECASE)
_REPLICA_TEXT = re.compile(r"replicas? (workerpool\d+-\d+)")
_RESOURCE_EXHAUSTED, _INTERNAL = 8, 13  # google.rpc.Code
# What the service's end of a wait may differ from the limit.
_CLOCK_SECONDS = 1.0


def call_problem(error: BaseException) -> CallProblem | None:
    """Return what ``error``, raised by a call to the service, means; ``None`` if no call raised it."""
    from google.api_core.exceptions import GoogleAPICallError, RetryError
    from google.auth.exceptions import GoogleAuthError, TransportError

    if isinstance(error, PermissionDeniedError):
        return CallProblem.DENIED
    if isinstance(error, RetryError):
        return CallProblem.TRANSIENT if error.cause is None else call_problem(error.cause)
    if isinstance(error, GoogleAuthError):
        transient = error.retryable or isinstance(error, TransportError)
        return CallProblem.TRANSIENT if transient else CallProblem.DENIED
    if not isinstance(error, GoogleAPICallError):
        return None
    if problem := _text_problem(error.message or ""):
        return problem
    code = error.grpc_status_code
    problem = _CALL_PROBLEMS.get(code.name, CallProblem.REFUSED) if code else CallProblem.TRANSIENT
    too_many_calls = problem is CallProblem.EXHAUSTED and _RATE_TEXT.search(error.message or "")
    return CallProblem.RATE_LIMITED if too_many_calls else problem


def _text_problem(text: str) -> CallProblem | None:
    """Return what a text of the service says more exactly than its status code."""
    if _QUOTA_TEXT.search(text):
        return CallProblem.QUOTA
    if _STOCKOUT_TEXT.search(text):
        return CallProblem.CAPACITY
    return CallProblem.DENIED if denied_permission(text) else None


def is_transient(error: BaseException) -> bool:
    """Tell whether the same call may succeed a little later."""
    return call_problem(error) in {CallProblem.TRANSIENT, CallProblem.RATE_LIMITED, CallProblem.EXHAUSTED}


def failed_replica(text: str) -> str | None:
    """Return the replica, such as ``workerpool0-0``, that the error of a job blames first."""
    match = _REPLICA_TEXT.search(text)
    return match and match[1]


def job_error(snapshot: JobSnapshot, details: Mapping[str, Any] | None = None) -> VertexTrainingError:
    """
    Return the typed error of a job that ended without success.

    The kind follows from the state and the service's text, since the status code of a failed job is not
    documented. The message holds the job, its state, the service's text, the end of its log, the addresses to
    look at and the next step.

    :param details: What the trigger found: ``log_lines``, or ``log_problem``.
    """
    error_class, next_step = _job_error_class(snapshot)
    name = ResourceName.parse(snapshot["job"])
    text = snapshot["error_message"] or "the service gave no reason"
    return error_class(
        f"{name} ended in {snapshot['state']}: {text}\n{_log_text(details or {})}"
        f"Console: {job_console_url(name)}\nLogs: {job_logs_url(name)}\nNext step: {next_step}"
    )


def _log_text(details: Mapping[str, Any]) -> str:
    if lines := details.get("log_lines"):
        return "Its log ends:\n" + "".join(f"  {line}\n" for line in lines)
    if problem := details.get("log_problem"):
        problem = problem.replace("\n", "\n  ")
        return f"Its log could not be read: {problem}\n"
    return ""


def _job_error_class(snapshot: JobSnapshot) -> tuple[type[VertexTrainingError], str]:
    if _waited_in_vain(snapshot):
        return MaxWaitExceededError, "let it wait longer (max_wait_duration), or elsewhere (candidates)."
    if _ran_out_of_time(snapshot):
        return JobTimedOutError, "raise max_run_duration, or make the training resume from its checkpoints."
    if job_phase(snapshot["state"]) is JobPhase.CANCELLED:
        return (
            JobCancelledError,
            "find out who cancelled it, or deleted its persistent resource; clear the task to run it again.",
        )
    return _failure_class(snapshot)


def _failure_class(snapshot: JobSnapshot) -> tuple[type[VertexTrainingError], str]:
    text = snapshot["error_message"]
    if _QUOTA_TEXT.search(text):
        return QuotaExceededError, quota_next_step(snapshot["strategy"])
    if _STOCKOUT_TEXT.search(text) or snapshot["error_code"] == _RESOURCE_EXHAUSTED:
        return CapacityError, "try again later, in another region, or with another machine type."
    interrupted = snapshot["error_code"] == _INTERNAL or _INTERRUPTED_TEXT.search(text)
    if interrupted and not _EXIT_TEXT.search(text):
        return JobInterruptedError, "try again; if it happens again, look at the service's status."
    log = "the log of the replica named above" if failed_replica(text) else "the end of its log"
    return JobFailedError, f"read {log}; a retry runs the same code again."


def is_lack_of_machines(error: VertexTrainingError, *, next_on_quota: bool) -> bool:
    """
    Tell whether a job that ended so leaves its place to another candidate.

    :param next_on_quota: Whether a quota that is used up counts as such.
    """
    return isinstance(error, (CapacityError, QuotaExceededError) if next_on_quota else CapacityError)


def _waited_in_vain(snapshot: JobSnapshot) -> bool:
    """
    Tell whether a Flex Start job ended at the end of its wait: in which state is not documented, nor with
    what text.
    """
    never_ran = snapshot["start_time"] is None
    waited = seconds_between(snapshot["create_time"], snapshot["end_time"])
    limit = max_wait_seconds(snapshot)
    return bool(never_ran and waited and limit and limit <= waited + _CLOCK_SECONDS)


def quota_next_step(strategy: str | None) -> str:
    """Return what to do about a quota that is used up by jobs of a strategy."""
    fix = "ask for more of the quota named above, or use fewer machines."
    if strategy not in {FLEX_START, SPOT}:
        return fix
    return (
        f"{fix} Flex Start and Spot draw on the quotas with 'preemptible' in their name, although nothing of "
        "Flex Start is preempted."
    )


def _ran_out_of_time(snapshot: JobSnapshot) -> bool:
    limit, ran = snapshot["max_run_seconds"], running_seconds(snapshot)
    if limit is None or ran is None:
        return False
    if snapshot["state"] == "JOB_STATE_FAILED" and _EXIT_TEXT.search(snapshot["error_message"]):
        return False  # it failed by itself, just when its time was over
    return ran >= limit


def resource_error(name: ResourceName, state: str, message: str) -> VertexTrainingError:
    """Return the typed error of a persistent resource that is lost, from the service's own reason."""
    text = message or "the service gave no reason"
    if _QUOTA_TEXT.search(message):
        error_class: type[VertexTrainingError] = QuotaExceededError
        next_step = quota_next_step(None)
    elif _STOCKOUT_TEXT.search(message):
        error_class = CapacityError
        next_step = "try again later, in another region, or with fewer or other machines."
    else:
        error_class = PersistentResourceError
        next_step = "create it again."
    return error_class(
        f"{name} is in {state}: {text}\nNext step: delete it if it is still there; {next_step}"
    )


def permission_error(
    error: GoogleAPICallError, permission: str, thing: str, callers: Sequence[str]
) -> PermissionDeniedError:
    """
    Return the typed error of a call that was denied.

    :param permission: What the call needs; one that the service's text names wins.
    :param thing: Full name of what the call was about.
    :param callers: Who calls, last, and who impersonates whom to get there.
    """
    text = error.message or ""
    caller, place = callers[-1], "in the project"
    permission = denied_permission(text) or permission
    if permission == ACT_AS:
        thing, place = denied_account(text) or "the service account that it is to run as", "on that account"
    elif permission == IMPERSONATE:
        caller, thing, place = " or ".join(callers[:-1] or callers), caller, "on that account"
    roles = " or ".join(ROLES.get(permission, ())) or f"a role that has {permission}"
    verb, next_step = "lacks", f"grant it {roles} {place}."
    if error.reason not in {None, "IAM_PERMISSION_DENIED"}:
        verb = "was refused"
        next_step = (
            f"do what the service says: {error.reason} can also be the project's id, its APIs or billing, or a "
            f"policy of the organization. The call itself needs {roles} {place}."
        )
    return PermissionDeniedError(
        f"Permission denied: {caller} {verb} {permission} on {thing}\n"
        f"The service says: {text}\nNext step: {next_step}"
    )
