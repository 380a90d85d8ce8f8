# SPDX-License-Identifier: Apache-2.0
"""
Where jobs, persistent resources and operations are kept: in memory, behind few methods.

Messages in the store are never changed in place: a change is a copy that is put back, so a reader can hold
on to what it got.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, TypeVar

from google.cloud.aiplatform_v1.types import CustomJob, PersistentResource
from google.longrunning.operations_pb2 import Operation

if TYPE_CHECKING:
    from .names import Key, Location

Message = TypeVar("Message", CustomJob, PersistentResource, Operation)


class Table(Generic[Message]):
    """One kind of thing, by key."""

    def __init__(self) -> None:
        self._rows: dict[Key, Message] = {}

    def put(self, key: Key, message: Message) -> None:
        """Keep a message, in place of an older one of the same key."""
        self._rows[key] = message

    def get(self, key: Key) -> Message | None:
        """The message of a key, or ``None``."""
        return self._rows.get(key)

    def remove(self, key: Key) -> None:
        """Forget a key; unknown ones are no error."""
        self._rows.pop(key, None)

    def newest_first(self, location: Location) -> list[tuple[Key, Message]]:
        """Everything in a location, in reverse order of arrival."""
        return [
            (key, message) for key, message in reversed(self._rows.items()) if location.holds(key.location)
        ]


class Store:
    """All that the emulated service knows."""

    def __init__(self) -> None:
        self.jobs: Table[CustomJob] = Table()
        self.resources: Table[PersistentResource] = Table()
        self.operations: Table[Operation] = Table()
