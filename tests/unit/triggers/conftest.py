# SPDX-License-Identifier: Apache-2.0
"""Time that passes only where somebody waits for it."""

from __future__ import annotations

import asyncio
import selectors
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine


class _Clock(selectors.DefaultSelector):
    """Does not wait for anything: the time that the loop would wait has passed at once."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0

    def select(self, timeout: float | None = None) -> Any:
        """Let the time pass."""
        ready = super().select(0)
        if not ready:
            assert timeout is not None, "everybody waits for something that never comes"
            self.now += timeout
        return ready


class _VirtualTimeLoop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self._clock = _Clock()
        super().__init__(self._clock)

    def time(self) -> float:
        """Return the seconds that have passed."""
        return self._clock.now


@pytest.fixture
def run_timeless() -> Callable[[Coroutine[Any, Any, Any]], Any]:
    """Run a coroutine in no time, however long it sleeps."""

    def run(work: Coroutine[Any, Any, Any]) -> Any:
        with asyncio.Runner(loop_factory=_VirtualTimeLoop) as runner:
            return runner.run(work)

    return run
