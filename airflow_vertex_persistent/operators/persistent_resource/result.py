# SPDX-License-Identifier: Apache-2.0
"""What a look at a persistent resource hands to the tasks after it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from airflow_vertex_persistent.names import ResourceName
from airflow_vertex_persistent.states import seconds_between

if TYPE_CHECKING:
    from airflow_vertex_persistent.states import ResourceSnapshot


def resource_result(snapshot: ResourceSnapshot) -> dict[str, Any]:
    """Return what a look at a persistent resource hands on; the keys are always the same."""
    name = ResourceName.parse(snapshot["persistent_resource"])
    return {
        "persistent_resource": str(name),
        "persistent_resource_id": name.id,
        "region": name.region,
        "state": snapshot["state"],
        "create_time": snapshot["create_time"],
        "start_time": snapshot["start_time"],
        "age_seconds": seconds_between(snapshot["create_time"], datetime.now(UTC).isoformat()),
        "labels": snapshot["labels"],
        "error": snapshot["error_message"] or None,
        "pools": snapshot["pools"],
    }
