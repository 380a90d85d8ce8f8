# SPDX-License-Identifier: Apache-2.0
"""One emulator per data folder, and nothing of it left behind: a lock, and a watchdog that holds it too."""

from __future__ import annotations

import contextlib
import fcntl
import os
import subprocess
import sys
import time
from typing import IO, TYPE_CHECKING

import psutil

from . import process_tree

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_WATCHDOG_SECONDS = 5.0
_TIDY_SECONDS = 30.0
_LOOK_SECONDS = 0.02


@contextlib.contextmanager
def owned(folder: Path, marker: str) -> Iterator[None]:
    """
    Keep a second emulator out of a data folder, and have everything of ours ended should we be killed.

    The watchdog, a second process, shares the lock: who starts after a kill waits until the watchdog is done, and
    so never meets replicas or a storage server of the emulator before.

    :param marker: marks all processes of this emulator.
    :raises OSError: when another emulator uses the folder.
    """
    with (folder / ".lock").open("a+", encoding="ascii") as lock:
        _acquire(lock, folder)
        with _watchdog(marker, lock):
            yield


def _acquire(lock: IO[str], folder: Path) -> None:
    deadline = time.monotonic() + _TIDY_SECONDS
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except OSError as error:
            if _owner_lives(lock) or time.monotonic() > deadline:
                raise OSError(f"data folder {folder} is used by another emulator") from error
        time.sleep(_LOOK_SECONDS)
    lock.truncate(0)
    lock.write(str(os.getpid()))
    lock.flush()


def _owner_lives(lock: IO[str]) -> bool:
    """Whether the emulator that has the lock still runs; who cannot tell (it is about to say) assumes so."""
    lock.seek(0)
    owner = lock.read()
    return not owner.isdecimal() or psutil.pid_exists(int(owner))


@contextlib.contextmanager
def _watchdog(marker: str, lock: IO[str]) -> Iterator[None]:
    """Have a second process that ends everything of ours should this one be killed."""
    process = subprocess.Popen(  # noqa: S603 - our own file
        [sys.executable, "-I", process_tree.__file__, marker],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={"PATH": os.environ.get("PATH", "")},
        start_new_session=True,
        pass_fds=(lock.fileno(),),
    )
    try:
        yield
    finally:
        try:
            process.communicate(process_tree.FAREWELL, timeout=_WATCHDOG_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
