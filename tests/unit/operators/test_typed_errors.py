# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import pytest
from airflow.sdk.exceptions import AirflowFailException
from google.api_core import exceptions as api

from airflow_vertex_persistent.exceptions import (
    InvalidRequestError,
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
        (api.ResourceExhausted(QUOTA), QuotaExceededError, QUOTA),
        (AWAY, ServiceUnreachableError, "may have been carried out"),
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
        api.PermissionDenied("not you"),
        api.NotFound("no such project"),
        api.FailedPrecondition("not now"),
        ZeroDivisionError("bug"),
        PersistentResourceError("nightly is being deleted"),
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
    """An event gives its snapshot, or the error that it stands for."""
    snapshot = {"state": "RUNNING"}
    assert settled_snapshot("the job", {"status": "settled", "snapshot": snapshot, "error": ""}) is snapshot
    assert settled_snapshot("the job", {"status": "settled", "snapshot": None, "error": ""}) is None
    with pytest.raises(ServiceUnreachableError, match=r"no answer about the job for max_outage.*503 away"):
        settled_snapshot("the job", {"status": "unreachable", "snapshot": None, "error": "503 away"})
    with pytest.raises(VertexTrainingError, match="would not tell about the job: 403 not you"):
        settled_snapshot("the job", {"status": "failed", "snapshot": None, "error": "403 not you"})
