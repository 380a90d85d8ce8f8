# SPDX-License-Identifier: Apache-2.0
"""The filter grammar: precedence, quoting, time and text comparisons."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_vertex_persistent.emulator.filters import (
    Comparison,
    FilterError,
    Test,
    parse,
    text_test,
    time_test,
)


def meaning(comparison: Comparison) -> Test:
    """Fields are the keys of a dict."""
    if comparison.field == "when":
        return time_test(comparison, lambda record: record["when"])
    return text_test(comparison, lambda record: record.get(comparison.field))


def holds(text: str, *, adjacent: bool = False, **record: Any) -> bool:
    """Whether a filter is true of a record."""
    return parse(text, meaning, adjacent=adjacent)(record)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a=1 OR b=1 AND c=1", True),
        ("(a=1 OR b=1) AND c=1", False),
        ("NOT a=1 OR a=1", True),
        ("NOT (a=1 OR b=1)", False),
        ("NOT NOT a=1", True),
        ("a=1 AND NOT b=1 AND NOT c=1", True),
        ("((a=1))", True),
        ("  ", True),
    ],
)
def test_not_binds_stronger_than_and_and_and_than_or(text: str, *, expected: bool) -> None:
    """The usual precedence, with parentheses above all."""
    assert holds(text, a="1", b="0", c="0") is expected


def test_adjacent_comparisons_mean_and_only_where_allowed() -> None:
    """Cloud Logging joins them, job filters refuse them."""
    assert holds("a=1 b=2", adjacent=True, a="1", b="2")
    assert not holds("a=1\nb=2", adjacent=True, a="1", b="3")
    assert holds("(a=1 b=3) OR b=2", adjacent=True, a="1", b="2")
    with pytest.raises(FilterError, match="unexpected 'b'"):
        holds("a=1 b=2")


def test_quoted_values_may_hold_anything() -> None:
    """Words of the grammar, quotes and backslashes are plain text in quotes."""
    assert holds(r'a="x AND (\"y\" \\ z)"', a=r'x AND ("y" \ z)')


def test_wildcards_are_stars_alone() -> None:
    """A question mark or bracket in a pattern means itself."""
    assert holds('a:"n?g[h]t_*"', a="n?g[h]t_1")
    assert not holds('a:"n?ght"', a="night")
    assert holds("a:*", a="")
    assert not holds("a:*")


@given(st.text())
def test_any_text_value_can_be_asked_for(value: str) -> None:
    """Quoting makes every text a value that equals itself."""
    quoted = value.replace("\\", "\\\\").replace('"', '\\"')
    assert holds(f'a="{quoted}"', a=value)


@given(st.text(max_size=60))
def test_every_text_is_read_or_refused(text: str) -> None:
    """No text makes the reader fail in another way."""
    with suppress(FilterError):
        parse(text, lambda _: lambda _: True)


@pytest.mark.parametrize(
    ("operator", "before", "same", "after"),
    [
        ("=", False, True, False),
        ("!=", True, False, True),
        ("<", True, False, False),
        ("<=", True, True, False),
        (">", False, False, True),
        (">=", False, True, True),
    ],
)
def test_times_are_compared(operator: str, *, before: bool, same: bool, after: bool) -> None:
    """All six operators, with any time zone."""
    moment = datetime(2026, 1, 31, 5, tzinfo=UTC)
    second = timedelta(seconds=1)
    for text in ('"2026-01-31T05:00:00Z"', '"2026-01-31T06:00:00+01:00"'):
        seen = [holds(f"when{operator}{text}", when=moment + shift * second) for shift in (-1, 0, 1)]
        assert seen == [before, same, after]
    with pytest.raises(FilterError, match="cannot be compared"):
        holds('when:"2026-01-31T05:00:00Z"', when=moment)
