# SPDX-License-Identifier: Apache-2.0
"""The one place that decides endpoint, channel and credentials of a call to Vertex AI."""

from __future__ import annotations

import os
from contextlib import asynccontextmanager, contextmanager
from functools import cached_property
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any, Self, TypeVar

import grpc
from airflow.providers.google.common.consts import CLIENT_INFO
from airflow.providers.google.common.hooks.base_google import (
    PROVIDE_PROJECT_ID,
    GoogleBaseAsyncHook,
    GoogleBaseHook,
)
from airflow.sdk.configuration import conf
from asgiref.sync import sync_to_async
from google.api_core.exceptions import GoogleAPICallError, Unauthenticated
from google.api_core.retry import AsyncRetry, Retry

from airflow_vertex_persistent.call_problems import CallProblem, call_problem, is_transient
from airflow_vertex_persistent.exceptions import InvalidRequestError, PermissionDeniedError
from airflow_vertex_persistent.permissions import PERMISSIONS, denial_text

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Sequence

    from google.auth.credentials import Credentials

ClientT = TypeVar("ClientT")

EMULATOR_HOST = "VERTEX_AI_EMULATOR_HOST"

# Google's client has no deadline and no retry for these services. Every call gets both, except that a
# create is never repeated blindly: its reply may be lost although it happened.
CALL_TIMEOUT = 30.0
CREATE_TIMEOUT = 60.0
RETRY = Retry(predicate=is_transient, initial=0.5, maximum=8.0, multiplier=2.0, timeout=60.0)
# A cancel must be over quickly: a worker that is told to stop is killed after 5 seconds, and a triggerer gives
# its triggers 30.
CANCEL_TIMEOUT = 3.0
CANCEL_RETRY = Retry(predicate=is_transient, initial=0.2, maximum=1.0, multiplier=2.0, timeout=10.0)
ASYNC_CANCEL_RETRY = AsyncRetry(
    predicate=is_transient, initial=0.5, maximum=4.0, multiplier=2.0, timeout=20.0
)


def emulator_address() -> str | None:
    """
    Return ``host:port`` of the local emulator, or ``None`` for the real service.

    Set by the environment variable ``VERTEX_AI_EMULATOR_HOST``. The channel to it is neither encrypted nor
    authenticated, so it must be on this machine.

    :raises InvalidRequestError: The address is not ``host:port``, or not on this machine while
        ``[vertex_persistent] allow_remote_emulator`` is off.
    """
    address = os.environ.get(EMULATOR_HOST, "").strip()
    if not address:
        return None
    host, _, port = address.rpartition(":")
    if not host or "/" in host or not port.isdigit():
        raise InvalidRequestError(
            "request", [f"{EMULATOR_HOST} = {address!r}: write it like '127.0.0.1:8085'"]
        )
    if not _is_loopback(host) and not conf.getboolean(
        "vertex_persistent", "allow_remote_emulator", fallback=False
    ):
        fix = (
            "is not on this machine, and the channel to an emulator carries no credentials and no encryption. "
            "Use 127.0.0.1, or set [vertex_persistent] allow_remote_emulator = True if you mean it."
        )
        raise InvalidRequestError("request", [f"{EMULATOR_HOST} = {address!r}: {fix}"])
    return address


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def account_email(credentials: Credentials) -> str | None:
    """Return the service account of some credentials, ``None`` where that is not known without asking."""
    email = getattr(credentials, "service_account_email", None)
    # A machine's own account is called so until its first token has been fetched.
    return None if email in {"", "default"} else email


