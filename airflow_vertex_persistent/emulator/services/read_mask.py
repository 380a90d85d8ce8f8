# SPDX-License-Identifier: Apache-2.0
"""Read masks: answer only the fields that a list call asks for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from google.protobuf.message import Message

from airflow_vertex_persistent.emulator.errors import invalid

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from google.protobuf.descriptor import Descriptor
    from google.protobuf.field_mask_pb2 import FieldMask

_Tree = dict[str, Any]


def masking(kind: Descriptor, mask: FieldMask) -> Callable[[Any, Any], None]:
    """
    Make a function that copies the masked fields of its first protocol buffer into its second, empty one.

    The mask is read once for all messages of a page: ``FieldMask.MergeMessage`` would read it for each. An empty
    mask or ``*`` means all fields.

    :param kind: descriptor of the messages.
    :raises ApiError: INVALID_ARGUMENT when a path is no field.
    """
    if not mask.paths or list(mask.paths) == ["*"]:
        return lambda source, target: target.CopyFrom(source)
    if not mask.IsValidForDescriptor(kind):
        raise invalid(f"read_mask {','.join(mask.paths)!r} has a path that is no field of {kind.name}.")
    tree: _Tree = {}
    # Short paths first: a whole field holds all of its parts.
    for path in sorted(mask.paths, key=lambda path: path.count(".")):
        _plant(tree, path.split("."))
    return lambda source, target: _copy(tree, source, target)


def _plant(tree: _Tree, names: list[str]) -> None:
    """Add a path to a tree in which a field without parts is wanted whole."""
    *above, last = names
    for name in above:
        if tree.get(name, True) == {}:
            return
        tree = tree.setdefault(name, {})
    tree.setdefault(last, {})


def _copy(tree: Mapping[str, Any], source: Any, target: Any) -> None:
    for name, parts in tree.items():
        value = getattr(source, name)
        if isinstance(value, Message):
            if source.HasField(name):
                _copy_message(parts, value, getattr(target, name))
        elif hasattr(value, "MergeFrom"):  # a list or a map
            getattr(target, name).MergeFrom(value)
        else:
            setattr(target, name, value)


def _copy_message(parts: Mapping[str, Any], source: Any, target: Any) -> None:
    if parts:
        _copy(parts, source, target)
    else:
        target.CopyFrom(source)
