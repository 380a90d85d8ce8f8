# SPDX-License-Identifier: Apache-2.0
"""
Gives every test run an Airflow home of its own, before the first import of Airflow reads it, and the tests a
relay: a service in front of the emulator that can fail.
"""

from __future__ import annotations

import atexit
import base64
import os
import secrets
import shutil
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
import hypothesis
import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_HOME = Path(tempfile.mkdtemp(prefix="airflow-home-"))
atexit.register(shutil.rmtree, _HOME, ignore_errors=True)

for _name in [name for name in os.environ if name.startswith("AIRFLOW_")]:
    del os.environ[_name]
for _name in ("VERTEX_AI_EMULATOR_HOST", "STORAGE_EMULATOR_HOST"):
    os.environ.pop(_name, None)

(_HOME / "dags").mkdir()
os.environ |= {
    "AIRFLOW_HOME": str(_HOME),
    "AIRFLOW__CORE__DAGS_FOLDER": str(_HOME / "dags"),
    "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
    "AIRFLOW__CORE__UNIT_TEST_MODE": "False",
    "AIRFLOW__CORE__FERNET_KEY": base64.urlsafe_b64encode(secrets.token_bytes(32)).decode(),
}


# How fast a machine is today is not what a test is about.
hypothesis.settings.register_profile("untimed", deadline=None)
hypothesis.settings.load_profile("untimed")


class Relay(grpc.GenericRpcHandler):  # type: ignore[type-arg] # only the stubs have some
    """
    Passes calls on to an emulator, except those that a test wants to fail.

    :param target: Address of the emulator.
    """

    def __init__(self, target: str) -> None:
        self.calls: list[tuple[str, float | None]] = []
        self._failures: dict[str, list[tuple[grpc.StatusCode, str, bool]]] = {}
        self._where: dict[str, bytes] = {}
        self._actions: dict[str, Callable[[], object]] = {}
        self._lock = threading.Lock()
        self._channel = grpc.insecure_channel(target)
        self._server = grpc.server(ThreadPoolExecutor(8))
        self._server.add_generic_rpc_handlers((self,))
        self.address = f"127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"
        self._server.start()

    def close(self) -> None:
        """End all calls."""
        self._server.stop(grace=None).wait()
        self._channel.close()

    def refuse(
        self, method: str, *, code: str = "UNAVAILABLE", text: str = "away", times: int = 1, where: str = ""
    ) -> None:
        """
        Let the next calls of a method fail before they reach the emulator.

        :param where: Text in the call, as ``/locations/us-east4`` for all about one region: calls without it pass.
        """
        self._where[method] = where.encode()
        self._failures[method] = [(grpc.StatusCode[code], text, False)] * times

    def answer(self, method: str) -> None:
        """Let the calls of a method through again."""
        self._failures.pop(method, None)

    def lose_reply(self, method: str) -> None:
        """Let the next call of a method happen, but fail for the caller."""
        self._where[method] = b""
        self._failures[method] = [(grpc.StatusCode.UNAVAILABLE, "connection reset", True)]

    def before(self, method: str, action: Callable[[], object]) -> None:
        """Do something when the next call of a method comes in, before it reaches the emulator."""
        self._actions[method] = action

    def count(self, method: str) -> int:
        """Return how often a method has been called."""
        return sum(name == method for name, _ in self.calls)

    def deadlines(self, method: str) -> list[float | None]:
        """Return the seconds that each call of a method had left when it came in."""
        return [seconds for name, seconds in self.calls if name == method]

    def service(self, handler_call_details: Any) -> Any:
        """Return how to answer one call."""
        path = handler_call_details.method
        return grpc.unary_unary_rpc_method_handler(
            lambda request, context: self._answer(path, request, context)
        )

    def _answer(self, path: str, request: bytes, context: Any) -> bytes:
        method = path.rpartition("/")[2]
        with self._lock:
            self.calls.append((method, context.time_remaining()))
            fails = self._failures.get(method) and self._where.get(method, b"") in request
            failure = self._failures[method].pop(0) if fails else None
            action = self._actions.pop(method, None)
        if action is not None:
            action()
        if failure is not None and not failure[2]:
            context.abort(*failure[:2])
        try:
            reply: bytes = self._channel.unary_unary(path, None, None)(request, timeout=30)
        except grpc.RpcError as error:
            context.abort(error.code(), error.details())
        if failure is not None:
            context.abort(*failure[:2])
        return reply


@pytest.fixture
def start_relay() -> Iterator[Callable[[str], Relay]]:
    """Start a relay in front of the emulator at an address."""
    relays: list[Relay] = []

    def start(target: str) -> Relay:
        relays.append(Relay(target))
        return relays[-1]

    yield start
    for relay in relays:
        relay.close()
