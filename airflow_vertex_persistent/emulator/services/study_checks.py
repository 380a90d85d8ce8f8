# SPDX-License-Identifier: Apache-2.0
"""What a study may say on its parameters."""

from __future__ import annotations

import math
import re
from itertools import pairwise
from typing import TYPE_CHECKING

from airflow_vertex_persistent.emulator.tuning.space import EPSILON, Parameter, condition_of, same

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from airflow_vertex_persistent.emulator.errors import Problems
    from airflow_vertex_persistent.emulator.tuning.space import Value

_KINDS = ("double_value_spec", "integer_value_spec", "categorical_value_spec", "discrete_value_spec")
_MOST_DISCRETE = 1000
_SPACE = re.compile(r"\s")
_Scale = Parameter.ScaleType
_LOG_SCALES = {_Scale.UNIT_LOG_SCALE, _Scale.UNIT_REVERSE_LOG_SCALE}
_CONDITION_OF_KIND = {
    "integer_value_spec": "parent_int_values",
    "categorical_value_spec": "parent_categorical_values",
    "discrete_value_spec": "parent_discrete_values",
}


def all_parameters(parameters: Iterable[Parameter]) -> Iterator[Parameter]:
    """Yield parameters and all that depend on them."""
    for parameter in parameters:
        yield parameter
        yield from all_parameters(one.parameter_spec for one in parameter.conditional_parameter_specs)


def check_parameters(parameters: Sequence[Parameter], field: str, problems: Problems) -> None:
    """
    Check the parameters of a study.

    :param field: their path in the request.
    """
    problems.check(parameters, field, "Required field is not set.")
    ids = [parameter.parameter_id for parameter in parameters]
    problems.check(len(ids) == len(set(ids)), field, "Two parameters have the same parameter_id.")
    for index, parameter in enumerate(parameters):
        _check_parameter(parameter, f"{field}[{index}]", problems, above={*ids} - {parameter.parameter_id})


def _check_parameter(parameter: Parameter, field: str, problems: Problems, above: set[str]) -> None:
    """
    Check one parameter and those that depend on it.

    :param above: ids that parameters have which may be active at the same time.
    """
    name = parameter.parameter_id
    problems.check(
        name and not _SPACE.search(name),
        f"{field}.parameter_id",
        f"{name!r} is empty or contains whitespace.",
    )
    scale = Parameter.pb(parameter).scale_type
    problems.check(scale in set(_Scale), f"{field}.scale_type", f"{scale} is not a known scale.")
    kind = next((kind for kind in _KINDS if kind in parameter), "")
    if not kind:
        problems.add(field, "Required field is not set: one of " + ", ".join(_KINDS) + ".")
        return
    if kind == "categorical_value_spec":
        _check_categories(parameter, field, problems)
    else:
        _check_numbers(parameter, kind, field, problems)
    problems.check(
        "default_value" not in getattr(parameter, kind),
        f"{field}.{kind}.default_value",
        "default_value is not supported by HyperparameterTuningJob.",
    )
    _check_conditions(parameter, kind, field, problems, {*above, name})


def _check_categories(parameter: Parameter, field: str, problems: Problems) -> None:
    values, path = parameter.categorical_value_spec.values, f"{field}.categorical_value_spec.values"
    problems.check(values, path, "Required field is not set.")
    problems.check(len(values) == len(set(values)), path, "Two values are the same.")
    problems.check(
        not parameter.scale_type, f"{field}.scale_type", "CATEGORICAL parameters must not have a scale_type."
    )


def _check_numbers(parameter: Parameter, kind: str, field: str, problems: Problems) -> None:
    spec, path = getattr(parameter, kind), f"{field}.{kind}"
    if kind == "discrete_value_spec":
        numbers, path = list(spec.values), f"{path}.values"
        problems.check(numbers, path, "Required field is not set.")
        problems.check(
            len(numbers) <= _MOST_DISCRETE,
            path,
            f"{len(numbers)} values; at most {_MOST_DISCRETE} are allowed.",
        )
        problems.check(
            all(after - before >= EPSILON for before, after in pairwise(numbers)),
            path,
            f"Values must be in increasing order, at least {EPSILON:g} apart.",
        )
    else:
        numbers = [spec.min_value, spec.max_value]
        problems.check(
            spec.min_value <= spec.max_value,
            path,
            f"min_value {spec.min_value} is greater than max_value {spec.max_value}.",
        )
    problems.check(all(map(math.isfinite, numbers)), path, "Values must be finite.")
    problems.check(
        parameter.scale_type not in _LOG_SCALES or all(number > 0 for number in numbers),
        f"{field}.scale_type",
        "A logarithmic scale needs values that are all greater than 0.",
    )


def _check_conditions(
    parameter: Parameter, kind: str, field: str, problems: Problems, above: set[str]
) -> None:
    seen: dict[str, list[Value]] = {}
    for index, one in enumerate(parameter.conditional_parameter_specs):
        path = f"{field}.conditional_parameter_specs[{index}]"
        condition, values = condition_of(one)
        wanted = _CONDITION_OF_KIND.get(kind, "")
        problems.check(
            wanted and condition == wanted and values,
            path,
            f"The parent needs values in {wanted}." if wanted else "A DOUBLE parameter has no conditions.",
        )
        if wanted and condition == wanted:
            problems.check(
                all(_is_value(parameter, kind, value) for value in values),
                f"{path}.{condition}",
                f"The values {values} are not all values of {parameter.parameter_id!r}.",
            )
        child = one.parameter_spec
        others = seen.setdefault(child.parameter_id, [])
        problems.check(
            child.parameter_id not in above and not any(same(a, b) for a in others for b in values),
            f"{path}.parameter_spec.parameter_id",
            f"{child.parameter_id!r} is the id of another parameter that is active at the same time.",
        )
        others += values
        _check_parameter(child, f"{path}.parameter_spec", problems, above)


def _is_value(parameter: Parameter, kind: str, value: Value) -> bool:
    """Whether a parameter can have a value."""
    spec = getattr(parameter, kind)
    if kind == "integer_value_spec":
        return isinstance(value, int) and bool(spec.min_value <= value <= spec.max_value)
    return any(same(value, one) for one in spec.values)
