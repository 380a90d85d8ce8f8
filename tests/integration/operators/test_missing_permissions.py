# SPDX-License-Identifier: Apache-2.0
"""A missing permission ends a task with an error that says what is missing, which role has it, and to whom."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from airflow_vertex_persistent.emulator import EmulatorControl
from airflow_vertex_persistent.exceptions import JobFailedError, PermissionDeniedError, VertexTrainingError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from airflow_vertex_persistent.operators.base import VertexOperator
    from tests.conftest import Relay
    from tests.integration.conftest import Cloud
    from tests.integration.operators.conftest import Run

    Make = Callable[..., VertexOperator]

CALLER = "airflow@demo-project.iam.gserviceaccount.com"
TRAINER = "trainer@demo-project.iam.gserviceaccount.com"
USER, OWNER = "roles/aiplatform.user", "roles/aiplatform.admin or roles/aiplatform.editor"


@pytest.fixture
def deny(cloud: Cloud) -> Iterator[Callable[..., None]]:
    """Let the emulator deny the next call of a method."""
    with EmulatorControl(cloud.address) as control:

        def add(method: str, text: str | None = None, times: int = 1) -> None:
            control.add_fault(method, "permission_denied", text=text, times=times)

        yield add


def assert_denied(error: BaseException, permission: str, role: str, caller: str = CALLER) -> None:
    """Check that an error says who lacks what, and what to grant."""
    assert type(error) is PermissionDeniedError
    first, said, last = str(error).splitlines()
    assert first.startswith(f"Permission denied: {caller} lacks {permission} on projects/")
    assert said.startswith(f"The service says: Permission '{permission}' denied on resource ")
    assert last == f"Next step: grant it {role} in the project."


def test_creating_a_job(
    cloud: Cloud, deny: Callable[..., None], train: Make, run_dag: Callable[[], Run], *, deferrable: bool
) -> None:
    """Who may not run jobs hears so at once."""
    deny("CreateCustomJob")
    train("succeed", impersonation_chain=CALLER, deferrable=deferrable)
    assert_denied(run_dag().error(), "aiplatform.customJobs.create", USER)
    assert cloud.all_jobs() == []


def test_without_an_address(deny: Callable[..., None], train: Make, run_dag: Callable[[], Run]) -> None:
    """An account whose address nobody knows goes by its connection."""
    deny("CreateCustomJob")
    train("succeed")
    caller = "the connection's account (google_cloud_default)"
    assert_denied(run_dag().error(), "aiplatform.customJobs.create", USER, caller)


def test_watching_a_job(
    deny: Callable[..., None], train: Make, run_dag: Callable[[], Run], *, deferrable: bool
) -> None:
    """The error of a watch is the same whether the triggerer or the worker has met it."""
    deny("GetCustomJob")
    train("sleep", "600", impersonation_chain=CALLER, deferrable=deferrable)
    assert_denied(run_dag().error(), "aiplatform.customJobs.get", USER)


def test_cancelling_a_job(
    cloud: Cloud, deny: Callable[..., None], train: Make, run_dag: Callable[[], Run], *, deferrable: bool
) -> None:
    """An attempt that must cancel the job of the one before it, and may not, does not begin another."""
    deny("GetCustomJob")
    deny("CancelCustomJob", times=1000)
    train("sleep", "600", impersonation_chain=CALLER, deferrable=deferrable, durable=False, retries=1)
    run = run_dag()
    looked, cancelled = run.errors["train"]
    assert_denied(looked, "aiplatform.customJobs.get", USER)
    assert_denied(cancelled, "aiplatform.customJobs.cancel", USER)
    assert len(cloud.all_jobs()) == 1


def test_acting_as_a_service_account(
    cloud: Cloud, deny: Callable[..., None], train: Make, run_dag: Callable[[], Run], *, deferrable: bool
) -> None:
    """The account that the code was to run as is named, and what is missing on it."""
    spec = {"service_account_spec": {"enable_custom_service_account": True}}
    cloud.create_resource("accounts", resource_runtime_spec=spec)
    text = f"You do not have permission to act as service_account: {TRAINER}. (or it may not exist)."
    deny("CreateCustomJob", text)
    train(
        "succeed",
        persistent_resource_id="accounts",
        impersonation_chain=CALLER,
        service_account=TRAINER,
        deferrable=deferrable,
    )
    error = run_dag().error()
    assert type(error) is PermissionDeniedError
    assert str(error).splitlines() == [
        f"Permission denied: {CALLER} lacks iam.serviceAccounts.actAs on {TRAINER}",
        f"The service says: {text}",
        "Next step: grant it roles/iam.serviceAccountUser on that account.",
    ]
    assert cloud.all_jobs() == []


def test_creating_a_resource(
    cloud: Cloud, deny: Callable[..., None], create: Make, run_dag: Callable[[], Run], *, deferrable: bool
) -> None:
    """Who runs jobs may still not create a resource."""
    deny("CreatePersistentResource")
    create(persistent_resource_id="weekly", impersonation_chain=CALLER, deferrable=deferrable)
    error = run_dag().error("create")
    assert_denied(error, "aiplatform.persistentResources.create", OWNER)
    assert cloud.resource("weekly") is None


def test_deleting_a_resource(
    cloud: Cloud, deny: Callable[..., None], delete: Make, run_dag: Callable[[], Run], *, deferrable: bool
) -> None:
    """A resource that may not be deleted stays, and the task says why."""
    deny("DeletePersistentResource")
    delete(impersonation_chain=CALLER, deferrable=deferrable)
    assert_denied(run_dag().error("delete"), "aiplatform.persistentResources.delete", OWNER)
    assert cloud.resource() is not None


def test_reading_a_log(
    deny: Callable[..., None], train: Make, run_dag: Callable[[], Run], *, deferrable: bool
) -> None:
    """A log that may not be read is said beside the job's own error, with what to do about it."""
    deny("ListLogEntries")
    train("fail", impersonation_chain=CALLER, deferrable=deferrable)
    error = run_dag().error()
    assert type(error) is JobFailedError
    lines = str(error).splitlines()
    start = next(n for n, line in enumerate(lines) if line.startswith("Its log could not be read: "))
    assert f"{CALLER} lacks logging.logEntries.list on projects/" in lines[start]
    assert lines[start + 2] == "  Next step: grant it roles/logging.viewer in the project."


def test_other_refusals_are_no_missing_permission(
    relayed_cloud: Cloud, relay: Relay, train: Make, run_dag: Callable[[], Run]
) -> None:
    """A caller that the service does not know is sent to its credentials, not to a role."""
    relay.refuse("CreateCustomJob", code="UNAUTHENTICATED", text="who?")
    train("succeed")
    error = run_dag().error()
    assert type(error) is VertexTrainingError
    assert str(error).endswith("Next step: look at the credentials of the task's connection.")
    assert relayed_cloud.all_jobs() == []
