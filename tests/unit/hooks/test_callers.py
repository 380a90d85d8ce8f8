# SPDX-License-Identifier: Apache-2.0
"""Who calls, as far as a hook can tell without asking anybody."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from google.auth.compute_engine import Credentials as MachineCredentials
from google.auth.credentials import AnonymousCredentials

from airflow_vertex_persistent.hooks.client import EMULATOR_HOST, VertexHook, account_email

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

ACCOUNT = "airflow@acme.iam.gserviceaccount.com"
FIRST, LAST = "first@acme.iam.gserviceaccount.com", "trainer@acme.iam.gserviceaccount.com"
CONNECTED = "the connection's account (google_cloud_default)"


def test_the_account_of_a_key(connect: Callable[..., None], key: dict[str, str]) -> None:
    """A key says whose it is."""
    connect(keyfile_dict=json.dumps(key))
    assert VertexHook().callers == [CONNECTED, ACCOUNT]


@pytest.mark.parametrize(("chain", "accounts"), [(LAST, [LAST]), ([FIRST, LAST], [FIRST, LAST])])
def test_the_accounts_of_a_chain(
    connect: Callable[..., None], key: dict[str, str], chain: str | list[str], accounts: list[str]
) -> None:
    """The last account of the task's chain calls, whatever the connection's own is."""
    connect(keyfile_dict=json.dumps(key))
    assert VertexHook(impersonation_chain=chain).callers == [CONNECTED, *accounts]


def test_a_chain_in_the_connection(connect: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection may name the chain as well, also for the emulator, which gets no credentials."""
    monkeypatch.setenv(EMULATOR_HOST, "127.0.0.1:8085")
    connect(project="acme", impersonation_chain=f"{FIRST}, {LAST}")
    assert VertexHook().callers == [CONNECTED, FIRST, LAST]
    assert VertexHook(impersonation_chain=FIRST).callers == [CONNECTED, FIRST]


def test_a_user(connect: Callable[..., None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The connection stands for a user, whose name is not in the credentials; nor is anything of them shown."""
    path = tmp_path / "adc.json"
    user = {"type": "authorized_user", "client_id": "c", "client_secret": "s", "refresh_token": "r"}
    path.write_text(json.dumps(user))
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(path))
    monkeypatch.setenv(
        "GOOGLE_CLOUD_PROJECT", "acme"
    )  # older Google providers ask for one, whatever the connection says
    connect(project="acme")
    assert VertexHook().callers == [CONNECTED]


def test_nobody(connect: Callable[..., None], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Anonymous callers go by their connection, and for the emulator no credentials are read."""
    connect(project="acme", is_anonymous=True)
    assert VertexHook().callers == [CONNECTED]
    monkeypatch.setenv(EMULATOR_HOST, "127.0.0.1:8085")
    connect(project="acme", key_path=str(tmp_path / "there-is-no-such-key.json"))
    assert VertexHook().callers == [CONNECTED]


def test_a_machine_that_has_not_been_asked_yet() -> None:
    """The word that stands for a machine's account is no address."""
    machine = MachineCredentials()
    assert account_email(machine) is None
    assert account_email(MachineCredentials(service_account_email=ACCOUNT)) == ACCOUNT
    assert account_email(AnonymousCredentials()) is None
