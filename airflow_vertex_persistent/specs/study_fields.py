# SPDX-License-Identifier: Apache-2.0
"""What metrics and parameters of a study have in common: they are written by id or as a list, each once."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from airflow_vertex_persistent.specs.messages import NATIVE

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_vertex_persistent.specs.checks import Problems

_ID = re.compile(r"\S+")


def word(value: Any, words: Mapping[str, str]) -> Any:
    """Return the API's name of what is written as a word, and everything else as it is."""
    return words.get(value.lower(), value) if isinstance(value, str) else value


def listed(field: str, value: Any, as_listed: Callable[[str, Any], Any]) -> dict[str, Any]:
    """
    Return what was written by id, or as the API's list, each by where it stands; nothing if it was neither.

    :param as_listed: Returns what was written by id as the API's list would have it.
    """
    if isinstance(value, Mapping):
        return {f"{field}[{name!r}]": as_listed(name, written) for name, written in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return {f"{field}[{index}]": written for index, written in enumerate(value)}
    return {}


def if_text(value: Any) -> str:
    """Return the advice for somebody whose template has rendered to a text."""
    return f", not a text; {NATIVE}" if isinstance(value, str) else ""


def check_id(thing: Mapping[str, Any], field: str, path: str, problems: Problems) -> None:
    """Check the name of a metric or parameter."""
    value = thing.get(field)
    if not isinstance(value, str) or not _ID.fullmatch(value):
        problems.add(f"{path}.{field}", value, "write a name without spaces")


def check_once(names: Sequence[Any], field: str, problems: Problems) -> None:
    """Check that nothing is there twice."""
    for name in dict.fromkeys(name for name in names if names.count(name) > 1):
        problems.add(field, name, "is there twice")
