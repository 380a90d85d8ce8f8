# SPDX-License-Identifier: Apache-2.0
"""How replicas are run: as local processes, or not at all."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Mapping, Sequence


class CannotStartError(Exception):
    """
    A replica cannot be started at all, e.g. because its image does not exist.

    :param advice: for the log: what the user of the emulator can do about it.
    """

    def __init__(self, text: str, advice: str = "") -> None:
        super().__init__(text)
        self.advice = advice


class Log(Protocol):
    """Takes what a replica prints."""

    def write(self, data: bytes) -> None:
        """Take the next piece of output; it need not end with a line."""

    def close(self) -> None:
        """No more output: what is left without a line end is a line."""


@dataclass(frozen=True)
class Replica:
    """
    What to run.

    :param id: different for each run of each replica; letters, digits, ``:`` and ``-``.
    :param image: image URI.
    :param command: replaces the image's entry point when not empty.
    :param args: replace the image's arguments when not empty, or when there is a command.
    :param service: gives the variables that Vertex AI sets; working them out takes ports and time.
    :param env: variables that the job asks for, in order.
    :param log: takes standard output and standard error.
    """

    id: str
    image: str
    log: Log
    command: Sequence[str] = ()
    args: Sequence[str] = ()
    service: Callable[[], Mapping[str, str]] = dict
    env: Sequence[tuple[str, str]] = ()


class Running(Protocol):
    """A replica that has been started."""

    exited: asyncio.Future[int]
    """Exit status of the main process, 128 + N for signal N."""

    async def end(self) -> None:
        """End everything that the replica started; harmless when it has ended itself."""


class Executor(Protocol):
    """Starts replicas."""

    async def start(self, replica: Replica) -> Running:
        """
        Start one replica.

        :raises CannotStartError: when that is not possible.
        """
