# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

from typing import Any

import pytest
from google.api_core import exceptions as api
from google.rpc.error_details_pb2 import ErrorInfo

from airflow_vertex_persistent.call_problems import CallProblem, call_problem, is_transient
from airflow_vertex_persistent.exceptions import PermissionDeniedError
from airflow_vertex_persistent.permissions import (
    ACT_AS,
    IMPERSONATE,
    PERMISSIONS,
    ROLES,
    denial_text,
    denied_account,
    denied_permission,
)

PLACE = "projects/acme/locations/europe-west4"
CONNECTED = "the connection's account (google_cloud_default)"
CALLER, TRAINER = "airflow@acme.iam.gserviceaccount.com", "trainer@acme.iam.gserviceaccount.com"
CREATE = "aiplatform.customJobs.create"
# As gRPC hands on what the credentials met when they wanted a token.
NO_TOKEN = (
    "Getting metadata from plugin failed with error: ('Unable to acquire impersonated credentials', '{\\n  \"error\": "
    '{\\n    "code": 403,\\n    "message": "Permission \\\'iam.serviceAccounts.getAccessToken\\\' denied on resource '
    '(or it may not exist).",\\n    "status": "PERMISSION_DENIED"\\n  }\\n}\')'
)


def said(error: Any, permission: str = CREATE, callers: tuple[str, ...] = (CONNECTED, CALLER)) -> list[str]:
    """Return the lines that are told of a denied call."""
    return denial_text(error, permission, PLACE, callers).splitlines()


def test_every_permission_has_a_role() -> None:
    """No call is denied without a role to name, and no role is kept for nothing."""
    assert set(ROLES) == {*PERMISSIONS.values(), ACT_AS, IMPERSONATE}
    assert all(ROLES.values())
    assert all(role.startswith("roles/") for roles in ROLES.values() for role in roles)


def test_only_jobs_can_be_run_by_a_user() -> None:
    """The role that runs jobs cannot create, change or delete a persistent resource."""
    denied = {call for call, needed in PERMISSIONS.items() if "roles/aiplatform.user" not in ROLES[needed]}
    resource = {f"{verb}PersistentResource" for verb in ("Create", "Delete", "Reboot")}
    assert denied == {*resource, "ListLogEntries"}


@pytest.mark.parametrize(
    ("text", "permission", "account"),
    [
        (
            f"Permission '{CREATE}' denied on resource '//aiplatform.googleapis.com/{PLACE}' (or it may not exist).",
            CREATE,
            None,
        ),
        (f"Permission {CREATE} denied on resource", CREATE, None),
        (
            f"You do not have permission to act as service_account: {TRAINER}. (or it may not exist).",
            ACT_AS,
            TRAINER,
        ),
        (
            f"You do not have permission to act as service account: {TRAINER}. (or it may not exist).",
            ACT_AS,
            TRAINER,
        ),
        (
            f"Permission '{ACT_AS}' denied on service account {TRAINER} (or it may not exist).",
            ACT_AS,
            TRAINER,
        ),
        ("caller does not have permission to act as service account", ACT_AS, None),
        (NO_TOKEN, IMPERSONATE, None),
        ("Permission denied on resource project acme.", None, None),
        ("The caller does not have permission", None, None),
        ("Resources are insufficient in region: europe-west4.", None, None),
        ("", None, None),
    ],
)
def test_what_a_text_of_the_service_names(text: str, permission: str | None, account: str | None) -> None:
    """Permission and account are found in every form that is known."""
    assert denied_permission(text) == permission
    assert denied_account(text) == account


@pytest.mark.parametrize(
    "error",
    [
        PermissionDeniedError("ours"),
        api.PermissionDenied("The caller does not have permission"),
        api.InvalidArgument(f"You do not have permission to act as service_account: {TRAINER}."),
        api.FailedPrecondition(f"You do not have permission to act as service account: {TRAINER}."),
        api.ServiceUnavailable(NO_TOKEN),
    ],
)
def test_what_is_a_denied_call(error: Exception) -> None:
    """A text that names a permission counts more than the status code, and nobody waits for it to pass."""
    assert call_problem(error) is CallProblem.DENIED
    assert not is_transient(error)


@pytest.mark.parametrize("needed", sorted({*PERMISSIONS.values()}))
def test_a_text_that_names_nothing(needed: str) -> None:
    """The permission is the call's, and the message has it, a role, the account, the thing and the service's text."""
    assert said(api.PermissionDenied("The caller does not have permission"), needed) == [
        f"Permission denied: {CALLER} lacks {needed} on {PLACE}",
        "The service says: The caller does not have permission",
        f"Next step: grant it {' or '.join(ROLES[needed])} in the project.",
    ]


def test_the_service_s_own_word_wins() -> None:
    """A create may need more than the permission to create."""
    needed = "aiplatform.persistentResources.get"
    first, _, last = said(api.PermissionDenied(f"Permission '{needed}' denied on resource 'x'"))
    assert first == f"Permission denied: {CALLER} lacks {needed} on {PLACE}"
    assert last == "Next step: grant it roles/aiplatform.user in the project."


def test_a_permission_that_the_table_does_not_have() -> None:
    """Without a role to name, the permission is what to ask for."""
    first, _, last = said(api.PermissionDenied("Permission 'compute.networks.use' denied on resource 'x'"))
    assert first == f"Permission denied: {CALLER} lacks compute.networks.use on {PLACE}"
    assert last == "Next step: grant it a role that has compute.networks.use in the project."


def test_acting_as_a_service_account() -> None:
    """It is on that account that the permission is missing."""
    first, _, last = said(
        api.InvalidArgument(f"You do not have permission to act as service_account: {TRAINER}.")
    )
    assert first == f"Permission denied: {CALLER} lacks {ACT_AS} on {TRAINER}"
    assert last == "Next step: grant it roles/iam.serviceAccountUser on that account."
    first, *_ = said(api.PermissionDenied("caller does not have permission to act as service account"))
    assert first.endswith(f"lacks {ACT_AS} on the service account that it is to run as")


@pytest.mark.parametrize(
    ("callers", "who"),
    [
        ((CONNECTED, TRAINER), CONNECTED),
        ((CONNECTED, CALLER, TRAINER), f"{CONNECTED} or {CALLER}"),
    ],
)
def test_impersonating_a_service_account(callers: tuple[str, ...], who: str) -> None:
    """It is the one before the last that lacks the permission, on the last."""
    first, _, last = said(api.ServiceUnavailable(NO_TOKEN), callers=callers)
    assert first == f"Permission denied: {who} lacks {IMPERSONATE} on {TRAINER}"
    assert last == "Next step: grant it roles/iam.serviceAccountTokenCreator on that account."


@pytest.mark.parametrize("reason", ["SERVICE_DISABLED", "IAM_PERMISSION_DENIED"])
def test_a_reason_that_is_no_missing_role(reason: str) -> None:
    """An API that is switched off is denied as well: then the service's text comes first, and a role second."""
    info = ErrorInfo(reason=reason, domain="googleapis.com")
    error = api.PermissionDenied("Vertex AI API is disabled.", error_info=info)
    first, _, last = said(error)
    if reason == "SERVICE_DISABLED":
        assert first == f"Permission denied: {CALLER} was refused {CREATE} on {PLACE}"
        assert last.startswith("Next step: do what the service says: SERVICE_DISABLED can also be ")
        assert last.endswith("The call itself needs roles/aiplatform.user in the project.")
    else:
        assert first == f"Permission denied: {CALLER} lacks {CREATE} on {PLACE}"
