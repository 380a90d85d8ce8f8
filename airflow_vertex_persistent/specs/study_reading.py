# SPDX-License-Identifier: Apache-2.0
"""What a user wrote of a study, turned into one checked ``StudySpec``."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from airflow_vertex_persistent.specs.checks import choice
from airflow_vertex_persistent.specs.messages import read_message, spellings
from airflow_vertex_persistent.specs.study import CONDITIONS, SCALES, with_id

if TYPE_CHECKING:
    from collections.abc import Callable

    from google.protobuf.descriptor import Descriptor

    from airflow_vertex_persistent.specs.checks import Problems

# The API's names of what is written shorter.
_GOALS = {"maximize": "MAXIMIZE", "minimize": "MINIMIZE"}
_UNSPECIFIED_GOAL = "GOAL_TYPE_UNSPECIFIED"
_ALGORITHMS = {
    "bayesian": "ALGORITHM_UNSPECIFIED",
    "grid": "GRID_SEARCH",
    "random": "RANDOM_SEARCH",
}
_MEASUREMENTS = {"last": "LAST_MEASUREMENT", "best": "BEST_MEASUREMENT"}
_STOPPING = {
    "median": "median_automated_stopping_spec",
    "decay_curve": "decay_curve_stopping_spec",
    "convex": "convex_automated_stopping_spec",
}
_STOPPING_FIELDS = spellings(_STOPPING.values())
_KINDS = ("double_value_spec", *CONDITIONS)
_LOG_SCALES = {SCALES["log"], SCALES["reverse_log"]}
_ONE_OF = "write one of double(...), integer(...), discrete(...) and categorical(...)"
_ID = re.compile(r"\S+")
_MAX_DISCRETE = 1000
_LEAST_APART = 1e-10  # StudySpec.ParameterSpec.DiscreteValueSpec


def read_study(wanted: Mapping[str, Any], config: Mapping[str, Any], problems: Problems) -> dict[str, Any]:
    """
    Return the study that is wanted.

    What is written as a parameter wins over the same field in ``config``.

    :param wanted: ``metrics``, ``parameters``, ``algorithm``, ``measurement_selection`` and ``early_stopping``; what
        is ``None`` is as ``config`` says.
    :param config: A ``StudySpec``, in snake or camel case.
    :return: A ``StudySpec`` in the API's JSON form with snake-case keys.
    """
    from google.cloud.aiplatform_v1.types import StudySpec

    message = StudySpec.pb().DESCRIPTOR
    body, taken = dict(config), {}
    for field in ("metrics", "parameters"):
        written = [body.pop(field)] if field in body else []
        taken[field] = wanted[field] if wanted[field] is not None else next(iter(written), None)
    for field, words in (("algorithm", _ALGORITHMS), ("measurement_selection", _MEASUREMENTS)):
        if wanted[field] is not None:
            name = "measurement_selection_type" if field == "measurement_selection" else field
            body.pop("measurementSelectionType", None)
            body[name] = _name(field, wanted[field], words, problems)
    if rule := _stopping(wanted["early_stopping"], problems):
        body = {field: value for field, value in body.items() if field not in _STOPPING_FIELDS} | rule
    study = read_message(body, message, "", problems)
    study["metrics"] = _metrics(taken["metrics"], _part(message, "metrics"), problems)
    study["parameters"] = _parameters(taken["parameters"], _part(message, "parameters"), problems)
    if study.get("algorithm") == _ALGORITHMS["grid"]:
        _check_grid(study["parameters"], problems)
    return study


def _part(message: Descriptor, field: str) -> Any:
    """Return the message of a field."""
    return message.fields_by_name[field].message_type


def _word(value: Any, words: Mapping[str, str]) -> Any:
    return words.get(value.lower(), value) if isinstance(value, str) else value


def _name(field: str, value: Any, words: Mapping[str, str], problems: Problems) -> str:
    """Return the API's name of what is written as one of a few words, or as that name."""
    name = _word(value, words)
    return name if name in words.values() else words[choice(field, value, list(words), problems)]


def _stopping(value: Any, problems: Problems) -> dict[str, Any]:
    """Return the field of the rule by which trials are stopped early."""
    if value is None:
        return {}
    if isinstance(value, str) and value in _STOPPING:
        return {_STOPPING[value]: {}}
    if isinstance(value, Mapping) and len(value) == 1 and (field := _STOPPING_FIELDS.get(next(iter(value)))):
        return {field: next(iter(value.values())) or {}}
    words = ", ".join(map(repr, _STOPPING))
    problems.add(
        "early_stopping", value, f"write {words}, or a mapping of one of {', '.join(_STOPPING.values())}"
    )
    return {}