class VertexHook(GoogleBaseHook):
    """
    Connection and clients, shared by the hooks of this package.

    Credentials come from the Google provider's base hook: default credentials, key files, workload identity
    and impersonation work as everywhere else. The emulator gets none.

    :param gcp_conn_id: Connection to use.
    :param impersonation_chain: Service account to impersonate, or the chain that leads to it.
    """

    def __init__(
        self,
        gcp_conn_id: str = GoogleBaseHook.default_conn_name,
        impersonation_chain: str | Sequence[str] | None = None,
    ) -> None:
        super().__init__(gcp_conn_id=gcp_conn_id, impersonation_chain=impersonation_chain)
        self._clients: dict[tuple[type[Any], str], Any] = {}

    @cached_property
    def default_project_id(self) -> str:
        """
        Project of the connection or, when it names none, of its credentials.

        :raises InvalidRequestError: Neither names one.
        """
        project = self._get_field("project")
        if not project and emulator_address() is None:
            project = self.project_id
        if not project or project == PROVIDE_PROJECT_ID:
            fix = f"give the operator a project_id, or the connection {self.gcp_conn_id!r} a project"
            raise InvalidRequestError("request", [f"project_id = None: {fix}"])
        return str(project)

    @property
    def callers(self) -> list[str]:
        """Who calls, last, and from the connection's account on who impersonates whom to get there."""
        connected = f"the connection's account ({self.gcp_conn_id})"
        chain = self.impersonation_chain or self._get_field("impersonation_chain") or []
        if isinstance(chain, str):
            chain = [account.strip() for account in chain.split(",")]
        if not chain and emulator_address() is None:
            email = account_email(self.get_credentials())
            chain = [] if email is None else [email]
        return [connected, *chain]

    @contextmanager
    def calling(self, method: str, thing: str) -> Iterator[None]:
        """
        Make a call, and say who lacks which permission if it is denied.

        :param method: The call's name in the API.
        :param thing: Full name of what it is about.
        :raises PermissionDeniedError: It was denied.
        """
        permission = PERMISSIONS[method]
        try:
            yield
        except GoogleAPICallError as error:
            # When the service does not know who calls, no role helps.
            if isinstance(error, Unauthenticated) or call_problem(error) is not CallProblem.DENIED:
                raise
            raise PermissionDeniedError(denial_text(error, permission, thing, self.callers)) from error

    def client(self, client_class: type[ClientT], region: str) -> ClientT:
        """
        Return the client of one service in one region, the same one at each call.

        :param client_class: A sync client class of ``google.cloud.aiplatform_v1``.
        """
        key = (client_class, region)
        if key not in self._clients:
            self._clients[key] = self.new_client(client_class, region, "grpc")
        client: ClientT = self._clients[key]
        return client

    def new_client(self, client_class: Any, region: str | None, transport: str) -> Any:
        """
        Return a new client with the channel that this deployment wants.

        :param region: Of Vertex AI's services; ``None`` for a service that has one endpoint everywhere.
        :param transport: ``"grpc"`` for a sync client class, ``"grpc_asyncio"`` for an async one.
        """
        address = emulator_address()
        if address is not None:
            library: Any = grpc.aio if transport == "grpc_asyncio" else grpc
            channel = library.insecure_channel(address)
            return client_class(transport=client_class.get_transport_class(transport)(channel=channel))
        return client_class(
            credentials=self.get_credentials(),
            transport=transport,
            client_info=CLIENT_INFO,
            client_options=self.get_client_options(region and f"{region}-aiplatform.googleapis.com"),
        )


class VertexAsyncHook(GoogleBaseAsyncHook):
    """
    The same connection and clients for the event loop; see :class:`VertexHook`.

    Reading the connection and getting credentials block, so both happen in a thread. Use it as an async
    context manager, which closes its channels.
    """

    sync_hook_class = VertexHook

    def __init__(
        self,
        gcp_conn_id: str = GoogleBaseHook.default_conn_name,
        impersonation_chain: str | Sequence[str] | None = None,
    ) -> None:
        super().__init__(gcp_conn_id=gcp_conn_id, impersonation_chain=impersonation_chain)
        self._clients: dict[tuple[type[Any], str | None], Any] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        for client in self._clients.values():
            await client.transport.close()
        self._clients.clear()

    @asynccontextmanager
    async def calling(self, method: str, thing: str) -> AsyncIterator[None]:
        """Make a call, and say who lacks which permission if it is denied; see :meth:`VertexHook.calling`."""
        with (await self.get_sync_hook()).calling(method, thing):
            yield

    async def client(self, client_class: type[ClientT], region: str | None) -> ClientT:
        """
        Return the client of one service in one region, the same one at each call.

        :param client_class: An async client class of Google's.
        :param region: ``None`` for a service that has one endpoint everywhere.
        """
        key = (client_class, region)
        if key not in self._clients:
            hook = await self.get_sync_hook()
            if emulator_address() is None:
                await sync_to_async(hook.get_credentials)()
            self._clients[key] = hook.new_client(client_class, region, "grpc_asyncio")
        client: ClientT = self._clients[key]
        return client
