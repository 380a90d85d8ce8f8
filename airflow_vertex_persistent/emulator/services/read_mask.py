# SPDX-License-Identifier: Apache-2.0
"""Read masks: answer only the fields that a list call asks for."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import proto

from airflow_vertex_persistent.emulator.errors import invalid

if TYPE_CHECKING:
    from collections.abc import Sequence

    from google.protobuf.field_mask_pb2 import FieldMask

Message = TypeVar("Message", bound=proto.Message)


def masked(found: Sequence[Message], kind: type[Message], mask: FieldMask) -> list[Message]:
    """
    Copy only the masked fields; an empty mask or ``*`` means all of them.

    :param kind: type of the messages.
    :raises ApiError: INVALID_ARGUMENT when a path is no field.
    """
    if not mask.paths or list(mask.paths) == ["*"]:
        return list(found)
    if not mask.IsValidForDescriptor(kind.pb().DESCRIPTOR):
        raise invalid(f"read_mask {','.join(mask.paths)!r} has a path that is no field of {kind.__name__}.")
    answer = []
    for message in found:
        part = kind()
        mask.MergeMessage(kind.pb(message), kind.pb(part))
        answer.append(part)
    return answer
