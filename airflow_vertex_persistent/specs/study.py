# SPDX-License-Identifier: Apache-2.0
"""
What a tuning job searches: its metrics, its parameters and how it looks for the best of them.

::

    parameters = {
        "learning_rate": double(1e-4, 1e-1, scale="log"),
        "layers": integer(1, 4),
        "batch": discrete([16, 32, 64]),
        "optimizer": categorical(
            ["adam", "sgd"],
            children={"momentum": double(0.0, 0.99, parent_values=["sgd"])},
        ),
    }

The functions return plain dictionaries, the API's own ``ParameterSpec`` without its id: templates work in them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

Scale = Literal["linear", "log", "reverse_log"]

SCALES = {
    "linear": "UNIT_LINEAR_SCALE",
    "log": "UNIT_LOG_SCALE",
    "reverse_log": "UNIT_REVERSE_LOG_SCALE",
    "unspecified": "SCALE_TYPE_UNSPECIFIED",
}
"""The API's name of each scale; the last word is the SDK's for none."""
CONDITIONS = {
    "integer_value_spec": "parent_int_values",
    "discrete_value_spec": "parent_discrete_values",
    "categorical_value_spec": "parent_categorical_values",
}
"""In which field of a condition the values of its parent are, by the parent's kind; other kinds have no children."""
# The SDK's classes, by name: who uses them has imported the SDK, and nobody else should have to.
_SDK_KINDS = {
    "DoubleParameterSpec": "double_value_spec",
    "IntegerParameterSpec": "integer_value_spec",
    "DiscreteParameterSpec": "discrete_value_spec",
    "CategoricalParameterSpec": "categorical_value_spec",
}
_ID_FIELDS = ("parameter_id", "parameterId")
_PARENT_VALUES = "parent_values"

Values = Sequence[float | int | str] | str
Parameter = dict[str, Any]


def double(
    min_value: float | str,
    max_value: float | str,
    *,
    scale: Scale | str | None = None,
    parent_values: Values | None = None,
) -> Parameter:
    """
    Return a parameter that is any number between two, both included.

    :param min_value: The smallest.
    :param max_value: The largest.
    :param scale: ``"linear"``, ``"log"`` (small values are looked at more closely) or ``"reverse_log"``. The last
        two need values above 0. Default: the service's, linear.
    :param parent_values: Of a child: the values of its parent with which it goes.
    """
    return _parameter(
        "double_value_spec", {"min_value": min_value, "max_value": max_value}, scale, parent_values
    )


def integer(
    min_value: int | str,
    max_value: int | str,
    *,
    scale: Scale | str | None = None,
    parent_values: Values | None = None,
    children: Mapping[str, Any] | None = None,
) -> Parameter:
    """
    Return a parameter that is any whole number between two, both included.

    Training code may get it with a point, ``--layers=3.0``.

    :param min_value: The smallest.
    :param max_value: The largest.
    :param scale: See :func:`double`.
    :param parent_values: See :func:`double`.
    :param children: Parameters, by id, that go with some values of this one; each says with which in its
        ``parent_values``.
    """
    bounds = {"min_value": min_value, "max_value": max_value}
    return _parameter("integer_value_spec", bounds, scale, parent_values, children)


def discrete(
    values: Sequence[float | int | str] | str,
    *,
    scale: Scale | str | None = None,
    parent_values: Values | None = None,
    children: Mapping[str, Any] | None = None,
) -> Parameter:
    """
    Return a parameter that is one of up to 1,000 numbers.

    Training code may get a whole one with a point, ``--batch=32.0``.

    :param values: The numbers, in increasing order, at least 1e-10 apart.
    :param scale: See :func:`double`.
    :param parent_values: See :func:`double`.
    :param children: See :func:`integer`.
    """
    return _parameter("discrete_value_spec", {"values": values}, scale, parent_values, children)


def categorical(
    values: Sequence[str] | str,
    *,
    parent_values: Values | None = None,
    children: Mapping[str, Any] | None = None,
) -> Parameter:
    """
    Return a parameter that is one of some texts.

    :param values: The texts.
    :param parent_values: See :func:`double`.
    :param children: See :func:`integer`.
    """
    return _parameter("categorical_value_spec", {"values": values}, None, parent_values, children)


def _parameter(
    kind: str,
    values: dict[str, Any],
    scale: str | None,
    parent_values: Values | None,
    children: Mapping[str, Any] | None = None,
) -> Parameter:
    parameter: Parameter = {kind: values}
    if scale is not None:
        parameter["scale_type"] = scale
    if children:
        parameter["conditional_parameter_specs"] = [
            _condition(kind, name, plain_parameter(child)) for name, child in children.items()
        ]
    if parent_values is not None:
        parameter[_PARENT_VALUES] = parent_values
    return parameter


def _condition(kind: str, name: str, child: Any) -> dict[str, Any]:
    """Return a child as its parent has it; what is wrong with it is told when the task runs."""
    if not isinstance(child, Mapping):
        return {"parameter_spec": {"parameter_id": name}}
    spec = {key: value for key, value in child.items() if key != _PARENT_VALUES}
    condition: dict[str, Any] = {"parameter_spec": with_id(name, spec)}
    if _PARENT_VALUES in child and kind in CONDITIONS:
        condition[CONDITIONS[kind]] = {"values": child[_PARENT_VALUES]}
    return condition


def with_id(name: str, parameter: Mapping[str, Any]) -> dict[str, Any]:
    """Return a parameter with the id under which it stands; one that says another has both, which is told later."""
    rest = {key: value for key, value in parameter.items() if key not in _ID_FIELDS}
    others = [parameter[field] for field in _ID_FIELDS if parameter.get(field) not in (None, name)]
    return {"parameter_id": name, **rest} | ({"parameterId": others[0]} if others else {})


def plain_parameter(parameter: Any) -> Any:
    """Return a parameter-spec object of the SDK as a dictionary, and everything else as it is."""
    kind = _SDK_KINDS.get(type(parameter).__name__)
    if kind is None or isinstance(parameter, Mapping):
        return parameter
    fields = {"min": "min_value", "max": "max_value", "values": "values"}
    values = {name: getattr(parameter, field) for field, name in fields.items() if hasattr(parameter, field)}
    scale = getattr(parameter, "scale", None)
    children = getattr(parameter, "conditional_parameter_spec", None)
    return _parameter(kind, values, scale, parameter.parent_values, children)


def plain_parameters(parameters: Any) -> Any:
    """Return parameters with the SDK's objects among them as dictionaries."""
    if not isinstance(parameters, Mapping):
        return parameters
    return {name: plain_parameter(parameter) for name, parameter in parameters.items()}
