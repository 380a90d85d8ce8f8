# SPDX-License-Identifier: Apache-2.0
"""The parameters that a study searches, as a user wrote them, turned into checked ``ParameterSpec`` messages."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from airflow_vertex_persistent.specs.checks import Problems
from airflow_vertex_persistent.specs.messages import read_message
from airflow_vertex_persistent.specs.study import CONDITIONS, SCALES, with_id
from airflow_vertex_persistent.specs.study_fields import check_id, check_once, if_text, listed, word

if TYPE_CHECKING:
    from google.protobuf.descriptor import Descriptor

_KINDS = ("double_value_spec", *CONDITIONS)
_LOG_SCALES = {SCALES["log"], SCALES["reverse_log"]}
_ONE_OF = "write one of double(...), integer(...), discrete(...) and categorical(...)"
_MAX_DISCRETE = 1000
_LEAST_APART = 1e-10  # StudySpec.ParameterSpec.DiscreteValueSpec
# A child in the path of a field, or the values of its parent with which it goes.
_CHILD = re.compile(
    r"\.conditional_parameter_specs\[(?P<index>\d+)\]"
    rf"(?:\.parameter_spec\b|(?P<values>\.(?:{'|'.join(CONDITIONS.values())})\b(?:\.values\b)?)|$)"
)


def read_parameters(value: Any, message: Descriptor, problems: Problems) -> list[dict[str, Any]]:
    """Read parameters: specs by id, or the API's list."""
    written = listed(
        "parameters", value, lambda name, spec: with_id(name, spec) if isinstance(spec, Mapping) else spec
    )
    if not written:
        fix = "write what to search, like {'learning_rate': double(1e-4, 1e-1)}"
        problems.add_hidden("parameters", fix + if_text(value))
    parameters, paths = [], []
    for path, spec in written.items():
        if not isinstance(spec, Mapping):
            problems.add_hidden(path, _ONE_OF)
            continue
        if "parent_values" in spec:
            fix = "goes with a child: write this parameter among the children of another one, or leave it out"
            problems.add_hidden(f"{path}.parent_values", fix)
            continue
        found = Problems(problems.subject)
        parameters.append(parameter := read_message(_with_scales(spec, path, found), message, path, found))
        problems.absorb(found, partial(_as_written, parameter, path))
        paths.append(path)
    ids = [parameter.get("parameter_id") for parameter in parameters]
    for path, parameter in zip(paths, parameters, strict=True):
        _check_parameter(parameter, path, problems, {*ids} - {parameter.get("parameter_id")})
    check_once(ids, "parameters", problems)
    return parameters


def _as_written(parameter: Mapping[str, Any], path: str, field: str) -> str:
    """Return a field of a parameter with its children by name, as they are written with our functions."""
    while (inner := _CHILD.match(field, len(path))) is not None:
        conditions = parameter.get("conditional_parameter_specs") or []
        index = int(inner["index"])
        parameter = (conditions[index].get("parameter_spec") or {}) if index < len(conditions) else {}
        name = parameter.get("parameter_id", index)
        end = ".parent_values" if inner["values"] else ""
        path = f"{path}.children[{name!r}]"
        field = f"{path}{end}{field[inner.end() :]}"
    return field


def _with_scales(spec: Any, path: str, problems: Problems) -> Any:
    """Return a parameter with the API's names of scales, its own and those of its children."""
    if not isinstance(spec, Mapping):
        return spec
    clean = dict(spec)
    for field in ("scale_type", "scaleType"):
        if field in clean:
            clean[field] = _scale(clean[field], f"{path}.scale_type", problems)
    for field in ("conditional_parameter_specs", "conditionalParameterSpecs"):
        if isinstance(clean.get(field), list):
            clean[field] = [
                _condition_with_scales(condition, f"{path}.conditional_parameter_specs[{index}]", problems)
                for index, condition in enumerate(clean[field])
            ]
    return clean


def _condition_with_scales(condition: Any, path: str, problems: Problems) -> Any:
    if not isinstance(condition, Mapping):
        return condition
    specs = {field: condition[field] for field in ("parameter_spec", "parameterSpec") if field in condition}
    clean = {field: _with_scales(spec, f"{path}.parameter_spec", problems) for field, spec in specs.items()}
    return {**condition, **clean}


def _scale(value: Any, path: str, problems: Problems) -> Any:
    """Return the API's name of a scale."""
    name = word(value, SCALES)
    if isinstance(name, str) and name not in SCALES.values():
        problems.add(path, value, "write 'linear', 'log' or 'reverse_log'")
        return None
    return name


def _check_parameter(parameter: Mapping[str, Any], path: str, problems: Problems, others: set[Any]) -> None:
    """
    Check what a parameter says.

    :param others: The ids of those above it and at the top; whether it goes with other children is for the service.
    """
    check_id(parameter, "parameter_id", path, problems)
    kinds = [kind for kind in _KINDS if kind in parameter]
    if len(kinds) != 1:
        problems.add_hidden(path, _ONE_OF)
        return
    (kind,) = kinds
    spec, where = parameter[kind], f"{path}.{kind}"
    if "default_value" in spec:
        problems.add_hidden(f"{where}.default_value", "leave it out: a tuning job has none")
    if kind == "categorical_value_spec":
        _check_categories(parameter, spec, path, problems)
    else:
        _check_numbers(parameter, spec, kind, path, problems)
    _check_children(parameter, kind, path, problems, others | {parameter.get("parameter_id")})


