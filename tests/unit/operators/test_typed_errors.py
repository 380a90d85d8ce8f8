# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import pytest
from airflow.sdk.exceptions import AirflowFailException
from google.api_core import exceptions as api
from google.auth.exceptions import RefreshError

from airflow_vertex_persistent.exceptions import (
    CapacityError,
    InvalidRequestError,
    PermissionDeniedError,
    PersistentResourceError,
    QuotaExceededError,
    ServiceUnreachableError,
    VertexTrainingError,
)
from airflow_vertex_persistent.operators.base import settled_snapshot, typed_errors

AWAY = api.ServiceUnavailable("away")
QUOTA = (
    "The following quota metrics exceed quota limits: aiplatform.googleapis.com/custom_model_training_cpus"
)


@pytest.mark.parametrize(
    ("error", "kind", "part"),
    [
        (
            InvalidRequestError("custom job", ["region = 'x': write"]),
            AirflowFailException,
            "region = 'x': write",
        ),
        (api.InvalidArgument("bad machine"), AirflowFailException, "Vertex AI refused the custom job: "),
        (
            api.ResourceExhausted(QUOTA),
            QuotaExceededError,
            f"The request for the custom job failed: 429 {QUOTA}",
        ),
        (api.ResourceExhausted(QUOTA), QuotaExceededError, "ask for more of the quota named above"),
        (
            AWAY,
            ServiceUnreachableError,
            "The request for the custom job failed: 503 away\nNext step: look at",
        ),
        (api.ResourceExhausted("Resources are insufficient in region: r."), CapacityError, "try again later"),
        (
            api.Unauthenticated("who?"),
            VertexTrainingError,
            "look at the credentials of the task's connection",
        ),
        (RefreshError("invalid_grant"), VertexTrainingError, "look at the credentials"),
        (api.FailedPrecondition("not now"), PersistentResourceError, "once that has passed"),
        (api.AlreadyExists("a resource of this id"), PersistentResourceError, "once that has passed"),
        (api.RetryError("Timeout of 60s", cause=AWAY), ServiceUnreachableError, "Next step:"),
        (api.ResourceExhausted("requests per minute"), ServiceUnreachableError, "requests per minute"),
    ],
)
def test_how_an_error_ends_a_task(error: Exception, kind: type[Exception], part: str) -> None:
    """An error of a check or a call becomes the one a task should end with, its cause kept."""
    with pytest.raises(kind) as caught, typed_errors("custom job"):
        raise error
    assert type(caught.value) is kind
    assert part in str(caught.value)
    assert caught.value.__cause__ is error


@pytest.mark.parametrize(
    "error",
    [
        api.NotFound("no such project"),
        ZeroDivisionError("bug"),
        PersistentResourceError("nightly is being deleted"),
        PermissionDeniedError("nobody may"),
    ],
)
def test_which_errors_stay_as_they_are(error: Exception) -> None:
    """What has no better form keeps its type, text and traceback, and a retry."""
    with pytest.raises(type(error)) as caught, typed_errors("custom job"):
        raise error
    assert caught.value is error


def test_a_resource_that_is_missing() -> None:
    """Where a request names a resource, not found says what to do about it."""
    step = "create persistent resource 'nightly' first."
    with pytest.raises(PersistentResourceError) as caught, typed_errors("custom job", missing=step):
        raise api.NotFound("The PersistentResource does not exist.")
    assert f"Next step: {step}" in str(caught.value)


def test_what_a_watch_ended_with() -> None:
    """An event gives its snapshot, or the error that it stands for, which names the thing and the next step."""
    name = "projects/123456/locations/europe-west4/customJobs/789"
    snapshot = {"state": "RUNNING"}
    settled = {"name": name, "status": "settled", "error": ""}
    assert settled_snapshot({**settled, "snapshot": snapshot}) is snapshot
    assert settled_snapshot({**settled, "snapshot": None}) is None
    unreachable = {"name": name, "status": "unreachable", "snapshot": None, "error": "503 away"}
    with pytest.raises(ServiceUnreachableError, match=rf"about {name} for max_outage.*503 away\nNext step: "):
        settled_snapshot(unreachable)
    with pytest.raises(VertexTrainingError, match=rf"about {name}: 401 who\?\nNext step: "):
        settled_snapshot({**unreachable, "status": "failed", "error": "401 who?"})
    with pytest.raises(PermissionDeniedError, match=r"^nobody may$"):
        settled_snapshot({**unreachable, "status": "denied", "error": "nobody may"})
