# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

from datetime import timedelta

import pytest
from airflow.sdk import RetryAction, RetryRule

from airflow_vertex_persistent import exceptions
from airflow_vertex_persistent.exceptions import (
    CapacityError,
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
from airflow_vertex_persistent.retry import TrainingRetryPolicy

RETRIED: set[type[VertexTrainingError]] = {
    CapacityError,
    JobInterruptedError,
    MaxWaitExceededError,
    PersistentResourceError,
    ServiceUnreachableError,
}
FAILED: set[type[VertexTrainingError]] = {
    JobFailedError,
    JobTimedOutError,
    JobCancelledError,
    QuotaExceededError,
    PermissionDeniedError,
    VertexTrainingError,
}


def test_every_error_has_its_place() -> None:
    """Each error of the package is worth another try, or is not."""
    ours = {
        value
        for value in vars(exceptions).values()
        if isinstance(value, type) and issubclass(value, VertexTrainingError)
    }
    assert ours == RETRIED | FAILED


@pytest.mark.parametrize("error", sorted(RETRIED | FAILED, key=str))
def test_what_is_worth_another_try(error: type[VertexTrainingError]) -> None:
    """What may pass is retried after a pause; what will not ends the task at once."""
    decision = TrainingRetryPolicy().evaluate(error("so it is"), 1, 3)
    if error in RETRIED:
        assert decision.action is RetryAction.RETRY
        assert decision.retry_delay is not None
    else:
        assert decision.action is RetryAction.FAIL
    assert decision.reason


def test_other_errors_are_left_to_airflow() -> None:
    """What is not an error of Vertex AI follows the task's own retries."""
    assert TrainingRetryPolicy().evaluate(OSError("disk full"), 1, 3).action is RetryAction.DEFAULT


def test_the_pauses_can_be_set() -> None:
    """Waiting for machines and waiting for the service have a pause each."""
    policy = TrainingRetryPolicy(capacity_delay=timedelta(hours=1), service_delay=timedelta(seconds=5))
    assert policy.evaluate(CapacityError(), 1, 3).retry_delay == timedelta(hours=1)
    assert policy.evaluate(ServiceUnreachableError(), 1, 3).retry_delay == timedelta(seconds=5)


def test_own_rules_come_first() -> None:
    """A team whose training code is flaky can say so."""
    policy = TrainingRetryPolicy(first=[RetryRule(JobFailedError, RetryAction.RETRY)])
    assert policy.evaluate(JobFailedError(), 1, 3).action is RetryAction.RETRY
    assert policy.evaluate(JobCancelledError(), 1, 3).action is RetryAction.FAIL
