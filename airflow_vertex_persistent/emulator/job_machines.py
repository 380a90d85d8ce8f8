# SPDX-License-Identifier: Apache-2.0
"""How one job gets its machines: from a persistent resource, on demand, as Spot, or in the queue of Flex Start."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

from google.cloud.aiplatform_v1.types import JobState
from google.rpc import code_pb2
from google.rpc.status_pb2 import Status

from . import messages
from .demand import is_flex_start, is_spot, job_quota, machines_of, wait_limit
from .world import JobEndedError, Outcome, failed

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from google.cloud.aiplatform_v1.types import CustomJob

    from .names import Key
    from .world import JobPlan, World

_EXPIRED = {
    "failed": (JobState.JOB_STATE_FAILED, code_pb2.RESOURCE_EXHAUSTED),
    "cancelled": (JobState.JOB_STATE_CANCELLED, code_pb2.CANCELLED),
    "expired": (JobState.JOB_STATE_EXPIRED, code_pb2.DEADLINE_EXCEEDED),
}


class Machines(ABC):
    """
    Machines of one job.

    :param world: what it needs of the emulator.
    :param key: the job.
    """

    def __init__(self, world: World, key: Key) -> None:
        self._world = world
        self._key = key
        self.preempted = asyncio.Event()
        """Set when the job has to give back its machines; only Spot jobs ever have to."""

    @abstractmethod
    async def get(self) -> None:
        """
        Wait for the machines; waiting in a queue has begun when this was made.

        :raises JobEndedError: when there are none for the job.
        """

    def lose(self) -> None:  # noqa: B027 - only what is preempted does
        """
        Give back the machines of a preempted job, which is to get others.

        :raises JobEndedError: when it is not.
        """

    def leave(self) -> None:  # noqa: B027 - only a queue has places
        """Give up the place in the queue for a job that still waits and is going to end."""

    def release(self) -> None:  # noqa: B027 - who has none gives none back
        """Give back the machines, or the place in the queue; harmless when it has neither."""

    def _say(self, text: str) -> None:
        self._world.logs.say(self._key.id, text)

    async def _provision(self) -> None:
        self._say("Vertex AI is provisioning job running framework...")
        await asyncio.sleep(self._world.settings.provisioning_seconds)


def machines_for(
    world: World, key: Key, plan: JobPlan, job: CustomJob, show: Callable[[int], None]
) -> Machines:
    """
    Let a job queue for its machines.

    :param show: puts the job into a state in which it waits.
    """
    if plan.stockout:
        return SoldOut(world, key, plan.stockout)
    if plan.resource:
        return PoolMachines(world, key, plan.resource, plan.needs)
    return OwnMachines(world, key, job, show)


class SoldOut(Machines):
    """
    No machines at all.

    :param text: the reason, with ``{region}`` to be filled in.
    """

    def __init__(self, world: World, key: Key, text: str) -> None:
        super().__init__(world, key)
        self._text = text

    async def get(self) -> None:
        """Find after a while that there are none."""
        await self._provision()
        text = self._text.replace("{region}", str(self._key.location.region))
        raise failed(code_pb2.RESOURCE_EXHAUSTED, text)


class PoolMachines(Machines):
    """
    Machines of a persistent resource.

    :param needs: how many of which pool.
    """

    def __init__(self, world: World, key: Key, resource: Key, needs: Mapping[str, int]) -> None:
        super().__init__(world, key)
        self._resource = resource
        self._turned_away = not world.pools.claim(key, resource, needs)

    async def get(self) -> None:
        """Wait for those that others use."""
        if self._turned_away:
            raise failed(code_pb2.RESOURCE_EXHAUSTED, messages.resource_busy(self._resource.id))
        await self._world.pools.machines(self._key)
        await asyncio.sleep(self._world.settings.warm_start_seconds)

    def release(self) -> None:
        """Let others have them."""
        self._world.pools.release(self._key, self._resource)


class OwnMachines(Machines):
    """
    Machines for one job alone: on demand, Spot or Flex Start.

    :param job: as it was created.
    :param show: puts the job into a state in which it waits.
    """

    def __init__(self, world: World, key: Key, job: CustomJob, show: Callable[[int], None]) -> None:
        super().__init__(world, key)
        self._region = str(key.location.region)
        self._created = job.create_time
        self._limit = wait_limit(job.job_spec)
        self._needs = machines_of(job.job_spec, key.location)
        self._flex_start, self._spot = is_flex_start(job.job_spec), is_spot(job.job_spec)
        self._show = show
        self._failures = 0
        self._turn: asyncio.Event | None = None
        self._quota = job_quota(job.job_spec, key.location)
        self._has_quota = world.quota.queue(key, self._quota)
        if not self._has_quota.is_set():
            show(JobState.JOB_STATE_QUEUED)
        elif self._flex_start:
            self._turn = self._queue()

    def _queue(self) -> asyncio.Event:
        """Let a Flex Start job that has its quota wait for machines."""
        turn = self._world.capacity.queue(self._key, self._needs)
        waits_queued = self._world.settings.flex_start_wait_state == "queued" and not turn.is_set()
        self._show(JobState.JOB_STATE_QUEUED if waits_queued else JobState.JOB_STATE_PENDING)
        return turn

    async def get(self) -> None:
        """Wait for quota, then for one's turn, or look for machines a few times."""
        if not self._has_quota.is_set():
            for metric, limit, in_use in self._world.quota.limited(self._quota):
                self._say(messages.waits_for_quota(metric, limit, in_use))
        await self._in_time()
        self._show(JobState.JOB_STATE_PENDING)
        await self._provision()
        while not self._flex_start and not self._taken():
            self._fail_again()
            self._say(f"No machines are free in {self._region}; looking again.")
            await asyncio.sleep(self._world.settings.provisioning_seconds)

    async def _in_time(self) -> None:
        """Wait for quota and one's turn, as long as the job may."""
        left = None
        if self._limit is not None:
            # Since its creation: a restart of the emulator in between changes nothing.
            left = self._limit - (self._world.clock() - self._created).total_seconds()
        if left is not None and left <= 0:
            raise self._expired()
        try:
            async with asyncio.timeout(left):
                await self._has_quota.wait()
                if self._flex_start:
                    self._turn = self._turn or self._queue()
                    await self._turn.wait()
        except TimeoutError:
            raise self._expired() from None

    def _taken(self) -> bool:
        preempted = self.preempted if self._spot else None
        return self._world.capacity.take(self._key, self._needs, preempted)

    def _expired(self) -> JobEndedError:
        state, code = _EXPIRED[self._world.settings.flex_start_expiry]
        text = messages.wait_expired(self._region, self._limit or 0)
        self._say(text)
        return JobEndedError(Outcome(state, Status(code=code, message=text)))

    def _fail_again(self) -> None:
        settings = self._world.settings
        self._failures += 1
        if self._failures > (settings.spot_restarts if self._spot else settings.stockout_retries):
            raise failed(code_pb2.RESOURCE_EXHAUSTED, messages.stockout(self._region))

    def lose(self) -> None:
        """Give back the machines and keep the quota; once too often, and the job has failed."""
        self._world.capacity.release(self._key)
        self.preempted.clear()
        self._say("The job was preempted; it is run again when there are machines.")
        self._fail_again()

    def leave(self) -> None:
        """Let others move up now: they need not wait for the job's end."""
        self.release()

    def release(self) -> None:
        """Let others have machines and quota."""
        self._world.capacity.release(self._key)
        self._world.quota.release(self._key)
