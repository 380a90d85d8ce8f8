# SPDX-License-Identifier: Apache-2.0
"""Replicas as local processes: the image is a folder, its Dockerfile says what to start."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, cast

from airflow_vertex_persistent.emulator.dockerfile import DockerfileError, Image, read_image
from airflow_vertex_persistent.emulator.environment import expand, expanded_environment, mounted
from airflow_vertex_persistent.emulator.process_tree import MARKER, end_tree

from . import CannotStartError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from . import Log, Replica

_NOT_FOUND = 127  # what a shell says of a command that does not exist
_NOT_EXECUTABLE = 126
_DRAIN_SECONDS = 5.0
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class ProcessExecutor:
    """
    Runs replicas as processes of this machine.

    :param images: image URI -> folder with a Dockerfile.
    :param storage: folder with one folder per bucket; what ``/gcs`` stands for.
    :param home: the replicas' HOME, empty so that they never find the user's own credentials.
    :param variables: set on every replica, e.g. STORAGE_EMULATOR_HOST.
    :param marker: marks all processes of this emulator.
    :param grace: seconds between SIGTERM and SIGKILL.
    """

    def __init__(
        self,
        images: Mapping[str, Path],
        *,
        storage: Path,
        home: Path,
        variables: Mapping[str, str],
        marker: str,
        grace: float,
    ) -> None:
        self._images = images
        self._storage = storage
        self._home = home
        self._variables = variables
        self._marker = marker
        self._grace = grace

    async def start(self, replica: Replica) -> RunningProcess:
        """
        Start a replica.

        :raises CannotStartError: for an unknown image, or one without a usable Dockerfile.
        """
        folder = self._images.get(replica.image)
        if folder is None:
            raise CannotStartError(
                f"Failed to pull image {replica.image!r}: the image does not exist.",
                f"No folder stands for image {replica.image!r}. Start the emulator with --image {replica.image}=FOLDER.",
            )
        try:
            image = read_image(folder)
        except DockerfileError as error:
            raise CannotStartError(f"Failed to start image {replica.image!r}: {error}") from error
        environment = self._environment(replica, image)
        argv = self._argv(replica, image, environment, folder)
        if not argv:
            raise CannotStartError(
                f"Failed to start image {replica.image!r}: its Dockerfile has no ENTRYPOINT or CMD, "
                "and the job has no command."
            )
        marker = f"{self._marker}:{replica.id}"
        running = RunningProcess(marker, self._grace, replica.log)
        await running.start(argv, folder, environment | {MARKER: marker})
        return running

    def _environment(self, replica: Replica, image: Image) -> dict[str, str]:
        base = {
            "PATH": f"{Path(sys.executable).parent}:{_PATH}",
            "HOME": str(self._home),
            "LANG": os.environ.get("LANG", "C.UTF-8"),
            "PYTHONUNBUFFERED": "1",  # so that a log can be followed
            "PYTHONDONTWRITEBYTECODE": "1",  # the folder is the user's source tree
            **self._variables,
            **image.env,
            **replica.service(),
        }
        own = [(name, mounted(value, self._storage)) for name, value in replica.env]
        return expanded_environment(own, base)

    def _argv(
        self, replica: Replica, image: Image, environment: Mapping[str, str], folder: Path
    ) -> list[str]:
        # References are expanded in what the job says, not in what the image says, as Kubernetes does it.
        command = [expand(word, environment) for word in replica.command]
        args = [expand(word, environment) for word in replica.args]
        words = [*command, *args] if command else [*image.entrypoint, *(args or image.cmd)]
        argv = [_local(mounted(word, self._storage), image.workdir, folder) for word in words]
        if argv and argv[0] in {"python", "python3"}:
            argv[0] = sys.executable
        return argv


def _local(word: str, workdir: str, folder: Path) -> str:
    """Point a path below the image's WORKDIR to the folder, when the file is there."""
    inside = word.removeprefix(workdir.rstrip("/") + "/")
    return str(folder / inside) if inside != word and workdir != "/" and (folder / inside).exists() else word


class RunningProcess(asyncio.SubprocessProtocol):
    """
    A replica's main process and all that it started.

    The event loop's own protocol says at once when the main process has ended, also when a child of it keeps
    the output open.
    """

    def __init__(self, marker: str, grace: float, log: Log) -> None:
        loop = asyncio.get_running_loop()
        self.exited: asyncio.Future[int] = loop.create_future()
        self._closed: asyncio.Future[None] = loop.create_future()
        self._transport: asyncio.SubprocessTransport | None = None
        self._marker = marker
        self._grace = grace
        self._log = log

    async def start(self, argv: list[str], folder: Path, environment: Mapping[str, str]) -> None:
        """Start the main process; a command that does not exist ends with status 127, as in a shell."""
        try:
            await asyncio.get_running_loop().subprocess_exec(
                lambda: self,
                *argv,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
                cwd=folder,
                env=environment,
                start_new_session=True,  # Ctrl-C is for the emulator, which then ends its replicas in order
            )
        except (OSError, ValueError) as error:
            self._log.write(f"cannot run {argv[0]!r}: {error}\n".encode())
            self.exited.set_result(_NOT_FOUND if isinstance(error, FileNotFoundError) else _NOT_EXECUTABLE)
            self._closed.set_result(None)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by the event loop when the process has been started."""
        self._transport = cast("asyncio.SubprocessTransport", transport)

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        """Called by the event loop with output."""
        self._log.write(data)

    def process_exited(self) -> None:
        """Called by the event loop when the main process has ended."""
        if self._transport is not None and not self.exited.done():
            status = self._transport.get_returncode() or 0
            self.exited.set_result(status if status >= 0 else 128 - status)

    def connection_lost(self, exc: Exception | None) -> None:
        """Called by the event loop when the process has ended and all its output has been read."""
        if not self._closed.done():
            self._closed.set_result(None)

    async def end(self) -> None:
        """End the main process and all that it started, also what changed its session."""
        root = self._transport.get_pid() if self._transport and not self.exited.done() else None
        await asyncio.to_thread(end_tree, root, self._marker, self._grace)
        # Nobody can write any more, so the rest of the output arrives at once.
        await asyncio.wait({self._closed}, timeout=_DRAIN_SECONDS)
        if self._transport is not None:
            self._transport.close()
        self._log.close()
