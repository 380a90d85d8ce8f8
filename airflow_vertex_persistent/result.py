# SPDX-License-Identifier: Apache-2.0
"""What tasks hand to the tasks after them; the keys are always the same."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from airflow_vertex_persistent.names import ResourceName, job_console_url
from airflow_vertex_persistent.states import queued_seconds, running_seconds, seconds_between

if TYPE_CHECKING:
    from airflow_vertex_persistent.states import JobSnapshot, ResourceSnapshot


def training_result(snapshot: JobSnapshot, *, fallback: str | None = None) -> dict[str, Any]:
    """
    Return what a training task hands to the tasks after it.

    What does not apply is ``None``. Times are RFC 3339 in UTC. ``queued_seconds`` are
    those of this job, not of candidates before it. ``running_seconds`` are those from the first start to the end: of
    a Spot job, with the time after a preemption in which it waited for machines again.

    :param fallback: Where the job ran instead of where it was to run.
    """
    name = ResourceName.parse(snapshot["job"])
    output_dir = snapshot["output_dir"]
    return {
        "job": snapshot["job"],
        "kind": name.kind,
        "state": snapshot["state"],
        "region": name.region,
        "persistent_resource_id": snapshot["persistent_resource_id"],
        "strategy": snapshot["strategy"],
        "candidate": None,
        "fallback": fallback,
        "create_time": snapshot["create_time"],
        "start_time": snapshot["start_time"],
        "end_time": snapshot["end_time"],
        "queued_seconds": queued_seconds(snapshot),
        "running_seconds": running_seconds(snapshot),
        "output_dir": output_dir,
        "model_dir": output_dir and f"{output_dir.rstrip('/')}/model",
        "console_url": job_console_url(name),
    }


def resource_result(snapshot: ResourceSnapshot) -> dict[str, Any]:
    """Return what a task hands on of a persistent resource, as it is now."""
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
