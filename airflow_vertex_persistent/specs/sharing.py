# SPDX-License-Identifier: Apache-2.0
"""Which DAGs share a persistent resource, and between which of their tasks a run uses it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow_vertex_persistent.specs.checks import Problems

_KEYS = ("dag_id", "setup", "teardown")


@dataclass(frozen=True)
class Span:
    """
    The tasks between which a run of a DAG uses the resource.

    :param dag_id: Id of the DAG.
    :param setups: Ids of the tasks that begin it, each with the prefix of its task group.
    :param teardown: Id of the task that ends it.
    """

    dag_id: str
    setups: tuple[str, ...]
    teardown: str


def sharing_spans(shared_with: Any, own: Span, problems: Problems) -> list[Span]:
    """
    Return the spans of all DAGs that share the resource, the own one first, each once.

    :param shared_with: Ids of DAGs, and mappings with ``dag_id``, ``setup`` and ``teardown``.
    :param own: The span of this task's DAG; without setups it says nothing about any run.
    """
    spans = {own: None} if own.setups else {}
    if not isinstance(shared_with, list | tuple):
        problems.add_hidden(
            "shared_with", "write a list of DAG ids, or of mappings with dag_id, setup and teardown"
        )
        return list(spans)
    for index, entry in enumerate(shared_with):
        if span := _span(f"shared_with[{index}]", entry, own, problems):
            spans[span] = None
    return list(spans)


def _span(field: str, entry: Any, own: Span, problems: Problems) -> Span | None:
    if isinstance(entry, Mapping):
        for key in entry.keys() - set(_KEYS):
            problems.add_hidden(f"{field}.{key}", f"there is no such key; it has {', '.join(_KEYS)}")
        given = {key: entry.get(key) for key in _KEYS}
        for key, value in given.items():
            if not value or not isinstance(value, str):
                problems.add(f"{field}.{key}", value, "write an id")
        dag_id, setup, teardown = (str(value) for value in given.values())
        return Span(dag_id, (setup,), teardown)
    if not entry or not isinstance(entry, str):
        problems.add(field, entry, "write the id of a DAG, or a mapping with dag_id, setup and teardown")
    elif not own.setups:
        problems.add(
            field, entry, "this task has no setup whose id could be meant; write dag_id, setup and teardown"
        )
    else:
        return Span(entry, own.setups, own.teardown)
    return None
