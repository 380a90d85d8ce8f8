# SPDX-License-Identifier: Apache-2.0
"""What a user wrote of a study, turned into one checked ``StudySpec``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from airflow_vertex_persistent.specs.checks import Problems, choice
from airflow_vertex_persistent.specs.messages import read_message, spellings, unknown_field
from airflow_vertex_persistent.specs.study_fields import check_id, check_once, if_text, listed, word
from airflow_vertex_persistent.specs.study_parameters import check_grid, read_parameters

if TYPE_CHECKING:
    from google.protobuf.descriptor import Descriptor

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
    found = Problems(problems.subject)
    study = read_message(body, message, "", found)
    problems.absorb(found, lambda path: f"early_stopping.{path}" if path.partition(".")[0] in rule else path)
    study["metrics"] = _metrics(taken["metrics"], _part(message, "metrics"), problems)
    study["parameters"] = read_parameters(taken["parameters"], _part(message, "parameters"), problems)
    if study.get("algorithm") == _ALGORITHMS["grid"]:
        check_grid(study["parameters"], problems)
    return study


def _part(message: Descriptor, field: str) -> Any:
    """Return the message of a field."""
    return message.fields_by_name[field].message_type


def _name(field: str, value: Any, words: Mapping[str, str], problems: Problems) -> str:
    """Return the API's name of what is written as one of a few words, or as that name."""
    name = word(value, words)
    return name if name in words.values() else words[choice(field, value, list(words), problems)]


def _stopping(value: Any, problems: Problems) -> dict[str, Any]:
    """Return the field of the rule by which trials are stopped early."""
    if value is None:
        return {}
    if isinstance(value, str) and value in _STOPPING:
        return {_STOPPING[value]: {}}
    if isinstance(value, Mapping) and len(value) == 1 and (field := _STOPPING_FIELDS.get(next(iter(value)))):
        return {field: next(iter(value.values())) or {}}
    if isinstance(value, Mapping) and len(value) == 1:
        key = str(next(iter(value)))
        problems.add_hidden(f"early_stopping.{key}", unknown_field("it", key, list(_STOPPING.values())))
        return {}
    words = ", ".join(map(repr, _STOPPING))
    problems.add(
        "early_stopping", value, f"write {words}, or a mapping of one of {', '.join(_STOPPING.values())}"
    )
    return {}


def _metrics(value: Any, message: Descriptor, problems: Problems) -> list[dict[str, Any]]:
    """Read metrics: goals by id, or the API's list."""
    goals = listed("metrics", value, lambda name, goal: {"metric_id": name, "goal": goal})
    if not goals:
        fix = "write what to make larger or smaller, like {'accuracy': 'maximize'}"
        problems.add_hidden("metrics", fix + if_text(value))
    metrics = []
    for path, written in goals.items():
        if isinstance(written, Mapping) and written.get("goal") is not None:
            goal = word(written["goal"], _GOALS)
            if isinstance(goal, str) and goal not in (*_GOALS.values(), _UNSPECIFIED_GOAL):
                problems.add(f"{path}.goal", goal, "write 'maximize' or 'minimize'")
                goal = None
            written = {**written, "goal": goal}  # noqa: PLW2901
        metrics.append(metric := read_message(written, message, path, problems))
        check_id(metric, "metric_id", path, problems)
        if "goal" not in metric and isinstance(value, Mapping):
            problems.add_hidden(f"{path}.goal", "write 'maximize' or 'minimize'")
        if metric.get("goal", _UNSPECIFIED_GOAL) == _UNSPECIFIED_GOAL:
            metric["goal"] = _GOALS["maximize"]  # as the service takes it
    check_once([metric.get("metric_id") for metric in metrics], "metrics", problems)
    return metrics
