# SPDX-License-Identifier: Apache-2.0
"""Checks of single values. Each adds what is wrong to a :class:`Problems` and returns the clean value."""

from __future__ import annotations

import math
import re
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from airflow_vertex_persistent.exceptions import InvalidRequestError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

# The forms are those of the API's field documentation (google.cloud.aiplatform_v1).
_REGION = re.compile(r"[a-z]+(-[a-z]+)+[0-9]+")
_PERSISTENT_RESOURCE_ID = re.compile(r"[a-z]([a-z0-9-]{0,61}[a-z0-9])?")
_GS_URI = re.compile(r"gs://[a-z0-9][a-z0-9._-]{1,220}[a-z0-9](/[^\s]*)?")
_NETWORK = re.compile(r"projects/[0-9]+/global/networks/[^/\s]+")
_SERVICE_ACCOUNT = re.compile(r"[^@\s/]+@[^@\s/]+\.[^@\s/]+")
_SECONDS_TEXT = re.compile(r"(\d+(\.\d+)?)s?")

_LABEL_CHARACTERS = "lower-case letters, digits, '_' and '-'"
_MAX_LABELS = 64
_MAX_LABEL_LENGTH = 64
MAX_DISPLAY_NAME_LENGTH = 128
_MAX_SHOWN = 200  # a value in an error is there to be recognised
_MAX_SECONDS = 315_576_000_000  # google.protobuf.Duration


class Problems:
    """
    Everything that is wrong with one request, so that a user hears all of it at once, and each thing once.

    :param subject: What is being asked for, for example ``"custom job"``.
    """

    def __init__(self, subject: str) -> None:
        self.subject = subject
        self._lines: dict[str, str] = {}

    def add(self, field: str, value: object, fix: str) -> None:
        """Note that ``field`` holds ``value`` and what to write instead."""
        # A container of values may hold an environment, which nobody should read in an error.
        plain = value is None or isinstance(value, str | int | float | timedelta)
        shown = f" = {repr(value)[:_MAX_SHOWN]}" if plain else ""
        self._note(field, f"{shown}: {fix}")

    def add_hidden(self, field: str, fix: str) -> None:
        """Note a problem without its value, which may be a secret or does not help."""
        self._note(field, f": {fix}")

    def _note(self, field: str, text: str) -> None:
        """Keep the first thing told of a field; what follows from it, there or below, is no news."""
        told = any(field == old or field.startswith((f"{old}.", f"{old}[")) for old in self._lines)
        if not told:
            self._lines[field] = text

    def absorb(self, other: Problems, rename: Callable[[str], str]) -> None:
        """Take over the problems of a part of the request, each field renamed."""
        for field, text in other._lines.items():
            self._note(rename(field), text)

    def __bool__(self) -> bool:
        """Tell whether anything is wrong."""
        return bool(self._lines)

    def raise_if_any(self) -> None:
        """
        End the check.

        :raises InvalidRequestError: Anything was wrong.
        """
        if self._lines:
            raise InvalidRequestError(self.subject, [field + text for field, text in self._lines.items()])


def check_form(field: str, value: Any, form: re.Pattern[str], fix: str, problems: Problems) -> None:
    """Check that ``value`` is a text of the given form."""
    if not isinstance(value, str) or form.fullmatch(value) is None:
        problems.add(field, value, fix)


def check_region(value: Any, problems: Problems) -> None:
    """Check the form of a region; which regions there are is for the service to say."""
    check_form("region", value, _REGION, "write a region like 'europe-west4'", problems)


def check_persistent_resource_id(value: Any, problems: Problems) -> None:
    """Check an id against ``CreatePersistentResourceRequest.persistent_resource_id``."""
    fix = "1 to 63 lower-case letters, digits or '-', beginning with a letter, not ending in '-'"
    check_form("persistent_resource_id", value, _PERSISTENT_RESOURCE_ID, fix, problems)


def check_gs_uri(field: str, value: Any, problems: Problems) -> None:
    """Check a Cloud Storage address."""
    check_form(field, value, _GS_URI, "write a Cloud Storage address like 'gs://bucket/folder'", problems)


def check_network(value: Any, problems: Problems) -> None:
    """Check ``CustomJobSpec.network`` or ``PersistentResource.network``."""
    check_form("network", value, _NETWORK, "write 'projects/PROJECT_NUMBER/global/networks/NAME'", problems)


def check_service_account(value: Any, problems: Problems) -> None:
    """Check that a service account is an e-mail address."""
    fix = "write its e-mail address, like 'trainer@my-project.iam.gserviceaccount.com'"
    check_form("service_account", value, _SERVICE_ACCOUNT, fix, problems)


