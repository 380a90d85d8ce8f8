# SPDX-License-Identifier: Apache-2.0
"""Putting the emulator together: server, services, machines, executor, storage, watchdog."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import time
import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from .calls import CallRecord, SubmissionLimit
from .capacity import Capacity
from .executors.process import ProcessExecutor
from .executors.simulate import SimulatedExecutor
from .faults import FaultPlan
from .gate import Gate
from .journal import Journal
from .logs import LogBook, QuietLogBook, utc_now
from .machine_pools import MachinePools
from .ownership import owned
from .quota import Quota
from .runs import JobRuns
from .server import bind_server, control_table, rpc_table, short_name
from .services.control import Control
from .services.jobs import CustomJobs
from .services.logging import Logging
from .services.operations import Operations
from .services.persistent_resources import PersistentResources
from .services.tuning_jobs import TuningJobs
from .settings import EmulatorSettings
from .stock import Stock
from .storage import HOST, Storage
from .store import Store
from .tuning.runs import TuningRuns
from .world import World

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Mapping
    from datetime import datetime
    from pathlib import Path

    import grpc

    from .executors import Executor
    from .server import Rpc

_log = logging.getLogger(__package__)


@dataclass(frozen=True, kw_only=True)
class Options:
    """
    What to serve, and where.

    :param data_dir: gets ``storage``, ``logs``, ``metrics``, ``home`` and ``emulator.log``.
    :param images: image URI -> folder with a Dockerfile.
    :param buckets: created at the start.
    :param port: of the Vertex AI services; 0 takes a free one.
    :param storage_port: of Cloud Storage; 0 takes a free one.
    """

    data_dir: Path
    images: Mapping[str, Path] = field(default_factory=dict)
    buckets: tuple[str, ...] = ()
    port: int = 0
    storage_port: int = 0
    settings: EmulatorSettings = field(default_factory=EmulatorSettings)


@dataclass(frozen=True)
class Addresses:
    """
    Where a running emulator answers.

    :param vertex: ``host:port`` of the gRPC services.
    :param storage: URL of Cloud Storage.
    """

    vertex: str
    storage: str

    @property
    def environment(self) -> dict[str, str]:
        """The variables that send clients here."""
        return {"VERTEX_AI_EMULATOR_HOST": self.vertex, "STORAGE_EMULATOR_HOST": self.storage}


@contextlib.asynccontextmanager
async def serving(options: Options) -> AsyncIterator[Addresses]:
    """
    Serve until the block ends; then end all jobs and leave nothing running.

    :raises OSError: when a port is in use or the data folder cannot be written.
    :raises StorageError: when the storage emulator does not start.
    """
    options.data_dir.mkdir(parents=True, exist_ok=True)
    marker = uuid.uuid4().hex
    with contextlib.ExitStack() as stack:
        stack.enter_context(owned(options.data_dir, marker))
        stack.enter_context(_own_log(options.data_dir / "emulator.log"))
        storage = Storage(options.data_dir, _free_port(options.storage_port), marker)
        stack.callback(storage.stop)
        await asyncio.to_thread(storage.wait_until_ready)
        await asyncio.to_thread(storage.create_buckets, options.buckets)
        async with _services(options, storage, marker) as port:
            yield Addresses(f"{HOST}:{port}", storage.address)


@contextlib.asynccontextmanager
async def _services(options: Options, storage: Storage, marker: str) -> AsyncIterator[int]:
    """Serve the RPCs; in the end, refuse new calls first and then stop what runs."""
    with contextlib.closing(Journal(options.data_dir / "emulator.db")) as journal:
        world = _world(options, storage, marker, Store(journal))
        runs = JobRuns(world)
        operations = Operations(world.store.operations, utc_now)
        resources = PersistentResources(world, runs, operations)
        jobs = CustomJobs(world, runs, operations)
        tunings = TuningRuns(world, runs, jobs.start)
        tuning = TuningJobs(world, tunings, operations)
        table = rpc_table(jobs, tuning, resources, operations, Logging(world.logs, world.store))
        server, port = _server(options, table, world, resources)
        try:
            # Only with the port in our hands: what cannot serve must not touch what it finds.
            resources.resume()
            tuning.resume(jobs)
            await server.start()
            yield port
        finally:
            await server.stop(grace=None)
            await tunings.close()
            await runs.close()
            await resources.close()
            world.pools.close()
            world.capacity.close()


def _server(
    options: Options, table: dict[str, Rpc], world: World, resources: PersistentResources
) -> tuple[grpc.aio.Server, int]:
    """Make the server of the emulated services and of the control, with its port."""
    methods = {short_name(name) for name in table}
    faults, calls = FaultPlan(methods), CallRecord(methods)
    gate = Gate(faults, calls, SubmissionLimit(options.settings.submissions_per_minute, time.monotonic))
    control = Control(faults, calls, resources, world)
    return bind_server(table | control_table(control), gate, options.port)


def _world(options: Options, storage: Storage, marker: str, store: Store) -> World:
    settings = options.settings
    simulated = settings.executor == "simulate"
    executor: Executor = (
        SimulatedExecutor(settings.simulated_seconds)
        if simulated
        else _process_executor(options, storage, marker)
    )

    async def adopt_files(since: datetime) -> None:
        if not simulated:  # replicas that are not run write nothing
            await asyncio.to_thread(storage.adopt_files, since)

    return World(
        store=store,
        pools=MachinePools(settings),
        capacity=Capacity(Stock(settings.stock, utc_now()), utc_now),
        quota=Quota(settings.quota),
        executor=executor,
        logs=(QuietLogBook if simulated else LogBook)(options.data_dir / "logs", utc_now),
        settings=settings,
        clock=utc_now,
        adopt_files=adopt_files,
        metrics=options.data_dir / "metrics",
    )


def _process_executor(options: Options, storage: Storage, marker: str) -> ProcessExecutor:
    home = options.data_dir / "home"
    home.mkdir(exist_ok=True)
    return ProcessExecutor(
        options.images,
        storage=storage.folder,
        home=home,
        variables={"STORAGE_EMULATOR_HOST": storage.address},
        marker=marker,
        grace=options.settings.stop_grace_seconds,
    )


@contextlib.contextmanager
def _own_log(path: Path) -> Iterator[None]:
    """Keep what goes wrong in the emulator itself in a file of its own."""
    handler = logging.FileHandler(path, encoding="utf-8", delay=True)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    _log.addHandler(handler)
    try:
        yield
    finally:
        _log.removeHandler(handler)
        handler.close()


def _free_port(port: int) -> int:
    """
    Check that a port is free, or find one for 0: the storage emulator cannot do either.

    :raises OSError: when the port is in use.
    """
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            raise OSError(f"port {port} is in use") from error
        return int(probe.getsockname()[1])
