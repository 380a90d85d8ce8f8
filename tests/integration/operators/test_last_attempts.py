# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from airflow.sdk.exceptions import AirflowTaskTimeout
from google.cloud.aiplatform_v1.types import JobState

from airflow_vertex_persistent.exceptions import PermissionDeniedError, ServiceUnreachableError

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_vertex_persistent.operators.base import VertexOperator
    from tests.conftest import Relay
    from tests.integration.conftest import Cloud
    from tests.integration.operators.conftest import Run

    Make = Callable[..., VertexOperator]

RUNNING = JobState.JOB_STATE_RUNNING
CANCELLED = JobState.JOB_STATE_CANCELLED
# The service does not answer twice: an outage longer than this.
SHORT = 0.01


@pytest.mark.durability(
    "Vertex AI gives no answer for longer than ``max_outage`` while the task waits, in the last attempt",
    "Fails with ``ServiceUnreachableError``.",
    "Is cancelled; with ``cancel_on_kill=False`` it runs on.",
)
@pytest.mark.parametrize(("cancel_on_kill", "state"), [(True, CANCELLED), (False, RUNNING)])
def test_the_last_attempt_fails(  # noqa: PLR0917 - one row of a table
    relayed_cloud: Cloud,
    relay: Relay,
    train: Make,
    run_dag: Callable[[], Run],
    cancel_on_kill: bool,
    state: JobState,
    *,
    deferrable: bool,
) -> None:
    """A job that nobody will come back to is cancelled, unless the user wants to keep it."""
    relay.refuse("GetCustomJob", times=2)
    train("sleep", "600", max_outage=SHORT, cancel_on_kill=cancel_on_kill, deferrable=deferrable)
    assert type(run_dag().error()) is ServiceUnreachableError
    relayed_cloud.wait_for(lambda: relayed_cloud.settled_states() == [state], f"the job is {state.name}")
    assert relay.count("CancelCustomJob") == int(cancel_on_kill)


@pytest.mark.durability(
    "The connection's account loses the permission to read the job while the task waits",
    "Fails with ``PermissionDeniedError`` at once, in each attempt.",
    "Runs on, until the last attempt cancels it.",
)
def test_only_the_last_attempt_cancels(
    relayed_cloud: Cloud, relay: Relay, train: Make, run_dag: Callable[[], Run]
) -> None:
    """With attempts left the job stays; after the last one it does not."""
    relay.refuse("GetCustomJob", code="PERMISSION_DENIED", times=2)
    train("sleep", "600", retries=1)
    run = run_dag()
    assert [type(error) for error in run.errors["train"]] == [PermissionDeniedError, PermissionDeniedError]
    relayed_cloud.wait_for(lambda: relayed_cloud.settled_states() == [CANCELLED], "the one job is cancelled")
    assert relay.count("CreateCustomJob") == 1
    assert relay.count("CancelCustomJob") == 1


@pytest.mark.durability(
    "The last attempt fails, and Vertex AI refuses to cancel the job",
    "Fails with its own error.",
    "Runs on.",
)
def test_a_job_that_cannot_be_cancelled(
    relayed_cloud: Cloud, relay: Relay, train: Make, run_dag: Callable[[], Run]
) -> None:
    """A task ends with the error that made it fail, even when cancelling its job fails as well."""
    relay.refuse("GetCustomJob", times=2)
    relay.refuse("CancelCustomJob", code="PERMISSION_DENIED", times=1000)
    train("sleep", "600", max_outage=SHORT)
    assert type(run_dag().error()) is ServiceUnreachableError
    assert relayed_cloud.settled_states() == [RUNNING]


@pytest.mark.durability(
    "Longer than ``execution_timeout`` while it runs or is deferred",
    "Fails with that error.",
    "Is cancelled.",
)
@pytest.mark.parametrize(("cancel_on_kill", "state"), [(True, CANCELLED), (False, RUNNING)])
def test_an_execution_timeout_while_running(  # noqa: PLR0917 - one row of a table
    relayed_cloud: Cloud,
    relay: Relay,
    train: Make,
    run_dag: Callable[[], Run],
    cancel_on_kill: bool,
    state: JobState,
) -> None:
    """A task that ran too long ends, and its job with it, unless the user wants to keep it."""
    train(
        "sleep",
        "600",
        execution_timeout=timedelta(seconds=5),
        cancel_on_kill=cancel_on_kill,
        deferrable=False,
    )
    assert type(run_dag().error()) is AirflowTaskTimeout
    relayed_cloud.wait_for(lambda: relayed_cloud.settled_states() == [state], f"the job is {state.name}")
    assert relay.count("CancelCustomJob") == int(cancel_on_kill)
