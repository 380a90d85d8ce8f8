# SPDX-License-Identifier: Apache-2.0
"""Which IAM permission a call needs, which predefined roles have it, and what a refusal says of both."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from google.api_core.exceptions import GoogleAPICallError

PERMISSIONS = {
    "CreateCustomJob": "aiplatform.customJobs.create",
    "GetCustomJob": "aiplatform.customJobs.get",
    "ListCustomJobs": "aiplatform.customJobs.list",
    "CancelCustomJob": "aiplatform.customJobs.cancel",
    "CreateHyperparameterTuningJob": "aiplatform.hyperparameterTuningJobs.create",
    "GetHyperparameterTuningJob": "aiplatform.hyperparameterTuningJobs.get",
    "ListHyperparameterTuningJobs": "aiplatform.hyperparameterTuningJobs.list",
    "CancelHyperparameterTuningJob": "aiplatform.hyperparameterTuningJobs.cancel",
    "CreatePersistentResource": "aiplatform.persistentResources.create",
    "GetPersistentResource": "aiplatform.persistentResources.get",
    "ListPersistentResources": "aiplatform.persistentResources.list",
    "RebootPersistentResource": "aiplatform.persistentResources.update",
    "DeletePersistentResource": "aiplatform.persistentResources.delete",
    "ListLogEntries": "logging.logEntries.list",
}
"""What the caller needs, by the call's name in the API."""

ACT_AS = "iam.serviceAccounts.actAs"
"""What the caller needs on the service account that a job or a resource is to run as."""
IMPERSONATE = "iam.serviceAccounts.getAccessToken"
"""What an account needs on the next one of an impersonation chain."""

_USER = ("roles/aiplatform.user",)
_OWNER = ("roles/aiplatform.admin", "roles/aiplatform.editor")

ROLES = {
    "aiplatform.customJobs.create": _USER,
    "aiplatform.customJobs.get": _USER,
    "aiplatform.customJobs.list": _USER,
    "aiplatform.customJobs.cancel": _USER,
    "aiplatform.hyperparameterTuningJobs.create": _USER,
    "aiplatform.hyperparameterTuningJobs.get": _USER,
    "aiplatform.hyperparameterTuningJobs.list": _USER,
    "aiplatform.hyperparameterTuningJobs.cancel": _USER,
    "aiplatform.persistentResources.create": _OWNER,
    "aiplatform.persistentResources.get": _USER,
    "aiplatform.persistentResources.list": _USER,
    "aiplatform.persistentResources.update": ("roles/aiplatform.admin",),
    "aiplatform.persistentResources.delete": _OWNER,
    "logging.logEntries.list": ("roles/logging.viewer",),
    ACT_AS: ("roles/iam.serviceAccountUser",),
    IMPERSONATE: ("roles/iam.serviceAccountTokenCreator",),
}
"""Predefined roles that have a permission."""

_DENIED = re.compile(r"permission\W{1,6}([a-z]+\.\w+\.\w+)\W{1,6}denied", re.IGNORECASE)
_ACT_AS_DENIED = re.compile(r"permission to act as service", re.IGNORECASE)
_ACCOUNT = re.compile(r"service[ _]account\W{1,6}([\w.-]+@[\w.-]+\w)", re.IGNORECASE)


def denied_permission(text: str) -> str | None:
    """
    Return the permission that is missing as the service's text has it, ``None`` if it names none.

    Acting as a service account is refused with other status codes too, and a refused impersonation looks as if
    the service were away: both can only be told by their text.
    """
    if _ACT_AS_DENIED.search(text):
        return ACT_AS
    match = _DENIED.search(text)
    return match and match[1]


def denied_account(text: str) -> str | None:
    """Return the service account that the service's text says may not be acted as, ``None`` if it names none."""
    match = _ACCOUNT.search(text)
    return match and match[1]


def denial_text(error: GoogleAPICallError, permission: str, thing: str, callers: Sequence[str]) -> str:
    """
    Return what to tell of a call that was denied: which permission, which role has it, and which account lacks it.

    :param permission: What the call needs; one that the service's text names wins.
    :param thing: Full name of what the call was about.
    :param callers: Who calls, last, and who impersonates whom to get there.
    """
    text = error.message or ""
    caller, place = callers[-1], "in the project"
    permission = denied_permission(text) or permission
    if permission == ACT_AS:
        thing, place = denied_account(text) or "the service account that it is to run as", "on that account"
    elif permission == IMPERSONATE:
        caller, thing, place = " or ".join(callers[:-1] or callers), caller, "on that account"
    roles = " or ".join(ROLES.get(permission, ())) or f"a role that has {permission}"
    verb, next_step = "lacks", f"grant it {roles} {place}."
    if error.reason not in {None, "IAM_PERMISSION_DENIED"}:
        verb = "was refused"
        next_step = (
            f"do what the service says: {error.reason} can also be the project's id, its APIs or billing, or a "
            f"policy of the organization. The call itself needs {roles} {place}."
        )
    return (
        f"Permission denied: {caller} {verb} {permission} on {thing}\n"
        f"The service says: {text}\nNext step: {next_step}"
    )
