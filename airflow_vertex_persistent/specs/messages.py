# SPDX-License-Identifier: Apache-2.0
"""
Reads what a user wrote against the API's own published messages.

The message descriptors that ship with ``google-cloud-aiplatform`` are the schema, so every field the
installed client knows can be written, in snake or camel case, and no second list of fields can fall behind.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

from airflow_vertex_persistent.specs.checks import (
    api_duration,
    boolean,
    real_number,
    seconds,
    timestamp,
    whole_number,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor

    from airflow_vertex_persistent.specs.checks import Problems

NATIVE = "of a template that makes one, set render_template_as_native_obj=True on the DAG"
"""What helps when a text is where a list or a mapping should be."""
_WRAPPER = re.compile(r"google\.protobuf\.\w+Value")  # of one number, boolean or text
_DURATION_THAT_MAY_BE_ZERO = "max_wait_duration"  # where it means for ever


def read_message(value: Any, message: Descriptor, path: str, problems: Problems) -> dict[str, Any]:
    """
    Return ``value`` in the API's JSON form with snake-case keys, noting everything that does not fit.

    Texts that a template rendered become the numbers and booleans the API wants. Fields that are ``None``
    are left out.

    :param value: What the user wrote.
    :param message: Descriptor of the message it should be.
    :param path: Where it stands, for the problems' text.
    """
    if not isinstance(value, Mapping):
        problems.add_hidden(path, f"write a mapping with the fields of {message.name}")
        return {}
    fields = {name: field for field in message.fields for name in (field.name, field.json_name)}
    clean: dict[str, Any] = {}
    for key, item in value.items():
        field = fields.get(key)
        name = str(key) if field is None else field.name
        where = f"{path}.{name}" if path else name
        if field is None:
            names = [known.name for known in message.fields]
            problems.add_hidden(where, unknown_field(message.name, str(key), names))
        elif field.name in clean:
            problems.add_hidden(where, f"is given twice, as {field.name!r} and {field.json_name!r}")
        elif item is not None:
            clean[field.name] = _read_field(item, field, where, problems)
    for group in message.oneofs:
        given = [field.name for field in group.fields if field.name in clean]
        for name in given[1:]:
            problems.add_hidden(f"{path}.{name}" if path else name, f"does not go with {given[0]}: write one")
    return clean


def camel_case(field: str) -> str:
    """Return a field's other spelling: ``job_spec`` is ``jobSpec``."""
    head, *rest = field.split("_")
    return head + "".join(part.capitalize() for part in rest)


def spellings(fields: Iterable[str]) -> dict[str, str]:
    """Return fields by their names in snake and in camel case."""
    return {name: field for field in fields for name in (field, camel_case(field))}


def unknown_field(what: str, field: str, names: Sequence[str]) -> str:
    """Return what to tell of a field that ``what`` does not have: the one that was meant, or all that it has."""
    close = get_close_matches(field, names, n=1)
    guess = f"did you mean {close[0]!r}?" if close else f"it has {', '.join(names)}"
    return f"{what} has no such field; {guess}"


def _read_field(item: Any, field: FieldDescriptor, path: str, problems: Problems) -> Any:
    if _is_map(field):
        return _read_map(item, path, problems)
    if not field.is_repeated:
        return _read_single(item, field, path, problems)
    if isinstance(item, str | Mapping) or not isinstance(item, Sequence):
        problems.add_hidden(path, f"write a list; {NATIVE}" if isinstance(item, str) else "write a list")
        return []
    return [_read_single(part, field, f"{path}[{index}]", problems) for index, part in enumerate(item)]


def _is_map(field: FieldDescriptor) -> bool:
    return field.message_type is not None and bool(field.message_type.GetOptions().map_entry)


def _read_map(item: Any, path: str, problems: Problems) -> dict[str, str]:
    if not isinstance(item, Mapping):
        problems.add_hidden(path, "write a mapping of texts")
        return {}
    return {str(key): value if isinstance(value, str) else str(value) for key, value in item.items()}


def _read_single(item: Any, field: FieldDescriptor, path: str, problems: Problems) -> Any:
    if field.message_type is not None:
        return _read_part(item, field.name, field.message_type, path, problems)
    if field.enum_type is not None:
        return _read_enum(item, field.enum_type, path, problems)
    reader = _SCALARS.get(field.cpp_type)
    return _text(item, path, problems) if reader is None else reader(item, path, problems)


def _read_part(item: Any, name: str, message: Descriptor, path: str, problems: Problems) -> Any:
    """Read a message within another; some of Google's general ones are no mapping in JSON."""
    if message.full_name == "google.protobuf.Duration":
        number = seconds(path, item, problems, zero=name == _DURATION_THAT_MAY_BE_ZERO)
        return None if number is None else api_duration(number)
    if message.full_name == "google.protobuf.Timestamp":
        return timestamp(path, item, problems)
    if _WRAPPER.fullmatch(message.full_name):
        return _read_single(item, message.fields_by_name["value"], path, problems)
    return read_message(item, message, path, problems)


def _read_enum(item: Any, enum: EnumDescriptor, path: str, problems: Problems) -> str | None:
    if isinstance(item, str) and item in enum.values_by_name:
        return item
    if isinstance(item, int) and not isinstance(item, bool) and item in enum.values_by_number:
        return enum.values_by_number[item].name
    close = get_close_matches(str(item).upper(), enum.values_by_name, n=3)
    known = close or [name for name in enum.values_by_name if not name.endswith("_UNSPECIFIED")]
    problems.add(path, item, f"is no {enum.name}; {'did you mean' if close else 'it has'} {', '.join(known)}")
    return None


def _integer(bits: int) -> Callable[[Any, str, Problems], int | None]:
    def read(item: Any, path: str, problems: Problems) -> int | None:
        number = whole_number(path, item, problems)
        if number is not None and abs(number) >= 2 ** (bits - 1):
            problems.add(path, item, "is too large a number")
            return None
        return number

    return read


def _text(item: Any, path: str, problems: Problems) -> str | None:
    if isinstance(item, Mapping | list | tuple | set):
        problems.add_hidden(path, "write a text")
        return None
    return item if isinstance(item, str) else str(item)


def comparable(value: Any) -> Any:
    """Return a value of the API's JSON form without empty parts, and with 64-bit numbers, texts there, as texts."""
    if isinstance(value, Mapping):
        parts = {key: comparable(part) for key, part in value.items()}
        return {key: part for key, part in parts.items() if part is not None} or None
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [comparable(part) for part in value] or None
    return None if value in (None, "", 0, False) else str(value)


# Keys are google.protobuf.descriptor.FieldDescriptor.CPPTYPE_*: INT32, INT64, DOUBLE, FLOAT, BOOL. Everything else
# the training messages hold is text.
_SCALARS: dict[int, Callable[[Any, str, Problems], Any]] = {
    1: _integer(32),
    2: _integer(64),
    5: lambda item, path, problems: real_number(path, item, problems),
    6: lambda item, path, problems: real_number(path, item, problems),
    7: lambda item, path, problems: boolean(path, item, problems),
}
