# SPDX-License-Identifier: Apache-2.0
"""What every call of every hook tells of a missing permission."""

from __future__ import annotations

import asyncio
from inspect import isfunction
from typing import TYPE_CHECKING, Any

import pytest
from google.api_core.exceptions import GoogleAPICallError, Unauthenticated

from airflow_vertex_persistent.call_problems import CallProblem, call_problem
from airflow_vertex_persistent.exceptions import PermissionDeniedError
from airflow_vertex_persistent.hooks.client import VertexAsyncHook
from airflow_vertex_persistent.hooks.logs import last_lines
from airflow_vertex_persistent.hooks.persistent_resource import (
    PersistentResourceAsyncHook,
    PersistentResourceHook,
)
from airflow_vertex_persistent.hooks.training_job import PAGE_SIZE, TrainingJobAsyncHook, TrainingJobHook
from airflow_vertex_persistent.names import CUSTOM_JOBS, TUNING_JOBS, ResourceName, persistent_resource_name
from airflow_vertex_persistent.permissions import PERMISSIONS, ROLES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from airflow_vertex_persistent.emulator import EmulatorControl
    from tests.conftest import Relay
    from tests.contract.conftest import Cloud

PROJECT, REGION = "demo-project", "europe-west4"
PARENT = f"projects/{PROJECT}/locations/{REGION}"
JOB, TUNING = (ResourceName(PROJECT, REGION, kind, "1") for kind in (CUSTOM_JOBS, TUNING_JOBS))
RESOURCE = persistent_resource_name(PROJECT, REGION, "denied")
TRAINER = "trainer@acme.iam.gserviceaccount.com"

# By hook and method: the call that it makes, what it is about, and the arguments.
CALLS: dict[tuple[type[Any], str], tuple[str, str, tuple[Any, ...]]] = {
    (TrainingJobHook, "create_job"): ("CreateCustomJob", PARENT, (PROJECT, REGION, CUSTOM_JOBS, {})),
    (TrainingJobHook, "get_job"): ("GetCustomJob", str(JOB), (JOB,)),
    (TrainingJobHook, "list_jobs"): ("ListCustomJobs", PARENT, (PROJECT, REGION, CUSTOM_JOBS, "")),
    (TrainingJobHook, "cancel_job"): ("CancelCustomJob", str(JOB), (JOB,)),
    (TrainingJobAsyncHook, "get_job"): ("GetHyperparameterTuningJob", str(TUNING), (TUNING,)),
    (TrainingJobAsyncHook, "snapshot"): ("GetCustomJob", str(JOB), (JOB,)),
    (TrainingJobAsyncHook, "tuning_snapshot"): ("GetHyperparameterTuningJob", str(TUNING), (TUNING,)),
    (TrainingJobAsyncHook, "snapshot_page"): (
        "ListHyperparameterTuningJobs",
        PARENT,
        (PROJECT, REGION, TUNING_JOBS, "", ""),
    ),
    (TrainingJobAsyncHook, "cancel_job"): ("CancelHyperparameterTuningJob", str(TUNING), (TUNING,)),
    (PersistentResourceHook, "create"): (
        "CreatePersistentResource",
        PARENT,
        (PROJECT, REGION, "denied", {}),
    ),
    (PersistentResourceHook, "get"): ("GetPersistentResource", str(RESOURCE), (RESOURCE,)),
    (PersistentResourceHook, "list"): ("ListPersistentResources", PARENT, (PROJECT, REGION)),
    (PersistentResourceHook, "reboot"): ("RebootPersistentResource", str(RESOURCE), (RESOURCE,)),
    (PersistentResourceHook, "delete"): ("DeletePersistentResource", str(RESOURCE), (RESOURCE,)),
    (PersistentResourceAsyncHook, "get"): ("GetPersistentResource", str(RESOURCE), (RESOURCE,)),
}
IDS = [f"{hook.__name__}.{method}" for hook, method in CALLS]

pytestmark = pytest.mark.usefixtures("relay")


@pytest.fixture
def control(cloud: Cloud) -> Iterator[EmulatorControl]:
    """The emulator's control, with no faults and no calls before the test and no faults after it."""
    control = cloud.emulator.control
    control.clear_faults()
    control.reset_calls()
    yield control
    control.clear_faults()


def make_call(hook_class: type[Any], method: str, arguments: tuple[Any, ...], chain: Any = None) -> None:
    """Make the call of a hook's method, in the event loop if it is an async hook."""
    if not issubclass(hook_class, VertexAsyncHook):
        answer = getattr(hook_class(impersonation_chain=chain), method)(*arguments)
        if method.startswith("list"):
            list(answer)
        return

    async def run() -> None:
        async with hook_class(impersonation_chain=chain) as hook:
            await getattr(hook, method)(*arguments)

    asyncio.run(run())


