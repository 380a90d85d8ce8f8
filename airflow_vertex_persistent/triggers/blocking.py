# SPDX-License-Identifier: Apache-2.0
"""Runs a watch on a worker."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Coroutine

ResultT = TypeVar("ResultT")

# How long a task that was interrupted waits for its event loop to close.
_THREAD_END_TIMEOUT = 5.0


def run_in_thread(work: Coroutine[Any, Any, ResultT]) -> ResultT:
    """
    Run ``work`` in an event loop of its own, in a thread of its own; an exception in the waiting thread cancels it.

    Airflow interrupts the main thread with signals, and an event loop there could swallow the exception that
    the handler of the execution timeout raises.
    """
    result: Future[ResultT] = Future()
    loop = asyncio.new_event_loop()
    task = loop.create_task(work)

    def run() -> None:
        try:
            result.set_result(loop.run_until_complete(task))
        except BaseException as error:  # noqa: BLE001 - handed to the waiting thread
            result.set_exception(error)
        finally:
            loop.close()

    thread = threading.Thread(target=contextvars.copy_context().run, args=(run,), daemon=True)
    try:
        thread.start()
        return result.result()
    except BaseException:
        if not result.done():
            loop.call_soon_threadsafe(task.cancel)
        raise
    finally:
        if thread.ident is not None:
            thread.join(timeout=_THREAD_END_TIMEOUT)