def check_display_name(value: Any, problems: Problems) -> None:
    """Check that a display name has 1 to 128 characters."""
    if not isinstance(value, str) or not 1 <= len(value) <= MAX_DISPLAY_NAME_LENGTH:
        problems.add("display_name", value, f"write 1 to {MAX_DISPLAY_NAME_LENGTH} characters")


def check_labels(labels: Mapping[str, Any], problems: Problems) -> None:
    """Check labels: at most 64, keys and values at most 64 lower-case letters, digits, ``_`` and ``-``."""
    if len(labels) > _MAX_LABELS:
        problems.add("labels", f"{len(labels)} labels", f"at most {_MAX_LABELS} are allowed")
    for key, value in labels.items():
        if not _is_label(key) or not key:
            problems.add_hidden(
                f"labels[{key!r}]", f"a key has 1 to {_MAX_LABEL_LENGTH} of {_LABEL_CHARACTERS}"
            )
        if not _is_label(value):
            problems.add(f"labels[{key!r}]", value, f"at most {_MAX_LABEL_LENGTH} of {_LABEL_CHARACTERS}")


def _is_label(text: Any) -> bool:
    return (
        isinstance(text, str)
        and len(text) <= _MAX_LABEL_LENGTH
        and all(c in "_-" or (c.isalnum() and c == c.lower()) for c in text)
    )


def seconds(field: str, value: Any, problems: Problems, *, zero: bool = False) -> float | None:
    """
    Read a duration: a ``timedelta``, a number of seconds, or a text like ``"7200s"`` or ``"7200"``.

    :param zero: Whether 0 is allowed.
    :return: Seconds, or ``None`` when something was wrong.
    """
    number: float | None = None
    if isinstance(value, timedelta):
        number = value.total_seconds()
    elif isinstance(value, int | float) and not isinstance(value, bool):
        number = float(value)
    elif isinstance(value, str) and (match := _SECONDS_TEXT.fullmatch(value.strip())):
        number = float(match[1])
    if number is None or not number <= _MAX_SECONDS:
        problems.add(field, value, "write a timedelta, a number of seconds, or a text like '7200s'")
    elif number < 0 or (number == 0 and not zero):
        problems.add(field, value, "must be 0 or more" if zero else "must be more than 0")
    else:
        return number
    return None


def api_duration(number: float) -> str:
    """Write seconds as the API's JSON form of a duration."""
    return f"{number:.9f}".rstrip("0").rstrip(".") + "s"


def timestamp(field: str, value: Any, problems: Problems) -> str | None:
    """Read a time in RFC 3339, such as ``2026-11-22T01:00:00Z``; ``None`` when something was wrong."""
    try:
        time = value if isinstance(value, datetime) else datetime.fromisoformat(value)
    except (TypeError, ValueError):
        time = None
    if time is None or time.tzinfo is None:
        problems.add(field, value, "write a time with its zone, like '2026-11-22T01:00:00Z'")
        return None
    return time.isoformat()


def whole_number(field: str, value: Any, problems: Problems, *, least: int | None = None) -> int | None:
    """Read a whole number, or the text of one; ``None`` when something was wrong."""
    number = _number(value)
    if not number.is_integer() or (least is not None and number < least):
        limit = "" if least is None else f", {least} or more"
        problems.add(field, value, f"write a whole number{limit}")
        return None
    return int(number)


def real_number(field: str, value: Any, problems: Problems) -> float | None:
    """Read a finite number, or the text of one; ``None`` when something was wrong."""
    number = _number(value)
    if not math.isfinite(number):
        problems.add(field, value, "write a number")
        return None
    return number


def _number(value: Any) -> float:
    """Return a number, or that of a text; NaN for what is none, as a boolean is none."""
    try:
        return math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        return math.nan


def boolean(field: str, value: Any, problems: Problems) -> bool | None:
    """Read a boolean, or the text that a template rendered of one; ``None`` when something was wrong."""
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value.strip().lower() in {"true", "false"}:
        return value.strip().lower() == "true"
    problems.add(field, value, "write True or False")
    return None


def choice(field: str, value: Any, choices: Sequence[str], problems: Problems) -> str:
    """Read one of a few words; the first of them when something was wrong."""
    if value in choices:
        return str(value)
    problems.add(field, value, f"write {', '.join(map(repr, choices[:-1]))} or {choices[-1]!r}")
    return choices[0]


def texts(field: str, value: Any, problems: Problems) -> list[str]:
    """Read a list of texts; numbers, as arguments often are, become texts."""
    if not isinstance(value, list | tuple):
        problems.add_hidden(field, "write a list of texts")
        return []
    for index, item in enumerate(value):
        if not isinstance(item, str | int | float):
            problems.add_hidden(f"{field}[{index}]", "write a text")
    return [str(item) for item in value]