def _check_categories(
    parameter: Mapping[str, Any], spec: Mapping[str, Any], path: str, problems: Problems
) -> None:
    values, where = spec.get("values") or [], f"{path}.categorical_value_spec.values"
    if not values:
        problems.add_hidden(where, "write at least one text")
    check_once(values, where, problems)
    if parameter.get("scale_type", SCALES["unspecified"]) != SCALES["unspecified"]:
        problems.add(f"{path}.scale_type", parameter["scale_type"], "leave it out: texts have no scale")


def _check_numbers(
    parameter: Mapping[str, Any], spec: Mapping[str, Any], kind: str, path: str, problems: Problems
) -> None:
    where = f"{path}.{kind}"
    if kind == "discrete_value_spec":
        numbers = [number for number in spec.get("values") or [] if number is not None]
        if not 1 <= len(numbers) <= _MAX_DISCRETE:
            problems.add_hidden(f"{where}.values", f"write 1 to {_MAX_DISCRETE} numbers")
        if any(after - before < _LEAST_APART for before, after in pairwise(numbers)):
            fix = f"write them in increasing order, at least {_LEAST_APART:g} apart"
            problems.add_hidden(f"{where}.values", fix)
    else:
        bounds = {field: spec.get(field) for field in ("min_value", "max_value")}
        for field in (field for field, bound in bounds.items() if bound is None):
            problems.add_hidden(f"{where}.{field}", "write a number")
        numbers = [bound for bound in bounds.values() if bound is not None]
        if numbers != sorted(numbers):
            problems.add(f"{where}.max_value", numbers[1], f"must not be less than min_value, {numbers[0]}")
    low = min(numbers, default=1)
    if parameter.get("scale_type") in _LOG_SCALES and low <= 0:
        scale = next(word for word, name in SCALES.items() if name == parameter["scale_type"])
        problems.add(f"{path}.scale_type", scale, f"needs values that are all above 0, which {low} is not")


def _check_children(
    parameter: Mapping[str, Any], kind: str, path: str, problems: Problems, others: set[Any]
) -> None:
    wanted = CONDITIONS.get(kind)
    for index, condition in enumerate(parameter.get("conditional_parameter_specs") or []):
        child = condition.get("parameter_spec") or {}
        name = child.get("parameter_id", index)
        where = f"{path}.children[{name!r}]"
        if wanted is None:
            problems.add_hidden(where, "only integer, discrete and categorical parameters have children")
            continue
        if not any(kind in child for kind in _KINDS):
            problems.add_hidden(where, _ONE_OF)
            continue
        values = (condition.get(wanted) or {}).get("values")
        if not values:
            fix = "write the values of the parent with which it goes"
            problems.add_hidden(f"{where}.parent_values", fix)
        for value in values or []:
            if not _can_be(value, parameter[kind], kind):
                problems.add(
                    f"{where}.parent_values", value, f"is no value of the parent: {_values(parameter[kind])}"
                )
        if name in others:
            problems.add_hidden(where, "a trial has another parameter of this name: give it one of its own")
        _check_parameter(child, where, problems, others)


def _values(spec: Mapping[str, Any]) -> str:
    """Return what a parent can be, for an error."""
    if "values" in spec:
        return ", ".join(map(str, spec["values"]))
    return f"{spec.get('min_value')} to {spec.get('max_value')}"


def _can_be(value: Any, spec: Mapping[str, Any], kind: str) -> bool:
    """Tell whether a parent can have a value; ``None`` is one that was told of already, here and in its own."""
    if kind == "integer_value_spec":
        least, most = spec.get("min_value"), spec.get("max_value")
        return value is None or least is None or most is None or least <= value <= most
    values = spec.get("values") or []
    if value is None or None in values:
        return True
    if kind == "discrete_value_spec":
        return any(abs(value - other) < _LEAST_APART for other in values)
    return value in values


def check_grid(parameters: Sequence[Mapping[str, Any]], problems: Problems) -> None:
    """Check that a grid search has parameters whose values can be counted."""
    if doubles := [name for parameter in parameters for name in _doubles(parameter)]:
        fix = f"a grid search needs values that can be counted; {', '.join(doubles)} is double(...)"
        problems.add("algorithm", "grid", f"{fix}: write discrete(...) or integer(...) instead")


def _doubles(parameter: Mapping[str, Any]) -> list[str]:
    """Return the names of parameters that are any number, children included."""
    found = [str(parameter.get("parameter_id"))] if "double_value_spec" in parameter else []
    for condition in parameter.get("conditional_parameter_specs") or []:
        found += _doubles(condition.get("parameter_spec") or {})
    return found
