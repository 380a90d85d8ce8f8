# SPDX-License-Identifier: Apache-2.0
"""What an unsuccessful call to the service means for the caller."""

from __future__ import annotations

import re
from enum import Enum

from airflow_vertex_persistent.exceptions import PermissionDeniedError
from airflow_vertex_persistent.permissions import denied_permission


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
    if problem := text_problem(error.message or ""):
        return problem
    code = error.grpc_status_code
    problem = _CALL_PROBLEMS.get(code.name, CallProblem.REFUSED) if code else CallProblem.TRANSIENT
    too_many_calls = problem is CallProblem.EXHAUSTED and _RATE_TEXT.search(error.message or "")
    return CallProblem.RATE_LIMITED if too_many_calls else problem


def text_problem(text: str) -> CallProblem | None:
    """Return what a text of the service says more exactly than a status code; ``None`` if it does not."""
    if _QUOTA_TEXT.search(text):
        return CallProblem.QUOTA
    if _STOCKOUT_TEXT.search(text):
        return CallProblem.CAPACITY
    return CallProblem.DENIED if denied_permission(text) else None


def is_transient(error: BaseException) -> bool:
    """Tell whether the same call may succeed a little later."""
    return call_problem(error) in TRANSIENT_PROBLEMS
