# SPDX-License-Identifier: Apache-2.0
"""Processes that end when the one that started them does, with everything they started themselves."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import threading
import time
from typing import TYPE_CHECKING, Any, Self

import psutil

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path
    from types import FrameType


class ProcessError(RuntimeError):
    """A process ended by itself, or what was waited for did not come true in time."""


class Processes:
    """
    A group of processes for the time of a ``with`` block.

    However the block is left (its end, an error, Ctrl-C, SIGTERM), nothing of the group is left running.

    :param log_folder: Each process writes to ``<name>.log`` in it, never to the terminal.
    :param stop_timeout: Seconds between SIGTERM and SIGKILL at the end.
    """

    def __init__(self, log_folder: Path, stop_timeout: float = 8.0) -> None:
        self.log_folder = log_folder
        self._stop_timeout = stop_timeout
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self._old_handler: Any = None

    def __enter__(self) -> Self:
        """Make SIGTERM an exception, so that the block is left as it is after Ctrl-C."""
        if threading.current_thread() is threading.main_thread():
            self._old_handler = signal.signal(signal.SIGTERM, _exit_on_sigterm)
        return self

    def __exit__(self, *_: object) -> None:
        """End every process: SIGTERM first, SIGKILL for what is left."""
        with _interrupts_ignored():
            _end(list(self._running.values()), grace=self._stop_timeout)
            self._running.clear()
        if self._old_handler is not None:
            signal.signal(signal.SIGTERM, self._old_handler)

    def start(self, name: str, command: Sequence[str], environment: Mapping[str, str], cwd: Path) -> None:
        """Start a process under a name of its own."""
        self.log_folder.mkdir(parents=True, exist_ok=True)
        with self.log_path(name).open("ab") as log:
            self._running[name] = subprocess.Popen(
                command,
                cwd=cwd,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                # Its own session: the terminal's Ctrl-C does not reach it, and by the session all that it
                # starts can be found, also what has its own process group or has lost its parent.
                start_new_session=True,
            )

    def finish(self, name: str, timeout: float) -> None:
        """
        Wait until a process has ended well.

        :raises ProcessError: It ended with another code than 0, or has not ended after ``timeout`` seconds.
        """
        try:
            code = self._running[name].wait(timeout)
        except subprocess.TimeoutExpired as error:
            raise ProcessError(
                f"{name} is not done after {timeout:.0f} s; see {self.log_path(name)}"
            ) from error
        if code:
            raise self._ended(name)
        del self._running[name]

    def kill(self, name: str) -> None:
        """End a process and all that it started with SIGKILL, as a lost machine would."""
        _end([self._running.pop(name)], grace=0)

    def signal(self, name: str, number: signal.Signals) -> None:
        """Send a signal to a process and to all that it started."""
        for member in _members([self._running[name]]):
            with contextlib.suppress(psutil.NoSuchProcess):
                member.send_signal(number)

    def wait_for_end(self, name: str, timeout: float) -> None:
        """
        Wait until a process has ended, however it did, and end what is left of its session.

        :raises ProcessError: It has not ended after ``timeout`` seconds.
        """
        try:
            self._running[name].wait(timeout)
        except subprocess.TimeoutExpired as error:
            raise ProcessError(f"{name} runs still after {timeout:.0f} s") from error
        self.kill(name)

    def names(self) -> list[str]:
        """Return the names under which processes were started that nobody has ended, the oldest first."""
        return list(self._running)

    def ids(self, *names: str) -> list[int]:
        """
        Return the ids of living processes, those that the started ones started included.

        :param names: Of the started ones; by default all.
        """
        leaders = [process for name, process in self._running.items() if not names or name in names]
        return [member.pid for member in _members(leaders)]

    def log_path(self, name: str) -> Path:
        """Return where a process writes its output."""
        return self.log_folder / f"{name}.log"

    def wait_for(self, condition: Callable[[], bool], what: str, timeout: float) -> None:
        """
        Wait until something is true.

        :param condition: Asked several times a second.
        :param what: The condition in words, for the error.
        :param timeout: Seconds to wait at most.
        :raises ProcessError: When a process ended by itself, or the time has passed.
        """
        deadline = time.monotonic() + timeout
        while not condition():
            self.check()
            if time.monotonic() > deadline:
                raise ProcessError(f"waited {timeout:.0f} s until {what}; the logs are in {self.log_folder}")
            time.sleep(0.2)

    def check(self) -> None:
        """Raise ProcessError, with the end of its log, when a process has ended by itself."""
        for name, process in self._running.items():
            if process.poll() is not None:
                raise self._ended(name)

    def _ended(self, name: str) -> ProcessError:
        log = self.log_path(name)
        code = self._running[name].returncode
        return ProcessError(f"{name} ended with code {code}; {log} ends:\n{tail(log)}")


def free_port(preferred: int) -> int:
    """Return a port of the loopback interface that nobody listens on, the preferred one if possible."""
    for port in (preferred, 0):
        with socket.socket() as candidate, contextlib.suppress(OSError):
            candidate.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            candidate.bind(("127.0.0.1", port))
            return int(candidate.getsockname()[1])
    raise ProcessError("no free port on 127.0.0.1")


def is_alive(process: psutil.Process) -> bool:
    """Tell whether a process is there, and not merely waiting for its parent to take note of its end."""
    try:
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def tail(path: Path, lines: int = 25) -> str:
    """Return the last lines of a text file."""
    return "\n".join(path.read_text(errors="replace").splitlines()[-lines:])


def _end(leaders: list[subprocess.Popen[bytes]], grace: float) -> None:
    """End processes with all that they started: SIGTERM and ``grace`` seconds, then SIGKILL."""
    # Taken before: what loses its parent on the way, in a session of its own, could not be found later.
    members = _members(leaders)
    if grace:
        for leader in leaders:
            leader.terminate()
    deadline = time.monotonic() + grace
    while left := [member for member in {*members, *_members(leaders)} if is_alive(member)]:
        if time.monotonic() > deadline:
            for member in left:
                with contextlib.suppress(psutil.NoSuchProcess):
                    member.kill()
        time.sleep(0.05)
    for leader in leaders:
        leader.wait()


def _members(leaders: list[subprocess.Popen[bytes]]) -> list[psutil.Process]:
    """Return the living processes of the sessions that these processes lead, and their descendants."""
    sessions = {leader.pid for leader in leaders}
    members = {process for process in psutil.process_iter() if _session(process) in sessions}
    for member in list(members):
        with contextlib.suppress(psutil.NoSuchProcess):
            members.update(member.children(recursive=True))
    return [member for member in members if is_alive(member)]


def _session(process: psutil.Process) -> int | None:
    try:
        return os.getsid(process.pid)
    except OSError:
        return None


@contextlib.contextmanager
def _interrupts_ignored() -> Iterator[None]:
    """Let an impatient second Ctrl-C not cut the ending of processes short."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    old = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, old)


def _exit_on_sigterm(signal_number: int, _frame: FrameType | None) -> None:
    raise SystemExit(128 + signal_number)
