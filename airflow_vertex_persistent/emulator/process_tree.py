# SPDX-License-Identifier: Apache-2.0
"""
Ending all processes of a replica, and all replicas of an emulator that was killed.

A replica's processes are its descendants and every process that carries its marker in its environment: a
process that changed its session and lost its parent still has that.

Run as a program, this module is the watchdog: it holds a pipe from the emulator, and when that breaks without
a farewell the emulator was killed, so everything that carries its marker is killed too. Linux' PR_SET_PDEATHSIG
would not do: it reaches only the direct child, hangs on the thread that started it, and needs code between
fork and exec, which is not safe in a process with threads.
"""

from __future__ import annotations

import os
import sys
import time

import psutil

MARKER = "VERTEX_EMULATOR_PROCESS"
FAREWELL = b"bye"

_LOOK_SECONDS = 0.02
_KILL_SECONDS = 30.0  # a process that hangs in the kernel longer than this is left to it
_CLEAN_LOOKS = 3  # a process may be between fork and exec, and show its marker only a moment later


def marked(prefix: str) -> list[psutil.Process]:
    """All processes whose marker starts with ``prefix``, except this one."""
    found, own = [], os.getpid()
    for process in psutil.process_iter():
        try:
            if process.pid != own and process.environ().get(MARKER, "").startswith(prefix):
                found.append(process)
        except (psutil.Error, OSError):  # ended meanwhile, or somebody else's
            continue
    return found


def _alive(processes: set[psutil.Process]) -> set[psutil.Process]:
    alive = set()
    for process in processes:
        try:
            if process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
                alive.add(process)
        except psutil.NoSuchProcess:
            continue
    return alive


def _family(root: int | None, marker: str) -> set[psutil.Process]:
    family = set(marked(marker))
    if root is not None:
        try:
            parent = psutil.Process(root)
            family |= {parent, *parent.children(recursive=True)}
        except psutil.NoSuchProcess:
            pass
    for process in list(family):
        try:
            family.update(process.children(recursive=True))
        except psutil.NoSuchProcess:
            continue
    return _alive(family)


def _signal(processes: set[psutil.Process], *, kill: bool) -> None:
    for process in processes:
        try:
            if kill:
                process.kill()
            else:
                process.terminate()
        except psutil.Error:  # ended meanwhile, or turned into somebody else's
            continue


def end_tree(root: int | None, marker: str, grace: float) -> None:
    """
    End a replica: SIGTERM to every process of it, SIGKILL to what is left after the grace time.

    Blocks until nothing is left (at most the grace time and half a minute), so call it in a thread.

    :param root: process id of the replica's main process, ``None`` when it has ended already.
    :param marker: value of the marker that the replica was started with.
    :param grace: seconds between the two signals.
    """
    family = _family(root, marker)
    _signal(family, kill=False)
    deadline = time.monotonic() + grace
    while family and time.monotonic() < deadline:
        time.sleep(_LOOK_SECONDS)
        family = _alive(family)
    deadline = time.monotonic() + _KILL_SECONDS
    while (family := family | _family(root, marker)) and time.monotonic() < deadline:
        _signal(family, kill=True)
        time.sleep(_LOOK_SECONDS)
        family = _alive(family)


def watch(prefix: str) -> None:
    """Wait for the emulator's end; kill what it left behind unless it said farewell."""
    if sys.stdin.buffer.read() == FAREWELL:
        return
    clean_looks = 0
    deadline = time.monotonic() + _KILL_SECONDS
    while clean_looks < _CLEAN_LOOKS and time.monotonic() < deadline:
        left = marked(prefix)
        _signal(set(left), kill=True)
        clean_looks = 0 if left else clean_looks + 1
        time.sleep(_LOOK_SECONDS)


if __name__ == "__main__":
    watch(sys.argv[1])
