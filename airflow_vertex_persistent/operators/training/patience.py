# SPDX-License-Identifier: Apache-2.0
"""How long a task that wants something of Vertex AI waits before it asks again."""

from __future__ import annotations

import random
import time
from typing import TYPE_CHECKING, TypeVar

from airflow_vertex_persistent.call_problems import CallProblem, call_problem, is_transient
from airflow_vertex_persistent.operators.base import unreachable_error
from airflow_vertex_persistent.triggers.watch import backoff_seconds

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow.sdk.types import Logger

_FIRST_PAUSE = 2.0

ResultT = TypeVar("ResultT")


class Patience:
    """
    How long one attempt waits before it asks again, counted from the first error. What passes by itself is logged
    once per change.

    :param failure: What the service has not done when the time is over.
    """

    def __init__(self, max_outage: float, log: Logger, failure: str = "created no job") -> None:
        self._max_outage = max_outage
        self._log = log
        self._failure = failure
        self._error: Exception | None = None
        self._deadline = 0.0
        self._said: CallProblem | None = None
        self._tries = 0

    def pause_after(self, error: Exception) -> float:
        """
        Return the seconds to wait after an error that passes by itself.

        :raises ServiceUnreachableError: The time is over.
        """
        if self._error is None:
            self._deadline = time.monotonic() + self._max_outage
        self._error = error
        problem = call_problem(error)
        if problem is not self._said:
            self._log.warning("Vertex AI %s, still trying: %s", self._failure, error)
            self._said = problem
        left = self._left()
        pause = self._next()
        if problem in {CallProblem.RATE_LIMITED, CallProblem.EXHAUSTED}:
            # Many tasks were told so at the same moment: spread them over the minute that the limit counts by.
            pause = random.uniform(_FIRST_PAUSE, pause)  # noqa: S311 - spreads load, guards nothing
        return min(pause, left)

    def pause_until(self, end: float | None) -> float:
        """
        Return the seconds to wait before another look, 0 when the time for looks is over.

        :raises ServiceUnreachableError: There was an error, and the time is over.
        """
        left = 0.0 if end is None else end - time.monotonic()
        if self._error is not None:
            left = min(left, self._left())
        return max(min(self._next(), left), 0.0)

    def _left(self) -> float:
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise unreachable_error(self._failure, self._error) from self._error
        return left

    def _next(self) -> float:
        self._tries += 1
        return backoff_seconds(_FIRST_PAUSE, self._tries)


def answered(
    ask: Callable[[], ResultT], max_outage: float, log: Logger, failure: str = "did not answer"
) -> ResultT:
    """
    Return an answer of the service, asked for again while errors pass by themselves.

    :param failure: What the service has not done when the time is over.
    :raises ServiceUnreachableError: They did not pass.
    """
    patience = Patience(max_outage, log, failure)
    while True:
        try:
            return ask()
        except Exception as error:
            if not is_transient(error):
                raise
            time.sleep(patience.pause_after(error))
