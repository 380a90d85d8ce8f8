# SPDX-License-Identifier: Apache-2.0
"""
Rows that survive the process, in one SQLite file.

A row is written when the call returns: a kill of the process loses nothing. A crash of the whole machine may,
since waiting for the disk at each step of each job would cost more than a test's data is worth.
"""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING

from .names import Key, Location

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_SCHEMA = """
PRAGMA journal_mode = WAL;
PRAGMA synchronous = OFF;
CREATE TABLE IF NOT EXISTS messages (
    number INTEGER PRIMARY KEY,
    kind TEXT NOT NULL,
    project TEXT NOT NULL,
    region TEXT NOT NULL,
    id TEXT NOT NULL,
    content BLOB NOT NULL,
    UNIQUE (kind, project, region, id)
);
"""
_PUT = """
INSERT INTO messages (kind, project, region, id, content) VALUES (?, ?, ?, ?, ?)
ON CONFLICT DO UPDATE SET content = excluded.content
"""


class Journal:
    """
    The file of one emulator.

    :param path: created when it does not exist.
    :raises OSError: when it cannot be opened, or is no such file.
    """

    def __init__(self, path: Path) -> None:
        try:
            self._database = sqlite3.connect(path, isolation_level=None)
            try:
                self._database.executescript(_SCHEMA)
            except sqlite3.Error:
                self._database.close()
                raise
        except sqlite3.Error as error:
            raise OSError(f"{path} cannot be used: {error}. Remove it to start with nothing.") from error

    def put(self, kind: str, key: Key, content: bytes) -> None:
        """Keep a row, in the place of an older one of the same key."""
        self._database.execute(_PUT, (kind, *key.location, key.id, content))

    def remove(self, kind: str, key: Key) -> None:
        """Forget a row."""
        self._database.execute(
            "DELETE FROM messages WHERE kind = ? AND project = ? AND region = ? AND id = ?",
            (kind, *key.location, key.id),
        )

    def rows(self, kind: str) -> Iterator[tuple[Key, bytes]]:
        """All rows of a kind, in order of arrival."""
        found = self._database.execute(
            "SELECT project, region, id, content FROM messages WHERE kind = ? ORDER BY number", (kind,)
        )
        for project, region, name, content in found:
            yield Key(Location(project, region), name), content

    def close(self) -> None:
        """Close the file."""
        self._database.close()
