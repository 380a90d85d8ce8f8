# SPDX-License-Identifier: Apache-2.0
"""A persistent resource as one look shows it."""

from __future__ import annotations

from typing import Any

from airflow_vertex_persistent.names import persistent_resource_name

NIGHTLY = persistent_resource_name("acme", "europe-west4", "nightly")


def seen_resource(state: str, used: int = 0, error: str = "") -> Any:
    """Return the snapshot of a resource in a state, with some of its machines in use."""
    return {
        "persistent_resource": str(NIGHTLY),
        "state": state,
        "error_message": error,
        "pools": [{"id": "cpu", "replica_count": 2, "max_replica_count": None, "used_replica_count": used}],
    }
