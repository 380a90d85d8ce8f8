# SPDX-License-Identifier: Apache-2.0
"""Replicas that are not run at all: they take a while and exit, so that thousands fit on one machine."""

from __future__ import annotations

import asyncio
import math
from typing import TYPE_CHECKING

from . import CannotStartError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from . import Replica

RUN_SECONDS = "EMULATOR_RUN_SECONDS"
EXIT_CODE = "EMULATOR_EXIT_CODE"
_TERMINATED = 128 + 15
_LARGEST_CODE = 255


class SimulatedExecutor:
    """
    Pretends to run replicas of any image.

    A container's own variables ``EMULATOR_RUN_SECONDS`` and ``EMULATOR_EXIT_CODE`` say how long it runs and how it
    exits.

    :param seconds: how long a replica runs that does not say so.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    async def start(self, replica: Replica) -> SimulatedReplica:
        """
        Start a replica.

        :raises CannotStartError: when its variables are not what they should be.
        """
        env = dict(replica.env)
        return SimulatedReplica(_run_seconds(env, self._seconds), _exit_code(env))


class SimulatedReplica:
    """
    A replica that is nothing but its end.

    :param seconds: until it exits.
    :param code: its exit status.
    """

    def __init__(self, seconds: float, code: int) -> None:
        loop = asyncio.get_running_loop()
        self.exited: asyncio.Future[int] = loop.create_future()
        self._timer = loop.call_later(seconds, self._exit, code)

    def _exit(self, code: int) -> None:
        if not self.exited.done():
            self.exited.set_result(code)

    async def end(self) -> None:
        """Let it exit now, as if by SIGTERM."""
        self._timer.cancel()
        self._exit(_TERMINATED)


def _run_seconds(env: Mapping[str, str], default: float) -> float:
    text = env.get(RUN_SECONDS)
    if text is None:
        return default
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 <= seconds < math.inf:
        raise CannotStartError(f"{RUN_SECONDS}={text!r} is no number of seconds.")
    return seconds


def _exit_code(env: Mapping[str, str]) -> int:
    text = env.get(EXIT_CODE, "0")
    if not (text.isascii() and text.isdecimal() and int(text) <= _LARGEST_CODE):
        raise CannotStartError(f"{EXIT_CODE}={text!r} is no exit status (0 to {_LARGEST_CODE}).")
    return int(text)