def _listed(field: str, value: Any, as_listed: Callable[[str, Any], Any]) -> dict[str, Any]:
    """
    Return what was written by id, or as the API's list, each by where it stands; nothing if it was neither.

    :param as_listed: Returns what was written by id as the API's list would have it.
    """
    if isinstance(value, Mapping):
        return {f"{field}[{name!r}]": as_listed(name, written) for name, written in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return {f"{field}[{index}]": written for index, written in enumerate(value)}
    return {}


def _metrics(value: Any, message: Descriptor, problems: Problems) -> list[dict[str, Any]]:
    """Read metrics: goals by id, or the API's list."""
    listed = _listed("metrics", value, lambda name, goal: {"metric_id": name, "goal": goal})
    if not listed:
        problems.add_hidden("metrics", "write what to make larger or smaller, like {'accuracy': 'maximize'}")
    metrics = []
    for path, written in listed.items():
        if isinstance(written, Mapping) and written.get("goal") is not None:
            goal = _word(written["goal"], _GOALS)
            if isinstance(goal, str) and goal not in (*_GOALS.values(), _UNSPECIFIED_GOAL):
                problems.add(f"{path}.goal", goal, "write 'maximize' or 'minimize'")
                goal = None
            written = {**written, "goal": goal}  # noqa: PLW2901
        metrics.append(metric := read_message(written, message, path, problems))
        _check_id(metric, "metric_id", path, problems)
        if "goal" not in metric and isinstance(value, Mapping):
            problems.add_hidden(f"{path}.goal", "write 'maximize' or 'minimize'")
        if metric.get("goal", _UNSPECIFIED_GOAL) == _UNSPECIFIED_GOAL:
            metric["goal"] = _GOALS["maximize"]  # as the service takes it
    _check_once([metric.get("metric_id") for metric in metrics], "metrics", problems)
    return metrics


def _parameters(value: Any, message: Descriptor, problems: Problems) -> list[dict[str, Any]]:
    """Read parameters: specs by id, or the API's list."""
    listed = _listed(
        "parameters", value, lambda name, spec: with_id(name, spec) if isinstance(spec, Mapping) else spec
    )
    if not listed:
        problems.add_hidden("parameters", "write what to search, like {'learning_rate': double(1e-4, 1e-1)}")
    parameters = []
    for path, spec in listed.items():
        if not isinstance(spec, Mapping):
            problems.add_hidden(path, _ONE_OF)
            continue
        if "parent_values" in spec:
            fix = "goes with a child: write this parameter among the children of another one, or leave it out"
            problems.add_hidden(f"{path}.parent_values", fix)
            continue
        parameters.append(parameter := read_message(_with_scales(spec), message, path, problems))
        _check_parameter(parameter, path, problems)
    _check_once([parameter.get("parameter_id") for parameter in parameters], "parameters", problems)
    return parameters


def _with_scales(spec: Any) -> Any:
    """Return a parameter with the API's names of scales, its own and those of its children."""
    if not isinstance(spec, Mapping):
        return spec
    clean = dict(spec)
    for field in ("scale_type", "scaleType"):
        if field in clean:
            clean[field] = _word(clean[field], SCALES)
    for field in ("conditional_parameter_specs", "conditionalParameterSpecs"):
        if isinstance(clean.get(field), list):
            clean[field] = [_condition_with_scales(condition) for condition in clean[field]]
    return clean


def _condition_with_scales(condition: Any) -> Any:
    if not isinstance(condition, Mapping):
        return condition
    specs = {field: condition[field] for field in ("parameter_spec", "parameterSpec") if field in condition}
    return {**condition, **{field: _with_scales(spec) for field, spec in specs.items()}}


def _check_id(thing: Mapping[str, Any], field: str, path: str, problems: Problems) -> None:
    value = thing.get(field)
    if not isinstance(value, str) or not _ID.fullmatch(value):
        problems.add(f"{path}.{field}", value, "write a name without spaces")


def _check_once(names: Sequence[Any], field: str, problems: Problems) -> None:
    for name in dict.fromkeys(name for name in names if names.count(name) > 1):
        problems.add(field, name, "is there twice")


def _check_parameter(parameter: Mapping[str, Any], path: str, problems: Problems) -> None:
    _check_id(parameter, "parameter_id", path, problems)
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
    _check_children(parameter, kind, path, problems)


def _check_categories(
    parameter: Mapping[str, Any], spec: Mapping[str, Any], path: str, problems: Problems
) -> None:
    values, where = spec.get("values") or [], f"{path}.categorical_value_spec.values"
    if not values:
        problems.add_hidden(where, "write at least one text")
    _check_once(values, where, problems)
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
        fix = f"needs values that are all above 0, which {low} is not"
        problems.add(f"{path}.scale_type", parameter["scale_type"], fix)


def _check_children(parameter: Mapping[str, Any], kind: str, path: str, problems: Problems) -> None:
    wanted = CONDITIONS.get(kind)
    for index, condition in enumerate(parameter.get("conditional_parameter_specs") or []):
        child = condition.get("parameter_spec") or {}
        name = child.get("parameter_id", index)
        where = f"{path}.children[{name!r}]"
        if wanted is None:
            problems.add_hidden(where, "only integer, discrete and categorical parameters have children")
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
        _check_parameter(child, where, problems)


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


def _check_grid(parameters: Sequence[Mapping[str, Any]], problems: Problems) -> None:
    if doubles := [name for parameter in parameters for name in _doubles(parameter)]:
        fix = f"a grid search needs values that can be counted; {', '.join(doubles)} is double(...)"
        problems.add("algorithm", "grid", f"{fix}: write discrete(...) or integer(...) instead")


def _doubles(parameter: Mapping[str, Any]) -> list[str]:
    """Return the names of parameters that are any number, children included."""
    found = [str(parameter.get("parameter_id"))] if "double_value_spec" in parameter else []
    for condition in parameter.get("conditional_parameter_specs") or []:
        found += _doubles(condition.get("parameter_spec") or {})
    return found
