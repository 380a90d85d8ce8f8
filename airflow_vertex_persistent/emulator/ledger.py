# SPDX-License-Identifier: Apache-2.0
"""
Who holds how much of what, and who waits for it: the accounts of machines in stock and of quota.

Pure: nothing here waits or looks at a clock, and how much there is of an item is told with each question, since it
may change while it is held.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from .names import Key, Location


class Item(NamedTuple):
    """
    Something that there is only so much of.

    :param where: a region, in a project of its own where projects do not share.
    :param what: a machine type, or a quota metric.
    """

    where: Location
    what: str


Needs = Mapping[Item, int]
Supply = Callable[[Item], float]


class Ledger:
    """
    The accounts.

    Who needs several things, or several of one thing, gets all of them together or none. Waiters are served in order
    of arrival, and nobody passes one that waits for the same thing: a big job would otherwise wait for ever while
    small ones take each machine as it becomes free.
    """

    def __init__(self) -> None:
        self._used: Counter[Item] = Counter()
        self._holders: dict[Key, Needs] = {}  # in order of start
        self._waiting: dict[Key, Needs] = {}  # in order of arrival
        self._awaited: Counter[Item] = Counter()  # by how many

    def used(self, item: Item) -> int:
        """How much of an item is held."""
        return self._used[item]

    def holders(self) -> Mapping[Key, Needs]:
        """Everybody who holds something, in order of start."""
        return self._holders

    def waiting(self) -> Mapping[Key, Needs]:
        """Everybody who waits, in order of arrival."""
        return self._waiting

    def items(self) -> Iterator[Item]:
        """Everything that is held or waited for."""
        return (item for item in self._used.keys() | self._awaited.keys())

    def take(self, key: Key, needs: Needs, supply: Supply) -> bool:
        """Take what there is, without a place in the queue; ``False`` when it is not enough."""
        if not self._fits(needs, supply):
            return False
        self.hold(key, needs)
        return True

    def hold(self, key: Key, needs: Needs) -> None:
        """Hold something, whether there is enough or not."""
        self._holders[key] = needs
        self._used.update(needs)

    def queue(self, key: Key, needs: Needs) -> None:
        """Wait for one's turn; it may have come, so :meth:`grant` is next. Who needs nothing does not queue."""
        self._waiting[key] = needs
        self._awaited.update(needs.keys())

    def grant(self, supply: Supply) -> list[Key]:
        """
        Serve those whose turn it is.

        :return: who got what it waited for just now.
        """
        granted, blocked = [], set[Item]()
        for key, needs in self._waiting.items():
            if len(blocked) == len(self._awaited):
                break
            if blocked.isdisjoint(needs) and self.take(key, needs, supply):
                granted.append(key)
            else:
                blocked.update(needs)
        for key in granted:
            self._leave(key)
        return granted

    def release(self, key: Key) -> None:
        """Give back what is held, or the place in the queue."""
        self._used -= Counter(self._holders.pop(key, {}))
        if key in self._waiting:
            self._leave(key)

    def _leave(self, key: Key) -> None:
        self._awaited -= Counter(self._waiting.pop(key).keys())

    def excess(self, supply: Supply, candidates: Iterable[Key], leaving: Iterable[Key]) -> list[Key]:
        """
        Choose who has to go when there is less than what is held: the newest first, as few as possible.

        :param candidates: holders that can go.
        :param leaving: holders that are on their way out.
        """
        left = self._used - sum((Counter(self._holders[key]) for key in leaving), Counter())
        chosen, possible = [], set(candidates)
        for key in reversed(self._holders):
            needs = self._holders[key]
            if key in possible and any(left[item] > supply(item) for item in needs):
                left -= Counter(needs)
                chosen.append(key)
        return chosen

    def _fits(self, needs: Needs, supply: Supply) -> bool:
        return all(self._used[item] + count <= supply(item) for item, count in needs.items())
