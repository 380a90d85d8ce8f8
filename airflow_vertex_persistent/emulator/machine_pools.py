# SPDX-License-Identifier: Apache-2.0
"""Waiting for the machines of persistent resources: the cluster's accounts, with time added."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from .cluster import Cluster
from .turns import Turns

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .names import Key
    from .settings import EmulatorSettings


class MachinePools:
    """
    Lets jobs wait for machines, and autoscaled pools shrink when they have been idle.

    :param settings: how long growing takes and when idle machines are given back.
    """

    def __init__(self, settings: EmulatorSettings) -> None:
        self.cluster = Cluster(can_grow=not settings.scale_up_stockout)
        self._settings = settings
        self._turns = Turns()
        self._shrinking: dict[Key, asyncio.TimerHandle] = {}

    def claim(self, job: Key, resource: Key, needs: Mapping[str, int]) -> bool:
        """
        Queue a job for its machines.

        :return: ``False`` when it would have to wait, and jobs fail instead.
        """
        if self._settings.busy_policy == "fail" and not self.cluster.fits(resource, needs):
            return False
        self._turns.add(job)
        self.cluster.claim(job, resource, needs)
        self.settle()
        return True

    async def machines(self, job: Key) -> None:
        """Wait until a job that has queued has its machines; they are its own until :meth:`release`."""
        await self._turns.add(job).wait()
        if self.cluster.must_grow(job):
            await asyncio.sleep(self._settings.scale_up_seconds)
        self.cluster.occupy(job)

    def release(self, job: Key, resource: Key) -> None:
        """Give a job's machines, or its place in the queue, to others."""
        self._turns.drop(job)
        self.cluster.release(job)
        self.settle()
        self.rest(resource)

    def rest(self, resource: Key) -> None:
        """Let a resource's autoscaled pools give back what is idle in a while."""
        if timer := self._shrinking.pop(resource, None):
            timer.cancel()
        self._shrinking[resource] = asyncio.get_running_loop().call_later(
            self._settings.scale_down_seconds, self.cluster.shrink, resource
        )

    def settle(self) -> None:
        """Wake the jobs that can have their machines now; called after every change."""
        self._turns.call(self.cluster.grant())

    def close(self) -> None:
        """Stop the timers."""
        for timer in self._shrinking.values():
            timer.cancel()
