# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import grpc
import pytest
from google.api_core import exceptions as api
from google.auth import exceptions as auth

from airflow_vertex_persistent.call_problems import CallProblem, call_problem, is_transient
from airflow_vertex_persistent.endings import resource_error
from airflow_vertex_persistent.exceptions import (
    CapacityError,
    InvalidRequestError,
    JobCancelledError,
    JobFailedError,
    JobInterruptedError,
    JobTimedOutError,
    MaxWaitExceededError,
    PermissionDeniedError,
    PersistentResourceError,
    QuotaExceededError,
    ServiceUnreachableError,
    VertexTrainingError,
)
from airflow_vertex_persistent.names import ResourceName

if TYPE_CHECKING:
    from collections.abc import Iterator


NAME = ResourceName.parse("projects/123/locations/europe-west4/persistentResources/nightly")

MEANINGS = {
    "CANCELLED": CallProblem.TRANSIENT,  # a proxy or a restarting server dropped the call
    "UNKNOWN": CallProblem.TRANSIENT,
    "INVALID_ARGUMENT": CallProblem.REFUSED,
    "DEADLINE_EXCEEDED": CallProblem.TRANSIENT,
    "NOT_FOUND": CallProblem.MISSING,
    "ALREADY_EXISTS": CallProblem.EXISTS,
    "PERMISSION_DENIED": CallProblem.DENIED,
    "UNAUTHENTICATED": CallProblem.DENIED,
    "RESOURCE_EXHAUSTED": CallProblem.EXHAUSTED,
    "FAILED_PRECONDITION": CallProblem.NOT_NOW,
    "ABORTED": CallProblem.TRANSIENT,
    "UNIMPLEMENTED": CallProblem.REFUSED,
    "INTERNAL": CallProblem.TRANSIENT,
    "UNAVAILABLE": CallProblem.TRANSIENT,
    "DATA_LOSS": CallProblem.REFUSED,
    "OUT_OF_RANGE": CallProblem.REFUSED,
}

QUOTA_AT_CREATE = (
    "The following quota metrics exceed quota limits: "
    "aiplatform.googleapis.com/custom_model_training_nvidia_v100_gpus"
)
QUOTA_OF_RESOURCE = "The following quotas are exceeded: CustomModelTrainingT4GPUsPerProjectPerRegion"
RATE = (
    "Quota exceeded for quota metric 'Resource management (CRUD) requests' and limit 'Resource management "
    "(CRUD) requests per minute per region' of service 'aiplatform.googleapis.com'"
)
STOCKOUT = "Resources are insufficient in region: R. Try a different region or use a different accelerator."


def subclasses(cls: type[Any]) -> Iterator[type[Any]]:
    """Yield every class below another."""
    for child in cls.__subclasses__():
        yield child
        yield from subclasses(child)


def test_every_status_code_has_a_meaning() -> None:
    """GRPC's codes are all decided on; a new one makes this fail."""
    assert {code.name for code in grpc.StatusCode} == {*MEANINGS, "OK"}


@pytest.mark.parametrize("code", MEANINGS)
def test_what_a_status_code_means(code: str) -> None:
    """A call that ended with this code means what it should, wrapped in a RetryError or not."""
    error = api.from_grpc_status(grpc.StatusCode[code], "text")
    assert call_problem(error) is MEANINGS[code]
    assert call_problem(api.RetryError("timed out", cause=error)) is MEANINGS[code]
    assert is_transient(error) is (MEANINGS[code] in {CallProblem.TRANSIENT, CallProblem.EXHAUSTED})


def test_every_class_of_the_client_library_has_a_meaning() -> None:
    """No error that Google's library can raise for a call is taken for an error of our own."""
    classes = [cls for cls in subclasses(api.GoogleAPICallError) if cls.__module__ == api.__name__]
    assert len(classes) > 20
    assert [cls.__name__ for cls in classes if call_problem(cls("text")) is None] == []
    assert call_problem(api.RetryError("timed out", cause=None)) is CallProblem.TRANSIENT


