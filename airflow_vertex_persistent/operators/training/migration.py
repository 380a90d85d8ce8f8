# SPDX-License-Identifier: Apache-2.0
"""The arguments of the Google provider's tuning operator, in the words of this package."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import IntEnum
from typing import Any

RENAMED = {
    "metric_spec": "metrics",
    "parameter_spec": "parameters",
    "search_algorithm": "algorithm",
    "hyperparameter_tuning_job_labels": "labels",
    "hyperparameter_tuning_job_encryption_spec_key_name": "encryption_spec_key_name",
    "timeout": "max_run_duration",
}
"""Our name of each argument of ``CreateHyperparameterTuningJobOperator`` that has another one here."""
WITHOUT_EFFECT = ("custom_job_labels", "custom_job_encryption_spec_key_name")
"""Arguments that are dropped: Google's SDK takes nothing but the ``job_spec`` of the custom job that has them."""

# What a task has that was written for Google's operator, which asks for both.
_TELLTALE = ("metric_spec", "parameter_spec")
# Google's default of an argument that has the same name here.
_MEASUREMENT_SELECTION = "best"
_BUCKET, _FOLDER = "staging_bucket", "base_output_dir"
# The instances of a task in a mapped task group differ by the map index alone, which is -1 outside of one.
_BELOW_BUCKET = (
    "aiplatform-custom-job/{{ dag.dag_id }}/{{ task.task_id }}/{{ run_id }}"
    "{% if ti.map_index is not none and ti.map_index >= 0 %}/{{ ti.map_index }}{% endif %}"
)


def our_arguments(given: Mapping[str, Any]) -> dict[str, Any]:
    """
    Return the arguments of a tuning task with Google's names among them, and Google's messages, turned into ours.

    A task with ``metric_spec`` or ``parameter_spec`` is one that was written for Google's operator. It keeps what it
    has there without saying so: ``measurement_selection="best"``, and Google's names in the DAG's ``default_args``. A
    ``staging_bucket`` matters where there is no ``base_output_dir``: then that is a folder in it, by DAG, task,
    run and map index.

    :param given: Arguments of a task by name, with the DAG's ``default_args`` as Airflow hands them on.
    :raises ValueError: An argument is given by both its names.
    """
    arguments, defaults = dict(given), given.get("default_args") or {}
    if any(given.get(name) is not None for name in _TELLTALE):
        _take_defaults(arguments, defaults)
    for theirs, ours in RENAMED.items():
        value = arguments.pop(theirs, None)
        if value in (None, 0):  # 0 seconds, too, are Google's way to say nothing
            continue
        if arguments.get(ours) is not None:
            raise ValueError(
                f"Task {given.get('task_id')!r} has both {ours} and {theirs}, Google's name of the same: drop {theirs}."
            )
        arguments[ours] = value
    for name in WITHOUT_EFFECT:
        arguments.pop(name, None)
    bucket = arguments.pop(_BUCKET, None)
    if bucket and not (arguments.get(_FOLDER) or defaults.get(_FOLDER)):
        arguments[_FOLDER] = _folder(str(bucket))
    if "worker_pool_specs" in arguments:
        arguments["worker_pool_specs"] = plain(arguments["worker_pool_specs"])
    return arguments


def _take_defaults(arguments: dict[str, Any], defaults: Mapping[str, Any]) -> None:
    """Fill in what Google's operator has by default; Airflow looks for our names alone in ``default_args``."""
    for theirs, ours in {**RENAMED, _BUCKET: _BUCKET}.items():
        if theirs in defaults and arguments.get(theirs) is None and arguments.get(ours) is None:
            arguments[theirs] = defaults[theirs]
    if arguments.get("measurement_selection") is None:
        arguments["measurement_selection"] = _MEASUREMENT_SELECTION


def _folder(bucket: str) -> str:
    root = bucket.removesuffix("/")
    if not root.startswith(("gs://", "{{")):
        root = f"gs://{root}"
    return f"{root}/{_BELOW_BUCKET}"


def plain(value: Any) -> Any:
    """
    Return a value with Google's messages and enums in it as dictionaries and names, and all else as it is.

    Fields that have their default value are left out. A message is told by what its class can do: importing its
    class would cost every DAG file a second.
    """
    if isinstance(value, IntEnum):
        return value.name
    if isinstance(value, Mapping):
        return {key: plain(part) for key, part in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return [plain(part) for part in value]
    to_dict = getattr(type(value), "to_dict", None)
    if to_dict is None or not hasattr(type(value), "pb"):
        return value
    return to_dict(value, use_integers_for_enums=False, always_print_fields_with_no_presence=False)
