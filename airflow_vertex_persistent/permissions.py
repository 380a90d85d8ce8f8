# SPDX-License-Identifier: Apache-2.0
"""Which IAM permission a call needs, which predefined roles have it, and which one a refusal names."""

from __future__ import annotations

import re

PERMISSIONS = {
    "CreateCustomJob": "aiplatform.customJobs.create",
    "GetCustomJob": "aiplatform.customJobs.get",
    "ListCustomJobs": "aiplatform.customJobs.list",
    "CancelCustomJob": "aiplatform.customJobs.cancel",
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
