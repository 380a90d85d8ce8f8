# SPDX-License-Identifier: Apache-2.0
"""
The parameters of a study: which values they may have, and which parameters depend on the values of others.

Pure: what chooses values is passed in.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from google.cloud.aiplatform_v1.types import StudySpec

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

Parameter = StudySpec.ParameterSpec
Value = float | int | str
"""A float for DOUBLE and DISCRETE, an int for INTEGER, a str for CATEGORICAL."""

_Scale = Parameter.ScaleType
_LOG_SCALES = {_Scale.UNIT_LOG_SCALE, _Scale.UNIT_REVERSE_LOG_SCALE}
_CONDITIONS = ("parent_discrete_values", "parent_int_values", "parent_categorical_values")
EPSILON = 1e-10  # numbers that are closer are the same


class Chooser(Protocol):
    """What chooses values: a trial of Optuna."""

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float:
        """Choose a number."""

    def suggest_int(self, name: str, low: int, high: int, *, log: bool = False) -> int:
        """Choose a whole number."""

    def suggest_categorical(self, name: str, choices: Sequence[str]) -> str:
        """Choose one of several texts."""


def choose(parameters: Iterable[Parameter], chooser: Chooser, path: str = "") -> dict[str, Value]:
    """
    Let values be chosen for all parameters that are active, by id.

    :param path: tells parameters of the same id apart that depend on different values of a parent.
    """
    values: dict[str, Value] = {}
    for parameter in parameters:
        name = f"{path}{parameter.parameter_id}"
        value = _chosen(parameter, chooser, name)
        values[parameter.parameter_id] = value
        for index, condition in enumerate(parameter.conditional_parameter_specs):
            if _matches(condition, value):
                values |= choose([condition.parameter_spec], chooser, f"{name}/{index}/")
    return values


def _chosen(parameter: Parameter, chooser: Chooser, name: str) -> Value:
    log = parameter.scale_type in _LOG_SCALES
    reverse = parameter.scale_type == _Scale.UNIT_REVERSE_LOG_SCALE
    if "double_value_spec" in parameter:
        low, high = parameter.double_value_spec.min_value, parameter.double_value_spec.max_value
        number = chooser.suggest_float(name, low, high, log=log)
        # Dense where the plain log scale is sparse: near the top.
        return min(max(low + high - number, low), high) if reverse else number
    if "integer_value_spec" in parameter:
        least, most = parameter.integer_value_spec.min_value, parameter.integer_value_spec.max_value
        whole = chooser.suggest_int(name, least, most, log=log)
        return least + most - whole if reverse else whole
    if "discrete_value_spec" in parameter:
        numbers = parameter.discrete_value_spec.values
        return float(numbers[chooser.suggest_int(name, 0, len(numbers) - 1)])
    return chooser.suggest_categorical(name, list(parameter.categorical_value_spec.values))


def grid(parameters: Sequence[Parameter]) -> Iterator[dict[str, Value]]:
    """Yield all points of a space without DOUBLE parameters; the last parameter changes fastest."""
    if not parameters:
        yield {}
        return
    first, *rest = parameters
    for value in _values(first):
        children = [one.parameter_spec for one in first.conditional_parameter_specs if _matches(one, value)]
        for others in grid([*children, *rest]):
            yield {first.parameter_id: value, **others}


def _values(parameter: Parameter) -> Iterable[Value]:
    if "integer_value_spec" in parameter:
        return range(parameter.integer_value_spec.min_value, parameter.integer_value_spec.max_value + 1)
    if "discrete_value_spec" in parameter:
        return [float(value) for value in parameter.discrete_value_spec.values]
    return list(parameter.categorical_value_spec.values)


def condition_of(conditional: Parameter.ConditionalParameterSpec) -> tuple[str, list[Value]]:
    """Name and values of the condition of a conditional parameter; an empty name when it has none."""
    for name in _CONDITIONS:
        if name in conditional:
            return name, list(getattr(conditional, name).values)
    return "", []


def _matches(conditional: Parameter.ConditionalParameterSpec, value: Value) -> bool:
    return any(same(value, wanted) for wanted in condition_of(conditional)[1])


def same(one: Value, other: Value) -> bool:
    """Whether two values are the same."""
    if isinstance(one, str) or isinstance(other, str):
        return one == other
    return abs(one - other) < EPSILON
