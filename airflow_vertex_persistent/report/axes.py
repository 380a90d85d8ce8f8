# SPDX-License-Identifier: Apache-2.0
"""Where values stand on an axis of the parallel coordinates, and which of its marks have a text."""

from __future__ import annotations

import math
from statistics import median
from typing import TYPE_CHECKING, NamedTuple

from airflow_vertex_persistent.report.values import cut, value_text

if TYPE_CHECKING:
    from collections.abc import Sequence

Value = float | str | None

UNSET = "not set"
_LOG_FROM = 100.0  # largest by smallest value
_STEPS = 5
_FEW = 8
_TEXT = 18
_LARGEST = 1e300  # so that nothing overflows on the way to the chart
_APART = 0.06  # of the axis, so that two texts do not meet


class Axis(NamedTuple):
    """
    One axis: positions of the values, its ends, and its marks.

    :param positions: One for each value.
    :param ends: The lowest and the highest position.
    :param marks: Text by position.
    """

    positions: list[float]
    ends: tuple[float, float]
    marks: dict[float, str]


def axis(values: Sequence[Value]) -> Axis:
    """
    Return the axis for the values of a parameter or metric.

    Numbers stand on a logarithmic axis where :func:`is_logarithmic` says so, texts at equal distances. A value that
    is ``None`` stands below all others: a conditional parameter that a trial does not have.
    """
    present = [value for value in values if value is not None]
    if any(isinstance(value, str) for value in present):
        return _axis_of_texts(values)
    clamped = [None if value is None else max(-_LARGEST, min(_LARGEST, float(value))) for value in values]
    found = [number for number in clamped if number is not None]
    numbers = sorted(set(found))
    if is_logarithmic(found):
        positions = [None if number is None else math.log10(number) for number in clamped]
        return _finished(positions, _decades(numbers[0], numbers[-1]))
    return _finished(clamped, _round_numbers(numbers))


def is_logarithmic(numbers: Sequence[float]) -> bool:
    """
    Tell whether numbers are better seen by their size.

    All are positive, they span two decades and more, and half of them would be crowded at the bottom otherwise: not
    so if one of many evenly spread numbers happens to be small.
    """
    if not numbers or min(numbers) <= 0 or max(numbers) / min(numbers) < _LOG_FROM:
        return False
    low, middle, high = min(numbers), median(numbers), max(numbers)
    by_size = math.log(middle / low) / math.log(high / low)
    return abs(by_size - 0.5) < abs((middle - low) / (high - low) - 0.5)


def _axis_of_texts(values: Sequence[Value]) -> Axis:
    texts = sorted({value_text(value) for value in values if value is not None})
    places = {text: float(index) for index, text in enumerate(texts)}
    positions = [None if value is None else places[value_text(value)] for value in values]
    return _finished(positions, {place: cut(text, _TEXT) for text, place in places.items()})


def _finished(positions: Sequence[float | None], marks: dict[float, str]) -> Axis:
    """Return the axis between its outermost marks, with a place below them for what is not set."""
    # Marks are rounded: a value may lie a last digit beyond them.
    places = [*marks, *(position for position in positions if position is not None)]
    low, high = min(places, default=0.0), max(places, default=0.0)
    if low == high:  # one value: in the middle
        room = abs(low) * 0.5 or 1.0
        low, high = low - room, high + room
        marks = {low: "", **marks, high: ""}
    unset = low - (high - low) * 0.15
    if None in positions:
        low, marks = unset, {unset: UNSET, **marks}
    return Axis([unset if position is None else position for position in positions], (low, high), marks)


def _decades(low: float, high: float) -> dict[float, str]:
    """Return marks at powers of ten, and at both ends of the axis: 1, 2 or 5 times one."""
    bottom = max((end for end in _ends(low) if 0 < end <= low), default=low)
    top = min((end for end in _ends(high) if end >= high), default=high)
    first, last = math.ceil(math.log10(bottom)), math.floor(math.log10(top))
    step = max(1, math.ceil((last - first) / _FEW))
    room = (math.log10(top) - math.log10(bottom)) * _APART
    powers = [
        10.0**power
        for power in range(first, last + 1, step)
        if math.log10(bottom) + room < power < math.log10(top) - room
    ]
    return {math.log10(number): value_text(number) for number in (bottom, *powers, top)}


def _ends(number: float) -> list[float]:
    """Return where an axis may end near a number, on both sides of it."""
    power = math.floor(math.log10(number))
    return [float(f"{factor}e{power + more}") for more in (-1, 0, 1) for factor in (1, 2, 5)]


def _round_numbers(numbers: Sequence[float]) -> dict[float, str]:
    """Return marks at a few whole numbers, or at round numbers around the smallest and the largest."""
    if len(numbers) <= 1 or (len(numbers) <= _FEW and all(number.is_integer() for number in numbers)):
        return {number: value_text(number) for number in numbers}
    low, high = numbers[0], numbers[-1]
    rough = (high - low) / _STEPS
    if rough < 1 / _LARGEST:
        return {low: value_text(low)}
    unit = 10.0 ** math.floor(math.log10(rough))
    step = min((factor * unit for factor in (1, 2, 5, 10)), key=lambda found: abs(found - rough))
    first, last = math.floor(low / step), math.ceil(high / step)
    return {index * step: value_text(index * step) for index in range(first, last + 1)}