def test_every_method_is_looked_at() -> None:
    """A method that is added to a hook says which permission it needs, and is denied here."""
    methods = {
        (hook, name)
        for hook in {hook for hook, _ in CALLS}
        for name, value in vars(hook).items()
        if isfunction(value) and not name.startswith("_")
    }
    assert methods == set(CALLS)


@pytest.mark.parametrize(("key", "call"), CALLS.items(), ids=IDS)
@pytest.mark.parametrize("text", [None, "The caller does not have permission"])
def test_a_denied_call(
    control: EmulatorControl,
    key: tuple[type[Any], str],
    call: tuple[str, str, tuple[Any, ...]],
    text: str | None,
) -> None:
    """The error names permission, role, account and thing, after one call, whether the service names it or not."""
    method, thing, arguments = call
    control.add_fault(method, "permission_denied", times=100, text=text)
    with pytest.raises(PermissionDeniedError) as caught:
        make_call(*key, arguments)
    first, said, last = str(caught.value).splitlines()
    caller, needed = "the connection's account (google_cloud_default)", PERMISSIONS[method]
    assert first == f"Permission denied: {caller} lacks {needed} on {thing}"
    assert said.removeprefix("The service says: ").startswith(text or f"Permission '{needed}' denied on ")
    assert last == f"Next step: grant it {' or '.join(ROLES[needed])} in the project."
    assert call_problem(caught.value) is CallProblem.DENIED
    assert isinstance(caught.value.__cause__, GoogleAPICallError)
    assert control.call_counts()[method] == 1


@pytest.mark.parametrize(("key", "call"), CALLS.items(), ids=IDS)
def test_a_denied_account(
    control: EmulatorControl, key: tuple[type[Any], str], call: tuple[str, str, tuple[Any, ...]]
) -> None:
    """The account that is impersonated is the one that lacks the permission."""
    control.add_fault(call[0], "permission_denied")
    with pytest.raises(PermissionDeniedError, match=f"^Permission denied: {TRAINER} lacks "):
        make_call(*key, call[2], chain=["first@acme.iam.gserviceaccount.com", TRAINER])


def test_a_later_page_that_is_denied(
    cloud_with: Callable[..., Cloud], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A list says so whichever of its pages is denied."""
    cloud = cloud_with(executor="simulate")
    monkeypatch.setenv("VERTEX_AI_EMULATOR_HOST", cloud.emulator.address)
    for _ in range(PAGE_SIZE + 1):
        cloud.create(cloud.job(cloud.pool()))
    cloud.emulator.control.add_fault("ListCustomJobs", "permission_denied", skip=1)
    with pytest.raises(PermissionDeniedError, match=r"lacks aiplatform\.customJobs\.list on "):
        list(TrainingJobHook().list_jobs(PROJECT, REGION, CUSTOM_JOBS, ""))


def test_a_log_that_is_denied(control: EmulatorControl) -> None:
    """Reading a log has a permission of its own."""

    async def read() -> None:
        async with VertexAsyncHook() as hook:
            await last_lines(hook, JOB, None, None)

    control.add_fault("ListLogEntries", "permission_denied")
    with pytest.raises(PermissionDeniedError) as caught:
        asyncio.run(read())
    assert "lacks logging.logEntries.list on projects/demo-project\n" in str(caught.value)
    assert str(caught.value).endswith("grant it roles/logging.viewer in the project.")


@pytest.mark.parametrize("code", ["PERMISSION_DENIED", "INVALID_ARGUMENT", "FAILED_PRECONDITION"])
@pytest.mark.parametrize("method", ["create_job", "create"])
def test_an_account_that_may_not_be_acted_as(relay: Relay, code: str, method: str) -> None:
    """Whichever status the service gives it, the error names the account and what is missing on it."""
    hook = TrainingJobHook if method == "create_job" else PersistentResourceHook
    call, _, arguments = CALLS[hook, method]
    text = f"You do not have permission to act as service_account: {TRAINER}. (or it may not exist)."
    relay.refuse(call, code=code, text=text)
    with pytest.raises(PermissionDeniedError) as caught:
        make_call(hook, method, arguments)
    assert f"lacks iam.serviceAccounts.actAs on {TRAINER}\n" in str(caught.value)
    assert str(caught.value).endswith("grant it roles/iam.serviceAccountUser on that account.")


def test_a_caller_that_is_not_known(relay: Relay) -> None:
    """No role helps somebody whom the service does not know, so no permission is named."""
    relay.refuse("GetCustomJob", code="UNAUTHENTICATED", text="who?")
    with pytest.raises(Unauthenticated):
        TrainingJobHook().get_job(JOB)
