# SPDX-License-Identifier: Apache-2.0
"""How a job or persistent resource says whose it is: its labels, and its name in the console."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

from airflow.sdk.configuration import conf

from airflow_vertex_persistent.names import (
    CANDIDATE_LABEL,
    DAG_LABEL,
    DATE_LABEL,
    INSTALLATION_LABEL,
    KEEP_LABEL,
    KEY_LABEL,
    MAP_INDEX_LABEL,
    REQUEST_LABEL,
    RUN_LABEL,
    TASK_LABEL,
    date_label,
    label_value,
)
from airflow_vertex_persistent.specs.checks import MAX_DISPLAY_NAME_LENGTH
from airflow_vertex_persistent.triggers.task_state import map_index_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow.sdk import Context

    from airflow_vertex_persistent.operators.training.execution import Execution


def job_labels(
    context: Context, execution: Execution, request: Mapping[str, Any], *, keep: bool
) -> dict[str, str]:
    """
    Return the labels that say whose job this is.

    :param request: The job without these labels; a hash of it tells whether a DAG was changed in between.
    :param keep: The job goes on when its task has ended: no sweep may cancel it.
    """
    ti = context["ti"]
    labels = {
        **resource_labels(context),
        KEY_LABEL: execution.key,
        REQUEST_LABEL: fingerprint(request),
        RUN_LABEL: label_value(ti.run_id),
    }
    if (map_index := map_index_of(ti)) is not None:
        labels[MAP_INDEX_LABEL] = str(map_index)
    if logical_date := context.get("logical_date"):
        labels[DATE_LABEL] = date_label(logical_date)
    if keep:
        labels[KEEP_LABEL] = "true"
    if len(execution.regions) > 1:
        labels[CANDIDATE_LABEL] = str(execution.candidate)
    return labels


def resource_labels(context: Context) -> dict[str, str]:
    """Return the labels that say which task of which Airflow made a persistent resource, or a job."""
    ti = context["ti"]
    labels = {DAG_LABEL: label_value(ti.dag_id), TASK_LABEL: label_value(ti.task_id)}
    if name := installation():
        labels[INSTALLATION_LABEL] = name
    return labels


def fingerprint(request: Mapping[str, Any]) -> str:
    """Return a short hash of a request that does not depend on the order of its keys."""
    return hashlib.sha256(json.dumps(request, sort_keys=True).encode()).hexdigest()[:16]


def installation() -> str | None:
    """
    Return the name of this Airflow installation among those that share a project, as the value of a label.

    Option ``[vertex_persistent] installation``. The default is a hash of what differs between installations
    and agrees between the workers of one: the API server's address and the Fernet key. Without a Fernet key there
    is no telling, and no name: ``None``.
    """
    if name := conf.get("vertex_persistent", "installation", fallback=""):
        return label_value(str(name))
    key = str(conf.get("core", "fernet_key", fallback="") or "")
    if not key or key.startswith("{"):  # a template of Airflow's that nobody has filled in
        return None
    address = str(conf.get("api", "base_url", fallback="") or "")
    return hashlib.sha256(f"{address}\0{key}".encode()).hexdigest()[:12]


def default_display_name(context: Context) -> str:
    """Return a display name that says which task instance the job is for."""
    ti = context["ti"]
    parts = (ti.dag_id, ti.task_id, ti.run_id, map_index_of(ti))
    return "-".join(str(part) for part in parts if part is not None)[:MAX_DISPLAY_NAME_LENGTH]
