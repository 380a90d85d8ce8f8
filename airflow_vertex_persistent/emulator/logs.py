# SPDX-License-Identifier: Apache-2.0
"""
Log files of replicas: one line of output, one line in the file, with the time in front.

``logs/JOB/workerpool0-0.log`` holds what that replica printed, ``logs/JOB/service.log`` what the service said.
The files are all there is: Cloud Logging's entries are read from them.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

SERVICE = "service"
SUCCEEDED, FAILED, CANCELLED = "Job completed successfully.", "Job failed.", "Job cancelled."
EXPIRED = "Job expired."
LAST_WORDS = frozenset({SUCCEEDED, FAILED, CANCELLED, EXPIRED})
"""The service's last line on a job is one of these: whoever follows a log stops there."""
_LONGEST_LINE = 200_000  # bytes; Cloud Logging takes entries of up to 256 KB


@dataclass(frozen=True, order=True)
class Line:
    """
    One line of output.

    :param time: when the emulator read it.
    :param job_id: numeric id of the job.
    :param task: ``workerpool0-0``, or ``service`` for the service's own lines.
    :param number: of the line in its file, from 0.
    """

    time: datetime
    job_id: str
    task: str
    number: int
    text: str = field(compare=False)

    def payload(self) -> tuple[str, dict[str, Any]]:
        """Severity and JSON payload: a line that is JSON with a message says both itself."""
        if self.text.startswith("{"):
            try:
                parsed = json.loads(self.text)
            except (ValueError, RecursionError):
                parsed = None
            if isinstance(parsed, dict) and "message" in parsed:
                severity = str(parsed.pop("severity", "INFO")).upper()
                return severity, {"levelname": severity, **parsed}
        return "INFO", {"levelname": "INFO", "message": self.text}


class LogWriter:
    """Writes the log of one replica, which begins with its first line; see :class:`LogBook`."""

    def __init__(self, path: Path, clock: Callable[[], datetime]) -> None:
        self._path = path
        self._clock = clock
        self._rest = b""
        self._file: IO[bytes] | None = None
        self._closed = False

    def write(self, data: bytes) -> None:
        """Take the next piece of output."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        while len(self._rest) > _LONGEST_LINE:
            lines.append(self._rest[:_LONGEST_LINE])
            self._rest = self._rest[_LONGEST_LINE:]
        self._append(lines)

    def _append(self, lines: list[bytes]) -> None:
        if lines and not self._closed:
            if self._file is None:
                self._path.parent.mkdir(parents=True, exist_ok=True)
                self._file = self._path.open("ab")
            stamp = self._clock().isoformat(timespec="microseconds").encode()
            self._file.write(b"".join(stamp + b" " + line.rstrip(b"\r") + b"\n" for line in lines))
            self._file.flush()

    def close(self) -> None:
        """End the log; safe to call twice."""
        self._append([self._rest] if self._rest else [])
        self._rest = b""
        self._closed = True
        if self._file is not None:
            self._file.close()


class LogBook:
    """
    All log files of an emulator.

    :param folder: gets one folder per job.
    :param clock: says what time it is.
    """

    def __init__(self, folder: Path, clock: Callable[[], datetime]) -> None:
        self._folder = folder
        self._clock = clock

    def writer(self, job_id: str, task: str) -> LogWriter:
        """Open the log of one replica; a second run of it goes on in the same file."""
        return LogWriter(self._folder / job_id / f"{task}.log", self._clock)

    def say(self, job_id: str, text: str) -> None:
        """Write a line in the service's name."""
        writer = self.writer(job_id, SERVICE)
        writer.write(text.encode() + b"\n")
        writer.close()

    def job_ids(self) -> list[str]:
        """Ids of all jobs with a log."""
        return sorted(path.name for path in self._folder.iterdir()) if self._folder.is_dir() else []

    def lines(self, job_id: str) -> Iterator[Line]:
        """All lines of a job, replica by replica."""
        for path in sorted((self._folder / job_id).glob("*.log")):
            with path.open("rb") as file:
                for number, raw in enumerate(file):
                    stamp, _, text = raw.rstrip(b"\n").decode(errors="replace").partition(" ")
                    yield Line(datetime.fromisoformat(stamp), job_id, path.stem, number, text)

    def traceback(self, job_id: str, task: str, lines: int = 12) -> str:
        """The end of the last Python traceback in a replica's log, empty when there is none."""
        texts = [line.text for line in self.lines(job_id) if line.task == task]
        starts = [n for n, text in enumerate(texts) if text.startswith("Traceback (most recent call last)")]
        if not starts:
            return ""
        found = texts[starts[-1] :]
        return "\n".join(found if len(found) <= lines else [found[0], "  [...]", *found[2 - lines :]])


class QuietLogBook(LogBook):
    """Keeps nothing of what the service says: files would take most of the time of thousands of short jobs."""

    def say(self, job_id: str, text: str) -> None:
        """Drop a line."""


def utc_now() -> datetime:
    """The emulator's clock."""
    return datetime.now(UTC)
