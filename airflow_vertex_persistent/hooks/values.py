# SPDX-License-Identifier: Apache-2.0
"""
Values of the API's messages in the JSON form that the rest of the package keeps.

Arguments are ``Any`` where proto-plus hands out other types than its annotations say.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from enum import IntEnum


def timestamp(time: Any) -> str | None:
    """Return a time (a ``datetime`` in UTC) in RFC 3339; ``None`` for a field that is not set."""
    return None if time is None else str(time.isoformat(timespec="milliseconds"))


def enum_name(enum: type[IntEnum], number: int) -> str:
    """Return the name of an enum's value, the bare number for one that a newer service has."""
    try:
        return enum(number).name
    except ValueError:
        return str(number)
