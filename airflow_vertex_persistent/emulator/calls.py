# SPDX-License-Identifier: Apache-2.0
"""The calls that came in: how many of each, how long their callers would wait, and how many are too many."""

from __future__ import annotations

from collections import Counter, deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

_KEPT = 100_000
_MINUTE = 60.0


class CallRecord:
    """
    Counts calls since the last reset.

    :param methods: short names of the RPCs.
    """

    def __init__(self, methods: Iterable[str]) -> None:
        self._methods = sorted(methods)
        self._counts: Counter[str] = Counter()
        self._deadlines: deque[tuple[str, float | None]] = deque(maxlen=_KEPT)

    def add(self, method: str, seconds_left: float | None) -> None:
        """
        Remember a call.

        :param seconds_left: until its caller's deadline, ``None`` when there is none.
        """
        self._counts[method] += 1
        self._deadlines.append((method, seconds_left))

    def counts(self) -> dict[str, int]:
        """How often each method was called; also names those that never were."""
        return {method: self._counts[method] for method in self._methods}

    def deadlines(self, method: str) -> list[float | None]:
        """
        Seconds that each call of a method had left when it came in, oldest first, among the last 100,000 calls.

        :raises ValueError: for an unknown method.
        """
        if method not in self._methods:
            raise ValueError(f"method {method!r} is not one of {', '.join(self._methods)}")
        return [seconds for name, seconds in self._deadlines if name == method]

    def reset(self) -> None:
        """Begin again at zero."""
        self._counts.clear()
        self._deadlines.clear()


class SubmissionLimit:
    """
    Says whether one more submission fits into a sliding minute. Refused ones do not count.

    :param per_minute: submissions that fit; 0 means no limit.
    :param clock: seconds that only grow.
    """

    def __init__(self, per_minute: int, clock: Callable[[], float]) -> None:
        self._per_minute = per_minute
        self._clock = clock
        self._accepted: deque[float] = deque()

    def accepts(self) -> bool:
        """Take one more submission when it fits."""
        if not self._per_minute:
            return True
        now = self._clock()
        while self._accepted and self._accepted[0] <= now - _MINUTE:
            self._accepted.popleft()
        if len(self._accepted) >= self._per_minute:
            return False
        self._accepted.append(now)
        return True
