# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

from typing import Any

import pytest
from resources import NIGHTLY, seen_resource

from airflow_vertex_persistent.exceptions import CapacityError, PersistentResourceError
from airflow_vertex_persistent.operators.persistent_resource import RebootPersistentResourceOperator


@pytest.mark.parametrize(
    ("seen", "kind", "told"),
    [
        (
            seen_resource("ERROR", error="Resources are insufficient in region: europe-west4."),
            CapacityError,
            "is in ERROR: Resources are insufficient",
        ),
        (seen_resource("ERROR"), PersistentResourceError, "is in ERROR: the service gave no reason"),
        (None, PersistentResourceError, "was deleted while it was being rebooted"),
    ],
)
def test_a_reboot_that_ends_badly(seen: Any, kind: type[Exception], told: str) -> None:
    """A resource that does not come up again is told with the service's own reason and the next step."""
    event = {"name": str(NIGHTLY), "status": "settled", "snapshot": seen, "details": {}, "error": ""}
    with pytest.raises(kind, match=told) as caught:
        RebootPersistentResourceOperator(
            task_id="reboot", region="europe-west4", persistent_resource_id="nightly"
        ).execute_complete({}, event)
    assert type(caught.value) is kind
    assert "Next step:" in str(caught.value)
