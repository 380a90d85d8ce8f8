# SPDX-License-Identifier: Apache-2.0
"""Who holds machines or quota and who waits: together or not at all, first come, first served."""

from __future__ import annotations

from collections import Counter
from itertools import count
from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st

from airflow_vertex_persistent.emulator.ledger import Item, Ledger, Supply
from airflow_vertex_persistent.emulator.names import Key, Location

if TYPE_CHECKING:
    from collections.abc import Mapping

HERE = Location(None, "europe-west4")
H100, L4 = Item(HERE, "a3-highgpu-8g"), Item(HERE, "g2-standard-4")


def job(number: int) -> Key:
    """The key of a job."""
    return Key(HERE, str(number))


def supply(**machines: float) -> Supply:
    """So many machines of each type."""
    return lambda item: machines["h100" if item == H100 else "l4"]


def queued(*needs: Mapping[Item, int]) -> Ledger:
    """A ledger with some waiters."""
    ledger = Ledger()
    for number, need in enumerate(needs):
        ledger.queue(job(number), need)
    return ledger


def test_the_head_of_the_queue_is_not_passed() -> None:
    """Not even by what would fit, but another queue goes on."""
    ledger = queued({H100: 1}, {H100: 3}, {H100: 1}, {L4: 1})
    assert ledger.grant(supply(h100=3, l4=1)) == [job(0), job(3)]
    assert list(ledger.waiting()) == [job(1), job(2)]
    ledger.release(job(0))
    assert ledger.grant(supply(h100=3, l4=1)) == [job(1)]


def test_a_gang_needs_all_its_machines() -> None:
    """Of one type and of several."""
    ledger = queued({H100: 2, L4: 1})
    assert ledger.grant(supply(h100=1, l4=9)) == []
    assert ledger.grant(supply(h100=9, l4=0)) == []
    assert (ledger.used(H100), ledger.used(L4)) == (0, 0)
    assert ledger.grant(supply(h100=2, l4=1)) == [job(0)]
    assert (ledger.used(H100), ledger.used(L4)) == (2, 1)


def test_who_leaves_lets_the_next_one_move_up() -> None:
    """At once; leaving twice frees once."""
    ledger = queued({H100: 9}, {H100: 1})
    assert ledger.grant(supply(h100=1)) == []
    for _ in range(2):
        ledger.release(job(0))
    assert ledger.grant(supply(h100=1)) == [job(1)]
    assert set(ledger.items()) == {H100}
    ledger.release(job(1))
    assert set(ledger.items()) == set()


def test_the_newest_have_to_go_first() -> None:
    """As few as possible, only those that can, and not for what those on their way out will free."""
    ledger = Ledger()
    for number, need in enumerate([{H100: 2}, {H100: 1}, {L4: 1}, {H100: 2}, {H100: 1}]):
        ledger.hold(job(number), need)
    possible = {job(0), job(1), job(2), job(3)}
    assert ledger.excess(supply(h100=6, l4=1), possible, ()) == []
    assert ledger.excess(supply(h100=5, l4=1), possible, ()) == [job(3)]
    assert ledger.excess(supply(h100=3, l4=0), possible, ()) == [job(3), job(2), job(1)]
    assert ledger.excess(supply(h100=0, l4=1), possible, ()) == [job(3), job(1), job(0)]
    assert ledger.excess(supply(h100=4, l4=1), possible - {job(3)}, {job(3)}) == []


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("queue"), st.integers(1, 4)),
            st.tuples(st.just("take"), st.integers(1, 4)),
            st.tuples(st.just("leave"), st.integers(0, 20)),
            st.tuples(st.just("stock"), st.integers(0, 6)),
        ),
        max_size=60,
    )
)
def test_whatever_comes_and_goes(steps: list[tuple[str, int]]) -> None:
    """Who starts finds its machines, waiters start in order of arrival and whole, and in the end all is free."""
    ledger, stock, numbers = Ledger(), 3, count()
    waiting, running = dict[Key, int](), dict[Key, int]()
    for step, number in steps:
        if step == "queue":
            key = job(next(numbers))
            waiting[key] = number
            ledger.queue(key, {H100: number})
        elif step == "take":
            key = job(next(numbers))
            if ledger.take(key, {H100: number}, supply(h100=stock)):
                running[key] = number
                assert sum(running.values()) <= stock
        elif step == "leave" and (here := [*running, *waiting]):
            key = here[number % len(here)]
            (running if key in running else waiting).pop(key)
            ledger.release(key)
        elif step == "stock":
            stock = number
        granted = ledger.grant(supply(h100=stock))
        assert granted == list(waiting)[: len(granted)]
        for key in granted:
            running[key] = waiting.pop(key)
            assert sum(running.values()) <= stock
        assert ledger.used(H100) == sum(running.values())
        if waiting:  # the first one waits for good reason
            assert sum(running.values()) + next(iter(waiting.values())) > stock
    for key in [*running, *waiting]:
        ledger.release(key)
    assert ledger.used(H100) == 0
    assert not ledger.holders()
    assert not ledger.waiting()


@given(
    st.lists(st.tuples(st.integers(1, 3), st.booleans()), max_size=12),
    st.integers(0, 9),
    st.sets(st.integers(0, 11)),
)
def test_only_as_many_go_as_must(holders: list[tuple[int, bool]], stock: int, leaving: set[int]) -> None:
    """What is left fits the stock, or nobody is left that could go; without the last one it would not fit."""
    ledger, sizes = Ledger(), Counter[Key]()
    for number, (size, _) in enumerate(holders):
        ledger.hold(job(number), {H100: size})
        sizes[job(number)] = size
    out = {job(number) for number in leaving if number < len(holders)}
    possible = {job(number) for number, (_, can) in enumerate(holders) if can} - out
    chosen = ledger.excess(supply(h100=stock), possible, out)
    assert chosen == sorted(possible, key=lambda key: -int(key.id))[: len(chosen)]
    left = sum(size for key, size in sizes.items() if key not in {*chosen, *out})
    assert left <= stock or set(chosen) == possible
    if chosen:
        assert left + sizes[chosen[-1]] > stock
