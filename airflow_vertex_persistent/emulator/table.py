# SPDX-License-Identifier: Apache-2.0
"""
Tables of messages: in memory, and in a file for the next start.

Messages in the store are never changed in place: a change is a copy that is put back, so a reader can hold
on to what it got.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, TypeVar

import proto
from google.cloud.aiplatform_v1.types import CustomJob, HyperparameterTuningJob, PersistentResource
from google.longrunning.operations_pb2 import Operation

from .names import Location

if TYPE_CHECKING:
    from .journal import Journal
    from .names import Key

Message = TypeVar("Message", CustomJob, HyperparameterTuningJob, PersistentResource, Operation)

EVERYWHERE = Location(None, None)


class Table(Generic[Message]):
    """
    One kind of thing, by key.

    :param kind: type of the messages.
    :param journal: has what an emulator before us left, and gets every change.
    """

    def __init__(self, kind: type[Message], journal: Journal) -> None:
        self._kind = kind.__name__
        self._journal = journal
        self._rows: dict[Key, Message] = {
            key: _read(kind, content) for key, content in journal.rows(self._kind)
        }

    def put(self, key: Key, message: Message) -> None:
        """Keep a message, in place of an older one of the same key."""
        self._rows[key] = message
        raw = type(message).pb(message) if isinstance(message, proto.Message) else message
        self._journal.put(self._kind, key, raw.SerializeToString())

    def get(self, key: Key) -> Message | None:
        """The message of a key, or ``None``."""
        return self._rows.get(key)

    def remove(self, key: Key) -> None:
        """Forget a key; unknown ones are no error."""
        self._rows.pop(key, None)
        self._journal.remove(self._kind, key)

    def newest_first(self, location: Location = EVERYWHERE) -> list[tuple[Key, Message]]:
        """Everything in a location, in reverse order of arrival."""
        return [
            (key, message) for key, message in reversed(self._rows.items()) if location.holds(key.location)
        ]


def _read(kind: Any, content: bytes) -> Any:
    return kind.deserialize(content) if issubclass(kind, proto.Message) else kind.FromString(content)