@pytest.mark.parametrize("text", [QUOTA_AT_CREATE, QUOTA_OF_RESOURCE])
def test_quota_is_no_rate_limit(text: str) -> None:
    """A used-up quota does not pass by itself, although it has a rate limit's code."""
    assert call_problem(api.ResourceExhausted(text)) is CallProblem.QUOTA
    assert not is_transient(api.ResourceExhausted(text))
    assert call_problem(api.RetryError("timed out", cause=api.ResourceExhausted(text))) is CallProblem.QUOTA


def test_a_rate_limit_passes() -> None:
    """Too many requests a minute is waited out, although the text speaks of a quota."""
    assert call_problem(api.ResourceExhausted(RATE)) is CallProblem.RATE_LIMITED
    assert is_transient(api.ResourceExhausted(RATE))


def test_a_refusal_that_does_not_say_what_is_exhausted() -> None:
    """It may be calls or machines: waited out, and told apart by whoever can look at the machines."""
    error = api.ResourceExhausted("no more of them")
    assert call_problem(error) is CallProblem.EXHAUSTED
    assert is_transient(error)


def test_machines_that_are_taken_are_no_rate_limit() -> None:
    """A busy pool's refusal has a rate limit's code, and is not waited out as if the service were away."""
    error = api.ResourceExhausted("Resources are insufficient in persistent resource nightly.")
    assert call_problem(error) is CallProblem.CAPACITY
    assert not is_transient(error)


@pytest.mark.parametrize(
    ("error", "meaning"),
    [
        (auth.TransportError("no route"), CallProblem.TRANSIENT),
        (auth.RefreshError("try again", retryable=True), CallProblem.TRANSIENT),
        (auth.RefreshError("invalid_grant", retryable=False), CallProblem.DENIED),
        (auth.DefaultCredentialsError("none found"), CallProblem.DENIED),
    ],
)
def test_what_an_error_of_the_credentials_means(error: Exception, meaning: CallProblem) -> None:
    """Wrong credentials end a task at once; a token server that is away does not."""
    assert call_problem(error) is meaning


@pytest.mark.parametrize("error", [ValueError("ours"), KeyError("ours"), TimeoutError(), OSError()])
def test_our_own_errors_are_not_the_service_s(error: Exception) -> None:
    """What no call raised has no meaning, so that it propagates with its traceback."""
    assert call_problem(error) is None
    assert not is_transient(error)


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        (QUOTA_OF_RESOURCE, QuotaExceededError),
        (STOCKOUT, CapacityError),
        ("Resources are insufficient in region: europe-west4. ...", CapacityError),
        ("An internal error occurred on your cluster. Please try recreating one.", PersistentResourceError),
        ("Unexpected response.", PersistentResourceError),
        ("", PersistentResourceError),
    ],
)
def test_what_lost_a_resource(text: str, kind: type[Exception]) -> None:
    """The kind of error and its message come from the service's own reason."""
    error = resource_error(NAME, "ERROR", text)
    assert type(error) is kind
    for part in (str(NAME), "ERROR", text or "the service gave no reason", "Next step: "):
        assert part in str(error)


def test_the_tree() -> None:
    """Whoever catches a family catches its members, and a wrong request is a ValueError."""
    ours = {
        JobFailedError,
        JobTimedOutError,
        JobInterruptedError,
        JobCancelledError,
        CapacityError,
        MaxWaitExceededError,
        QuotaExceededError,
        PersistentResourceError,
        PermissionDeniedError,
        ServiceUnreachableError,
    }
    assert set(subclasses(VertexTrainingError)) == ours
    assert issubclass(JobTimedOutError, JobFailedError)
    assert issubclass(MaxWaitExceededError, CapacityError)
    assert issubclass(InvalidRequestError, ValueError)


@pytest.mark.parametrize(
    ("problems", "count"), [(["a = 1: write 2"], "1 problem"), (["a", "b"], "2 problems")]
)
def test_a_wrong_request_lists_its_problems(problems: list[str], count: str) -> None:
    """Each problem has a line of its own and the first line counts them."""
    error = InvalidRequestError("custom job", problems)
    lines = [
        f"The custom job is not possible like this, {count}:",
        *(f"  - {problem}" for problem in problems),
    ]
    assert str(error).splitlines() == lines
    assert error.problems == tuple(problems)
