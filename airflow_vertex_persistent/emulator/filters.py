# SPDX-License-Identifier: Apache-2.0
"""
Filter expressions of list calls: comparisons joined with AND, OR, NOT and parentheses.

``state="JOB_STATE_SUCCEEDED" AND NOT labels.team:*`` asks for jobs, and the same grammar asks for log lines.
What a field means is the caller's table: this module only reads the text.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from typing import Any

_TOKEN = re.compile(
    r"""\s*(?:
        (?P<paren>[()])
      | (?P<op><=|>=|!=|=|<|>|:)
      | (?P<quoted>"(?:[^"\\]|\\.)*")
      | (?P<word>[^\s()<>=!:"]+)
    )""",
    re.VERBOSE,
)
_DEPTH = 50  # nesting beyond this is an attack on the parser, not a question

Test = Callable[[Any], bool]


class FilterError(ValueError):
    """A filter that cannot be read, or that asks for what the call does not offer."""


@dataclass(frozen=True)
class Comparison:
    """
    One ``field operator value`` of a filter.

    :param field: the dotted field path as written.
    :param operator: ``=``, ``!=``, ``:``, ``<``, ``<=``, ``>`` or ``>=``.
    :param value: the value without its quotes.
    """

    field: str
    operator: str
    value: str


Meaning = Callable[[Comparison], Test]


def parse(text: str, meaning: Meaning, *, adjacent: bool = False) -> Test:
    """
    Turn a filter into a test of one record.

    :param text: the filter; an empty one is true of everything.
    :param meaning: gives the test for one comparison; raises :class:`FilterError` for an unknown field.
    :param adjacent: comparisons side by side mean AND, as in Cloud Logging's language.
    :raises FilterError: when the text does not follow the grammar.
    """
    if not text.strip():
        return lambda _: True
    reader = _Reader(_tokens(text), meaning, adjacent=adjacent)
    test = reader.disjunction(0)
    if reader.token is not None:
        raise FilterError(f"unexpected {reader.token[1]!r}")
    return test


def _tokens(text: str) -> list[tuple[str, str]]:
    tokens, place, text = [], 0, text.rstrip()
    while place < len(text):
        match = _TOKEN.match(text, place)
        if match is None:
            raise FilterError(f"cannot read {text[place:].strip()[:40]!r}")
        tokens.append((str(match.lastgroup), match.group().strip()))
        place = match.end()
    return tokens


class _Reader:
    """Recursive descent over the tokens: OR binds weaker than AND, AND weaker than NOT."""

    def __init__(self, tokens: list[tuple[str, str]], meaning: Meaning, *, adjacent: bool) -> None:
        self._tokens = tokens
        self._place = 0
        self._meaning = meaning
        self._adjacent = adjacent

    @property
    def token(self) -> tuple[str, str] | None:
        return self._tokens[self._place] if self._place < len(self._tokens) else None

    def disjunction(self, depth: int) -> Test:
        parts = [self._conjunction(depth)]
        while self.token == ("word", "OR"):
            self._place += 1
            parts.append(self._conjunction(depth))
        return _any_of(parts)

    def _conjunction(self, depth: int) -> Test:
        parts = [self._negation(depth)]
        while self.token is not None:
            if self.token == ("word", "AND"):
                self._place += 1
            elif not self._adjacent or self.token in {("word", "OR"), ("paren", ")")}:
                break
            parts.append(self._negation(depth))
        return parts[0] if len(parts) == 1 else _AllOf(parts)

    def _negation(self, depth: int) -> Test:
        if depth > _DEPTH:
            raise FilterError("nested too deeply")
        if self.token == ("word", "NOT"):
            self._place += 1
            test = self._negation(depth + 1)
            return lambda record: not test(record)
        if self.token == ("paren", "("):
            self._place += 1
            test = self.disjunction(depth + 1)
            if self.token != ("paren", ")"):
                raise FilterError("a closing parenthesis is missing")
            self._place += 1
            return test
        return self._comparison()

    def _comparison(self) -> Test:
        field = self._take("word", "a field name")
        operator = self._take("op", f"an operator after {field!r}")
        kind, value = self.token or ("end", "")
        if kind not in {"word", "quoted"}:
            raise FilterError(f"expected a value after {field}{operator}")
        self._place += 1
        if kind == "quoted":
            value = re.sub(r"\\(.)", r"\1", value[1:-1])
        return self._meaning(Comparison(field, operator, value))

    def _take(self, kind: str, what: str) -> str:
        token = self.token
        if token is None or token[0] != kind or token[1] in {"AND", "OR", "NOT"}:
            raise FilterError(f"expected {what}, found {token[1]!r}" if token else f"expected {what}")
        self._place += 1
        return token[1]


def _any_of(parts: list[Test]) -> Test:
    """Join tests with OR; many values of one field become one look-up."""
    joined: list[Test] = []
    for part in parts:
        last = joined[-1] if joined else None
        if isinstance(part, _OneOf) and isinstance(last, _OneOf) and part.field == last.field:
            joined[-1] = _OneOf(part.field, part.get, last.values | part.values)
        else:
            joined.append(part)
    return joined[0] if len(joined) == 1 else lambda record: any(part(record) for part in joined)


def needs(test: Test) -> list[tuple[str, frozenset[str]]]:
    """
    Find fields, each with values of which a record must have one for a test to hold.

    :param test: as :func:`parse` gave it.
    """
    if isinstance(test, _OneOf):
        return [(test.field, test.values)]
    if isinstance(test, _AllOf):
        return [need for part in test.parts for need in needs(part)]
    return []


@dataclass(frozen=True)
class _AllOf:
    """Tests joined with AND."""

    parts: list[Test]

    def __call__(self, record: Any) -> bool:
        for part in self.parts:  # noqa: SIM110 - runs for each of thousands of jobs, and all() takes twice as long
            if not part(record):
                return False
        return True


@dataclass(frozen=True)
class _OneOf:
    """
    Whether a text field has one of some values.

    :param get: reads the field.
    """

    field: str
    get: Callable[[Any], str | None]
    values: frozenset[str]

    def __call__(self, record: Any) -> bool:
        return self.get(record) in self.values


def text_test(comparison: Comparison, get: Callable[[Any], str | None]) -> Test:
    """
    Compare a text field: ``=`` and ``!=`` exactly, ``:`` with ``*`` as a wildcard.

    :param get: reads the field; ``None`` means that the record does not have it.
    """
    value = comparison.value
    if comparison.operator == "=":
        return _OneOf(comparison.field, get, frozenset({value}))
    if comparison.operator == "!=":
        return lambda record: get(record) != value
    if comparison.operator == ":":
        pattern = re.sub(r"([\[?])", r"[\1]", value)
        return lambda record: (text := get(record)) is not None and fnmatchcase(text, pattern)
    raise FilterError(f"{comparison.field} cannot be compared with {comparison.operator}")


def time_test(comparison: Comparison, get: Callable[[Any], datetime]) -> Test:
    """Compare a time field with an RFC 3339 time such as ``"2026-01-31T05:00:00Z"``."""
    try:
        value = datetime.fromisoformat(comparison.value)
    except ValueError as error:
        raise FilterError(f"{comparison.field}: {comparison.value!r} is no RFC 3339 time") from error
    value = value if value.tzinfo else value.replace(tzinfo=UTC)
    tests: dict[str, Test] = {
        "=": lambda record: get(record) == value,
        "!=": lambda record: get(record) != value,
        "<": lambda record: get(record) < value,
        "<=": lambda record: get(record) <= value,
        ">": lambda record: get(record) > value,
        ">=": lambda record: get(record) >= value,
    }
    if comparison.operator not in tests:
        raise FilterError(f"{comparison.field} cannot be compared with {comparison.operator}")
    return tests[comparison.operator]
