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

from airflow_vertex_persistent.names import TUNING_JOBS, ResourceName, job_console_url, job_logs_url
from airflow_vertex_persistent.permissions import denied_permission
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

    from airflow_vertex_persistent.states import JobSnapshot

    ErrorAndFix = tuple[type["VertexTrainingError"], str]


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
        super().__init__(f"The {subject} is not possible like this, {count}:{lines}")
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


TRANSIENT_PROBLEMS = frozenset({CallProblem.TRANSIENT, CallProblem.RATE_LIMITED, CallProblem.EXHAUSTED})
"""After these the same call may succeed a little later."""

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
# What the text of an expired wait, which is not documented, may speak of.
_WAIT_TEXT = re.compile(r"wait|expire|deadline|timed? ?-?out|capacity|provision", re.IGNORECASE)
_CANCELLED_TEXT = re.compile(r"cancell?ed\.?", re.IGNORECASE)
_INTERRUPTED_TEXT = re.compile(r"internal error", re.IGNORECASE)
_REPLICA_TEXT = re.compile(r"replicas? (workerpool\d+-\d+)")
_RESOURCE_EXHAUSTED, _INTERNAL = 8, 13  # google.rpc.Code
# By how much the service may end a wait before its limit, and after it.
_CLOCK_SECONDS, _EXPIRY_SECONDS = 1.0, 60.0


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
    return call_problem(error) in TRANSIENT_PROBLEMS


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

    :param details: What the trigger found: ``log_lines``, or ``log_problem``; with ``log_of`` whose log that is, if
        it is not the job's own; of a tuning job ``tuning``, how far it got, ``unreported``, the metrics that a trial
        lacks, and ``no_failure_limit``, if the service alone says how many trials may fail.
    """
    details = details or {}
    error_class, next_step = _job_error_class(snapshot, details)
    name = ResourceName.parse(snapshot["job"])
    text = snapshot["error_message"] or "the service gave no reason"
    return error_class(
        f"{name} ended in {snapshot['state']}: {text}\n{_details_text(details)}"
        f"Console: {job_console_url(name)}\nLogs: {job_logs_url(name)}\nNext step: {next_step}"
    )


def _details_text(details: Mapping[str, Any]) -> str:
    text = f"Trials: {details['tuning']}\n" if "tuning" in details else ""
    log = f"The log of {details['log_of']}" if "log_of" in details else "Its log"
    if lines := details.get("log_lines"):
        return text + f"{log} ends:\n" + "".join(f"  {line}\n" for line in lines)
    if problem := details.get("log_problem"):
        problem = problem.replace("\n", "\n  ")
        return f"{text}{log} could not be read: {problem}\n"
    return text


def _job_error_class(snapshot: JobSnapshot, details: Mapping[str, Any]) -> ErrorAndFix:
    text, cancelled = snapshot["error_message"], job_phase(snapshot["state"]) is JobPhase.CANCELLED
    if _waited_in_vain(snapshot):
        return MaxWaitExceededError, capacity_next_step(snapshot["strategy"], tuning=_is_tuning(snapshot))
    # By the clock a job runs from its first start on, whatever machines it has lost since: its text goes first.
    if not cancelled and (told := _told_class(snapshot)):
        return told
    if _ran_out_of_time(snapshot):
        return JobTimedOutError, "raise max_run_duration, or make the training resume from its checkpoints."
    if cancelled:
        fix = "find out who cancelled it, or deleted its persistent resource; clear the task to run it again."
        return JobCancelledError, fix
    return JobFailedError, _failed_next_step(text, details)


def _failed_next_step(text: str, details: Mapping[str, Any]) -> str:
    if metrics := details.get("unreported"):
        fix = f"have the code report {' and '.join(metrics)}: the trial ended well and has reported none."
        return f"{fix} The hyperparameter_metric_tag in the code must be the name in metrics."
    where = "the log of the replica named above" if failed_replica(text) else "the end of its log"
    fix = f"read {where}; a retry runs the same code again."
    if details.get("no_failure_limit"):
        fix += (
            " If other parameters may do better, set max_failed_trial_count: without it the service has been "
        )
        fix += "seen to end the job with a trial that fails before any has succeeded."
    return fix


def _told_class(snapshot: JobSnapshot) -> ErrorAndFix | None:
    text, code = snapshot["error_message"], snapshot["error_code"]
    exhausted = code == _RESOURCE_EXHAUSTED
    if short_of := _shortage(text, snapshot["strategy"], exhausted=exhausted, tuning=_is_tuning(snapshot)):
        return short_of
    if (code == _INTERNAL or _INTERRUPTED_TEXT.search(text)) and not _EXIT_TEXT.search(text):
        return JobInterruptedError, "try again; if it happens again, look at the service's status."
    return None


def _shortage(
    text: str, strategy: str | None, *, exhausted: bool = False, tuning: bool = False
) -> ErrorAndFix | None:
    """Return which error a text of the service is that speaks of a lack of quota or of machines."""
    if _QUOTA_TEXT.search(text):
        return QuotaExceededError, quota_next_step(strategy)
    if exhausted or _STOCKOUT_TEXT.search(text):
        return CapacityError, capacity_next_step(strategy, tuning=tuning)
    return None


def is_lack_of_machines(error: VertexTrainingError, *, next_on_quota: bool) -> bool:
    """
    Tell whether a job that ended so leaves its place to another candidate.

    :param next_on_quota: Whether a quota that is used up counts as such.
    """
    return isinstance(error, (CapacityError, QuotaExceededError) if next_on_quota else CapacityError)


def _waited_in_vain(snapshot: JobSnapshot) -> bool:
    """
    Tell whether a Flex Start job ended at the end of its wait: in which state is not documented, nor with
    what text. One that says something else has ended for that.
    """
    waited = seconds_between(snapshot["create_time"], snapshot["end_time"])
    limit, text = max_wait_seconds(snapshot), snapshot["error_message"]
    if snapshot["start_time"] is not None or not waited or not limit or waited + _CLOCK_SECONDS < limit:
        return False
    if _CANCELLED_TEXT.fullmatch(text):
        return waited <= limit + _EXPIRY_SECONDS  # whoever cancels it later is somebody else
    return not text or bool(_STOCKOUT_TEXT.search(text) or _WAIT_TEXT.search(text))


def _is_tuning(snapshot: JobSnapshot) -> bool:
    return ResourceName.parse(snapshot["job"]).kind == TUNING_JOBS


def capacity_next_step(strategy: str | None, *, tuning: bool = False) -> str:
    """
    Return what to do when there are no machines for jobs of a strategy; ``None``: for anything else.

    :param tuning: Whether these are the trials of a tuning job, which has no candidates.
    """
    fix = "try again later, in another region, or with fewer or other machines"
    if tuning and strategy == FLEX_START:
        return f"{fix}, or let each trial wait longer (max_wait_duration)."
    if strategy is None or tuning:
        return f"{fix}."
    return f"{fix} (candidates), or let it wait longer (max_wait_duration)."


def quota_next_step(strategy: str | None) -> str:
    """Return what to do about a quota that is used up by jobs of a strategy; ``None``: by anything else."""
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
    error_class, next_step = _shortage(message, None) or (PersistentResourceError, "create it again.")
    return error_class(
        f"{name} is in {state}: {text}\nNext step: delete it if it is still there; {next_step}"
    )
