# SPDX-License-Identifier: Apache-2.0
"""The connection that a hook reads."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

if TYPE_CHECKING:
    from collections.abc import Callable

CONNECTION = "AIRFLOW_CONN_GOOGLE_CLOUD_DEFAULT"
ACCOUNT = "airflow@acme.iam.gserviceaccount.com"


@pytest.fixture
def connect(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Set the connection's extra fields."""

    def set_extra(**extra: Any) -> None:
        connection = {"conn_type": "google_cloud_platform", "extra": extra}
        monkeypatch.setenv(CONNECTION, json.dumps(connection))

    return set_extra


@pytest.fixture(scope="module")
def key() -> dict[str, str]:
    """The content of a service account's key file."""
    private = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = private.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return {
        "type": "service_account",
        "project_id": "project-of-the-key",
        "private_key_id": "1",
        "private_key": pem.decode(),
        "client_email": ACCOUNT,
        "client_id": "1",
        "token_uri": "https://oauth2.googleapis.com/token",
    }
