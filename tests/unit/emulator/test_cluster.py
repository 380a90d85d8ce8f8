# SPDX-License-Identifier: Apache-2.0
"""Machines of persistent resources: placing, queueing, growing, and accounts that always add up."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_vertex_persistent.emulator.cluster import Cluster, NoSuchPoolError, Pool, TooManyReplicasError
from airflow_vertex_persistent.emulator.machines import Shape
from airflow_vertex_persistent.emulator.names import Key, Location

PLACE = Location("1", "europe-west4")
RESOURCE = Key(PLACE, "nightly")
CPU, GPU = Shape(b"cpu", "pd-ssd", 100), Shape(b"gpu", "pd-ssd", 100)


def job(number: int) -> Key:
    """The key of a job."""
    return Key(PLACE, str(number))


def cluster(*pools: Pool) -> Cluster:
    """A cluster with one resource."""
    made = Cluster()
    made.add(RESOURCE, pools)
    return made


def fixed(name: str, shape: Shape, count: int) -> Pool:
    """A pool of some machines."""
    return Pool(name, shape, size=count, minimum=count, maximum=count)


def test_worker_pools_of_one_shape_add_up() -> None:
    """A chief and its workers on one pool need the sum; empty worker pools need nothing."""
    made = cluster(fixed("cpu", CPU, 4), fixed("gpu", GPU, 1))
    assert made.place(RESOURCE, [(CPU, 1), None, (CPU, 3), (GPU, 1)]) == {"cpu": 4, "gpu": 1}
    with pytest.raises(TooManyReplicasError) as caught:
        made.place(RESOURCE, [(CPU, 1), (CPU, 4)])
    assert (caught.value.pool_id, caught.value.wanted, caught.value.maximum) == ("cpu", 5, 4)


def test_a_worker_pool_without_match_is_named() -> None:
    """The error has the index of the worker pool."""
    with pytest.raises(NoSuchPoolError) as caught:
        cluster(fixed("cpu", CPU, 4)).place(RESOURCE, [(CPU, 1), (GPU, 1)])
    assert caught.value.index == 1


def test_pools_of_the_same_hardware_are_filled_in_turn() -> None:
    """A second worker pool goes to the second pool when the first is full."""
    made = cluster(fixed("one", CPU, 1), fixed("two", CPU, 2))
    assert made.place(RESOURCE, [(CPU, 1), (CPU, 2)]) == {"one": 1, "two": 2}


def test_jobs_get_machines_in_order_of_arrival_by_pool() -> None:
    """A small job does not pass a big one that waits for the same pool, but another pool is free to use."""
    made = cluster(fixed("cpu", CPU, 2), fixed("gpu", GPU, 1))
    for number, needs in enumerate([{"cpu": 1}, {"cpu": 2}, {"cpu": 1}, {"gpu": 1}]):
        made.claim(job(number), RESOURCE, needs)
    assert made.grant() == [job(0), job(3)]
    assert not made.fits(RESOURCE, {"cpu": 1})
    made.release(job(0))
    assert made.grant() == [job(1)]
    made.release(job(1))
    assert made.grant() == [job(2)]


def test_a_waiting_job_can_leave_the_queue() -> None:
    """Whoever waited behind it moves up."""
    made = cluster(fixed("cpu", CPU, 1))
    for number in range(3):
        made.claim(job(number), RESOURCE, {"cpu": 1})
    assert made.grant() == [job(0)]
    made.release(job(1))
    made.release(job(0))
    assert made.grant() == [job(2)]


def test_autoscaled_pools_grow_for_jobs_and_shrink_to_their_minimum() -> None:
    """Growing is needed beyond the size of now, and never beyond the maximum."""
    made = cluster(Pool("cpu", CPU, size=1, minimum=1, maximum=3))
    made.claim(job(0), RESOURCE, {"cpu": 2})
    made.claim(job(1), RESOURCE, {"cpu": 2})
    assert made.grant() == [job(0)]
    assert made.must_grow(job(0))
    made.occupy(job(0))
    pool = made.pools(RESOURCE)["cpu"]
    assert (pool.size, pool.used) == (2, 2)
    made.release(job(0))
    assert made.grant() == [job(1)]
    assert not made.must_grow(job(1))
    made.shrink(RESOURCE)
    assert pool.size == 2  # promised machines stay
    made.release(job(1))
    made.shrink(RESOURCE)
    assert (pool.size, pool.used, pool.promised) == (1, 0, 0)


def test_without_machines_to_grow_jobs_wait_for_those_that_are_there() -> None:
    """The size counts and not the maximum, also for who comes next, while a job is placed as ever."""
    made = Cluster(can_grow=False)
    made.add(RESOURCE, [Pool("cpu", CPU, size=2, minimum=1, maximum=3), fixed("gpu", GPU, 1)])
    assert made.place(RESOURCE, [(CPU, 3)]) == {"cpu": 3}
    made.claim(job(0), RESOURCE, {"cpu": 1, "gpu": 1})
    assert made.grant() == [job(0)]
    assert not made.must_grow(job(0))
    made.occupy(job(0))
    assert made.fits(RESOURCE, {"cpu": 1})
    assert not made.fits(RESOURCE, {"cpu": 2})
    made.shrink(RESOURCE)
    made.claim(job(1), RESOURCE, {"cpu": 1})
    assert made.grant() == []
    made.release(job(0))
    assert made.grant() == [job(1)]


def test_releasing_twice_frees_once() -> None:
    """A job's end may be told more than once."""
    made = cluster(fixed("cpu", CPU, 2))
    made.claim(job(0), RESOURCE, {"cpu": 2})
    made.grant()
    made.occupy(job(0))
    for _ in range(2):
        made.release(job(0))
    assert made.pools(RESOURCE)["cpu"].used == 0


@given(
    st.lists(st.tuples(st.integers(0, 9), st.integers(1, 3)), max_size=40), st.integers(1, 3), st.booleans()
)
def test_accounts_always_add_up(steps: list[tuple[int, int]], minimum: int, can_grow: bool) -> None:
    """Whatever comes and goes: used <= promised <= maximum, used <= size, and in the end all is free."""
    made = Cluster(can_grow=can_grow)
    made.add(RESOURCE, [Pool("cpu", CPU, size=minimum, minimum=minimum, maximum=4)])
    pool, here = made.pools(RESOURCE)["cpu"], set[int]()
    for number, count in steps:
        if number in here:
            made.release(job(number))
            here.remove(number)
        else:
            made.claim(job(number), RESOURCE, {"cpu": count})
            here.add(number)
        for granted in made.grant():
            made.occupy(granted)
        made.shrink(RESOURCE)
        assert 0 <= pool.used <= pool.promised <= pool.maximum
        assert max(minimum, pool.used) <= pool.size <= (pool.maximum if can_grow else minimum)
    for number in here:
        made.release(job(number))
    made.shrink(RESOURCE)
    assert (pool.used, pool.promised, pool.size) == (0, 0, minimum)
