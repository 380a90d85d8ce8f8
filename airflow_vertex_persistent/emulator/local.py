# SPDX-License-Identifier: Apache-2.0
"""The emulator inside a Python program: a context manager for tests and notebooks."""

from __future__ import annotations

import asyncio
import concurrent.futures
import tempfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Self

from .control import EmulatorControl
from .settings import EmulatorSettings

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from os import PathLike
    from types import TracebackType

    from .serving import Addresses, Options


class VertexEmulator:
    """
    A local Vertex AI training service, served from a thread of its own while the block runs.

    .. code-block:: python

        images = {"europe-west4-docker.pkg.dev/acme/training/iris:1": "trainer"}
        with VertexEmulator(images=images, buckets=["nightly-models"]) as emulator:
            os.environ.update(emulator.environment)

    :param images: image URI -> folder with a Dockerfile whose ENTRYPOINT and CMD are run in that folder.
    :param data_dir: folder for objects and logs; by default a temporary one that is removed in the end.
    :param port: port of the Vertex AI services on the loopback interface; 0 takes a free one.
    :param storage_port: port of Cloud Storage; 0 takes a free one.
    :param buckets: buckets to create at the start.
    :param settings: how the service behaves and how fast.
    :raises ValueError: when the folder of an image does not exist.
    """

    def __init__(
        self,
        *,
        images: Mapping[str, str | PathLike[str]] | None = None,
        data_dir: str | PathLike[str] | None = None,
        port: int = 0,
        storage_port: int = 0,
        buckets: Iterable[str] = (),
        settings: EmulatorSettings | None = None,
    ) -> None:
        self._images = {uri: Path(folder).resolve() for uri, folder in (images or {}).items()}
        for uri, folder in self._images.items():
            if not folder.is_dir():
                raise ValueError(f"image {uri}: folder {folder} does not exist")
        self._wanted_dir = None if data_dir is None else Path(data_dir).resolve()
        self._ports = port, storage_port
        self._buckets = tuple(buckets)
        self._settings = settings or EmulatorSettings()
        self._temporary: tempfile.TemporaryDirectory[str] | None = None
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self._addresses: Addresses | None = None
        self._data_dir: Path | None = None
        self._control: EmulatorControl | None = None

    def __enter__(self) -> Self:
        """
        Start serving.

        :raises OSError: when a port is in use or the data folder cannot be written.
        """
        # The Google message types cost seconds to import: only who starts an emulator pays for them.
        from .serving import Options

        if self._wanted_dir is None:
            self._temporary = tempfile.TemporaryDirectory(prefix="vertex-emulator-")
        self._data_dir = self._wanted_dir or Path(self._temporary.name)  # type: ignore[union-attr]
        options = Options(
            data_dir=self._data_dir,
            images=self._images,
            buckets=self._buckets,
            port=self._ports[0],
            storage_port=self._ports[1],
            settings=self._settings,
        )
        ready: concurrent.futures.Future[Addresses] = concurrent.futures.Future()
        self._thread = threading.Thread(
            target=self._run, args=(options, ready), name="vertex-emulator", daemon=True
        )
        self._thread.start()
        try:
            self._addresses = ready.result()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """End the jobs that run, stop serving, and remove a temporary data folder."""
        if self._control is not None:
            self._control.close()
            self._control = None
        if self._loop is not None and self._stop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._stop.set)
        if self._thread is not None:
            self._thread.join()
        self._thread = self._loop = self._stop = self._addresses = None
        if self._temporary is not None:
            self._temporary.cleanup()
            self._temporary = None

    def _run(self, options: Options, ready: concurrent.futures.Future[Addresses]) -> None:
        try:
            asyncio.run(self._serve(options, ready))
        except Exception as error:
            if ready.done():
                raise
            ready.set_exception(error)

    async def _serve(self, options: Options, ready: concurrent.futures.Future[Addresses]) -> None:
        from .serving import serving

        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        async with serving(options) as addresses:
            ready.set_result(addresses)
            await self._stop.wait()

    @property
    def _started(self) -> Addresses:
        if self._addresses is None:
            raise RuntimeError("The emulator is not running: use it in a with statement.")
        return self._addresses

    @property
    def address(self) -> str:
        """``host:port`` of the Vertex AI services, the value of VERTEX_AI_EMULATOR_HOST."""
        return self._started.vertex

    @property
    def storage_address(self) -> str:
        """URL of Cloud Storage, the value of STORAGE_EMULATOR_HOST."""
        return self._started.storage

    @property
    def environment(self) -> dict[str, str]:
        """Both addresses as environment variables."""
        return self._started.environment

    @property
    def control(self) -> EmulatorControl:
        """Orders faults, counts calls and sets stock; it is closed along with the emulator."""
        if self._control is None:
            self._control = EmulatorControl(self.address)
        return self._control

    @property
    def data_dir(self) -> Path:
        """Folder with ``storage/BUCKET/OBJECT`` and ``logs/JOB/REPLICA.log``."""
        if self._data_dir is None:
            raise RuntimeError("The emulator has not been started yet.")
        return self._data_dir
