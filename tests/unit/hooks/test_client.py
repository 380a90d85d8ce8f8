# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest
from google.auth.credentials import AnonymousCredentials
from google.auth.impersonated_credentials import Credentials as ImpersonatedCredentials
from google.cloud.aiplatform_v1 import (
    JobServiceAsyncClient,
    JobServiceClient,
    PersistentResourceServiceAsyncClient,
    PersistentResourceServiceClient,
)
from google.oauth2.service_account import Credentials as KeyCredentials

from airflow_vertex_persistent.exceptions import InvalidRequestError
from airflow_vertex_persistent.hooks.client import (
    EMULATOR_HOST,
    VertexAsyncHook,
    VertexHook,
    emulator_address,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

ALLOW = "AIRFLOW__VERTEX_PERSISTENT__ALLOW_REMOTE_EMULATOR"
ACCOUNT = "airflow@acme.iam.gserviceaccount.com"


@pytest.mark.parametrize(
    "address", ["127.0.0.1:8085", "localhost:8085", "127.1.2.3:1", "[::1]:8085", " 127.0.0.1:8085 "]
)
def test_an_emulator_on_this_machine(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    """Every way to write this machine is taken."""
    monkeypatch.setenv(EMULATOR_HOST, address)
    assert emulator_address() == address.strip()


@pytest.mark.parametrize("address", [None, "", "  "])
def test_no_emulator(monkeypatch: pytest.MonkeyPatch, address: str | None) -> None:
    """Without the variable the real service is meant."""
    monkeypatch.delenv(EMULATOR_HOST, raising=False)
    if address is not None:
        monkeypatch.setenv(EMULATOR_HOST, address)
    assert emulator_address() is None


@pytest.mark.parametrize(
    "address",
    ["127.0.0.1", ":8085", "127.0.0.1:", "127.0.0.1:http", "http://127.0.0.1:8085", "127.0.0.1:8085/"],
)
def test_an_address_of_the_wrong_form(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    """Something else than host and port is told with how to write it."""
    monkeypatch.setenv(EMULATOR_HOST, address)
    with pytest.raises(ValueError, match="write it like '127") as caught:
        emulator_address()
    assert f"{EMULATOR_HOST} = {address!r}" in str(caught.value)


@pytest.mark.parametrize("address", ["10.0.0.5:8085", "0.0.0.0:8085", "emulator:8085", "[2001:db8::1]:8085"])
def test_an_emulator_elsewhere(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    """Another machine is refused, with the option that allows it, unless that option is set."""
    monkeypatch.setenv(EMULATOR_HOST, address)
    with pytest.raises(ValueError, match="allow_remote_emulator = True if you mean it"):
        emulator_address()
    monkeypatch.setenv(ALLOW, "False")
    with pytest.raises(ValueError, match="is not on this machine"):
        emulator_address()
    monkeypatch.setenv(ALLOW, "True")
    assert emulator_address() == address


def test_the_emulator_gets_no_credentials(
    monkeypatch: pytest.MonkeyPatch, connect: Callable[..., None], tmp_path: Path
) -> None:
    """Credentials are not even read for the emulator: a connection without any, or with broken ones, works."""
    connect(project="acme", key_path=str(tmp_path / "there-is-no-such-key.json"))
    monkeypatch.setenv(EMULATOR_HOST, "127.0.0.1:8085")
    client: Any = VertexHook().client(JobServiceClient, "europe-west4")
    try:
        assert client.transport.grpc_channel is not None
    finally:
        client.transport.close()


@pytest.mark.parametrize("client_class", [JobServiceClient, PersistentResourceServiceClient])
@pytest.mark.parametrize("region", ["europe-west4", "us-central1"])
def test_the_real_service_is_regional(
    connect: Callable[..., None], client_class: type[JobServiceClient], region: str
) -> None:
    """A client of the real service talks to the endpoint of its region."""
    connect(project="acme", is_anonymous=True)
    client = VertexHook().client(client_class, region)
    try:
        assert client.api_endpoint == f"{region}-aiplatform.googleapis.com"
        assert client.transport.host == f"{region}-aiplatform.googleapis.com:443"
    finally:
        client.transport.close()


@pytest.mark.parametrize("client_class", [JobServiceAsyncClient, PersistentResourceServiceAsyncClient])
def test_the_real_service_is_regional_from_the_event_loop(
    connect: Callable[..., None], client_class: type[JobServiceAsyncClient]
) -> None:
    """An async client talks to the endpoint of its region, once per region."""
    connect(project="acme", is_anonymous=True)

    async def endpoints() -> list[str]:
        async with VertexAsyncHook() as hook:
            first = await hook.client(client_class, "europe-west4")
            other = await hook.client(client_class, "us-central1")
            assert await hook.client(client_class, "europe-west4") is first
            return [first.api_endpoint, other.api_endpoint]

    expected = ["europe-west4-aiplatform.googleapis.com", "us-central1-aiplatform.googleapis.com"]
    assert asyncio.run(endpoints()) == expected


def test_a_client_is_made_once_per_service_and_region(connect: Callable[..., None]) -> None:
    """A hook does not open a channel for every call."""
    connect(project="acme", is_anonymous=True)
    hook = VertexHook()
    jobs = hook.client(JobServiceClient, "europe-west4")
    others: list[Any] = [
        hook.client(JobServiceClient, "us-central1"),
        hook.client(PersistentResourceServiceClient, "europe-west4"),
    ]
    try:
        assert hook.client(JobServiceClient, "europe-west4") is jobs
        assert jobs not in others
    finally:
        for client in (jobs, *others):
            client.transport.close()


def credentials_of(hook: VertexHook) -> Any:
    """Return the credentials that a client of the hook uses."""
    client = hook.client(JobServiceClient, "europe-west4")
    try:
        return client.transport._credentials
    finally:
        client.transport.close()


def test_an_anonymous_connection(connect: Callable[..., None]) -> None:
    """A connection that says so uses no credentials on the real service either."""
    connect(project="acme", is_anonymous=True)
    assert isinstance(credentials_of(VertexHook()), AnonymousCredentials)


@pytest.mark.parametrize("how", ["key_path", "keyfile_dict"])
def test_a_key_in_the_connection(
    connect: Callable[..., None], key: dict[str, str], tmp_path: Path, how: str
) -> None:
    """The account of a connection's key, as a file or in the connection itself, is who calls."""
    path = tmp_path / "key.json"
    path.write_text(json.dumps(key))
    connect(**{how: str(path) if how == "key_path" else json.dumps(key)})
    hook = VertexHook()
    credentials = credentials_of(hook)
    assert isinstance(credentials, KeyCredentials)
    assert credentials.service_account_email == ACCOUNT
    assert hook.default_project_id == "project-of-the-key"


@pytest.mark.parametrize(
    ("chain", "target", "delegates"),
    [
        ("trainer@acme.iam.gserviceaccount.com", "trainer@acme.iam.gserviceaccount.com", []),
        (
            ["first@acme.iam.gserviceaccount.com", "trainer@acme.iam.gserviceaccount.com"],
            "trainer@acme.iam.gserviceaccount.com",
            ["first@acme.iam.gserviceaccount.com"],
        ),
    ],
)
def test_an_impersonation_chain(
    connect: Callable[..., None],
    key: dict[str, str],
    chain: str | list[str],
    target: str,
    delegates: list[str],
) -> None:
    """The last account of a chain is who calls, reached through the others from the connection's own."""
    connect(keyfile_dict=json.dumps(key))
    credentials = credentials_of(VertexHook(impersonation_chain=chain))
    assert isinstance(credentials, ImpersonatedCredentials)
    assert credentials.service_account_email == target
    assert (credentials._delegates or []) == delegates
    assert credentials._source_credentials.service_account_email == ACCOUNT


def test_the_event_loop_uses_the_same_credentials(connect: Callable[..., None], key: dict[str, str]) -> None:
    """Sync and async hooks of one connection and chain are the same caller."""
    connect(keyfile_dict=json.dumps(key))
    chain = "trainer@acme.iam.gserviceaccount.com"

    async def credentials() -> Any:
        async with VertexAsyncHook(impersonation_chain=chain) as hook:
            client = await hook.client(JobServiceAsyncClient, "europe-west4")
            return client.transport._credentials

    found = asyncio.run(credentials())
    assert isinstance(found, ImpersonatedCredentials)
    assert found.service_account_email == chain


def test_the_project_of_the_connection(connect: Callable[..., None], key: dict[str, str]) -> None:
    """The connection's project wins over that of its key."""
    connect(project="acme", keyfile_dict=json.dumps(key))
    assert VertexHook().default_project_id == "acme"


def test_no_project_anywhere(monkeypatch: pytest.MonkeyPatch, connect: Callable[..., None]) -> None:
    """A connection without a project is told with what to do."""
    connect(is_anonymous=True)
    monkeypatch.setenv(EMULATOR_HOST, "127.0.0.1:8085")
    with pytest.raises(
        InvalidRequestError, match="project_id = None: give the operator a project_id, or the"
    ):
        _ = VertexHook().default_project_id
    monkeypatch.delenv(EMULATOR_HOST)
    with pytest.raises(InvalidRequestError, match="or the connection 'google_cloud_default' a project"):
        _ = VertexHook().default_project_id
