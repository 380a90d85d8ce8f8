# SPDX-License-Identifier: Apache-2.0
"""
Machines of persistent resources: who uses how many, who waits, how autoscaled pools grow and shrink.

On-demand jobs have no place here: their machines are always found. Nothing in this module waits or looks at
a clock; the job runner does.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from .names import Key

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from .machines import Shape


class NoSuchPoolError(Exception):
    """
    No pool of the resource has the machine and disk of a worker pool.

    :param index: index of the worker pool.
    """

    def __init__(self, index: int) -> None:
        super().__init__(index)
        self.index = index


class TooManyReplicasError(Exception):
    """
    A job asks for more machines than a pool can ever have.

    :param pool_id: the pool.
    :param wanted: machines that the whole job needs of it.
    :param maximum: machines that it can have.
    """

    def __init__(self, pool_id: str, wanted: int, maximum: int) -> None:
        super().__init__(pool_id, wanted, maximum)
        self.pool_id, self.wanted, self.maximum = pool_id, wanted, maximum


@dataclass
class Pool:
    """
    One pool of machines.

    :param size: machines that exist now.
    :param minimum: machines that stay when the pool is idle.
    :param maximum: machines it may grow to; equal to ``minimum`` for a fixed pool.
    :param promised: machines given to jobs, including those that are still being added.
    :param used: machines that jobs run on.
    """

    id: str
    shape: Shape
    size: int
    minimum: int
    maximum: int
    promised: int = 0
    used: int = 0


@dataclass
class _Claim:
    """A job's share of a resource: machines by pool id, and how far it got."""

    resource: Key
    needs: Mapping[str, int]
    promised: bool = False
    occupied: bool = False


class Cluster:
    """
    The pools of all persistent resources and the jobs that want them, first come, first served by pool.

    :param can_grow: whether there are machines for autoscaled pools to grow.
    """

    def __init__(self, *, can_grow: bool = True) -> None:
        self._can_grow = can_grow
        self._pools: dict[Key, dict[str, Pool]] = {}
        self._claims: dict[Key, _Claim] = {}  # by job, in order of arrival

    def add(self, resource: Key, pools: Iterable[Pool]) -> None:
        """Take in a resource."""
        self._pools[resource] = {pool.id: pool for pool in pools}

    def remove(self, resource: Key) -> None:
        """Forget a resource; its jobs must have been released."""
        self._pools.pop(resource, None)

    def pools(self, resource: Key) -> Mapping[str, Pool]:
        """The pools of a resource by id."""
        return self._pools.get(resource, {})

    def place(self, resource: Key, wanted: Sequence[tuple[Shape, int] | None]) -> dict[str, int]:
        """
        Find the pools that could run a job if it were alone.

        :param wanted: shape and count of each worker pool; ``None`` for an empty one.
        :return: machines by pool id.
        :raises NoSuchPoolError: when a worker pool matches no pool.
        :raises TooManyReplicasError: when it needs more machines than the pool can have.
        """
        pools = self._pools[resource]
        needs: dict[str, int] = {}
        for index, entry in enumerate(wanted):
            if entry is None:
                continue
            shape, count = entry
            matching = [pool for pool in pools.values() if pool.shape == shape]
            if not matching:
                raise NoSuchPoolError(index)
            # Pools of the same hardware are filled one after the other.
            pool = next(
                (pool for pool in matching if needs.get(pool.id, 0) + count <= pool.maximum), matching[0]
            )
            needs[pool.id] = needs.get(pool.id, 0) + count
            if needs[pool.id] > pool.maximum:
                raise TooManyReplicasError(pool.id, needs[pool.id], pool.maximum)
        return needs

    def fits(self, resource: Key, needs: Mapping[str, int]) -> bool:
        """Whether a new job would get its machines without waiting for another job."""
        waiting = {
            pool
            for claim in self._claims.values()
            if claim.resource == resource and not claim.promised
            for pool in claim.needs
        }
        return self._free(resource, needs) and waiting.isdisjoint(needs)

    def _free(self, resource: Key, needs: Mapping[str, int]) -> bool:
        pools = self._pools.get(resource, {})
        return all(pool in pools and self._promisable(pools[pool]) >= count for pool, count in needs.items())

    def _promisable(self, pool: Pool) -> int:
        """Machines that a job could still be promised."""
        return (pool.maximum if self._can_grow else pool.size) - pool.promised

    def claim(self, job: Key, resource: Key, needs: Mapping[str, int]) -> None:
        """Queue a job for its machines."""
        self._claims[job] = _Claim(resource, needs)

    def grant(self) -> list[Key]:
        """
        Promise free machines to waiting jobs.

        A job waits behind earlier ones that want the same pool, so that a big job is not passed by small
        ones for ever.

        :return: the jobs that were promised their machines just now.
        """
        granted, awaited = [], set[tuple[Key, str]]()
        for job, claim in self._claims.items():
            if claim.promised:
                continue
            wanted = {(claim.resource, pool) for pool in claim.needs}
            if awaited.isdisjoint(wanted) and self._free(claim.resource, claim.needs):
                for pool, count in claim.needs.items():
                    self._pools[claim.resource][pool].promised += count
                claim.promised = True
                granted.append(job)
            else:
                awaited |= wanted
        return granted

    def must_grow(self, job: Key) -> bool:
        """Whether machines have to be added before a promised job can start."""
        claim = self._claims[job]
        pools = self._pools[claim.resource]
        return any(pools[pool].size < pools[pool].used + count for pool, count in claim.needs.items())

    def occupy(self, job: Key) -> None:
        """A promised job starts on its machines; an autoscaled pool has grown for it."""
        claim = self._claims[job]
        for pool_id, count in claim.needs.items():
            pool = self._pools[claim.resource][pool_id]
            pool.used += count
            pool.size = max(pool.size, pool.used)
        claim.occupied = True

    def release(self, job: Key) -> None:
        """A job has ended, or will never start: its machines are free."""
        claim = self._claims.pop(job, None)
        if claim is None:
            return
        for pool_id, count in claim.needs.items():
            pool = self._pools.get(claim.resource, {}).get(pool_id)
            if pool is not None:
                pool.promised -= count if claim.promised else 0
                pool.used -= count if claim.occupied else 0

    def shrink(self, resource: Key) -> None:
        """Give back the idle machines of autoscaled pools, down to their minimum."""
        for pool in self._pools.get(resource, {}).values():
            if pool.minimum < pool.maximum:
                pool.size = max(pool.minimum, min(pool.size, pool.promised))

    def resize(self, resource: Key, pool_id: str, count: int) -> None:
        """Give a fixed pool another number of machines."""
        pool = self._pools[resource][pool_id]
        pool.size = pool.minimum = pool.maximum = count
