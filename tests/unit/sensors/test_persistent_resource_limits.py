# SPDX-License-Identifier: Apache-2.0
"""What the sensor of persistent resources decides without asking anybody."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import pytest
from airflow.sdk.exceptions import AirflowFailException, AirflowSensorTimeout, AirflowSkipException
from google.api_core.exceptions import ServiceUnavailable
from resources import NIGHTLY, seen_resource
from task_state import Store

from airflow_vertex_persistent.exceptions import ServiceUnreachableError
from airflow_vertex_persistent.sensors.persistent_resource import PersistentResourceSensor

PLACE: dict[str, Any] = {
    "task_id": "task",
    "region": "europe-west4",
    "persistent_resource_id": "nightly",
    "deferrable": True,
}


def test_a_sensor_reads_a_rendered_number_alike_before_and_after_the_wait() -> None:
    """A template may render a whole number as ``2.0``."""
    seen = seen_resource("RUNNING") | dict.fromkeys(("create_time", "start_time")) | {"labels": {}}
    event = {"name": str(NIGHTLY), "status": "settled", "snapshot": seen, "details": {}, "error": ""}
    sensor = PersistentResourceSensor(**PLACE, free_replicas="2.0")
    assert sensor.execute_complete({}, event)["state"] == "RUNNING"
    with pytest.raises(AirflowFailException, match=r"never has 3 free machines in one pool"):
        PersistentResourceSensor(**PLACE, free_replicas="3.0").execute_complete({}, event)


@pytest.mark.parametrize(
    ("limits", "left"),
    [
        ({"timeout": 100}, 90),
        ({"timeout": 100, "execution_timeout": timedelta(seconds=50)}, 40),
        ({"timeout": 100, "execution_timeout": timedelta(seconds=200)}, 90),
        ({"timeout": 5}, 1),
    ],
)
def test_how_long_a_deferred_sensor_may_wait(limits: dict[str, Any], left: float) -> None:
    """What is left of ``timeout`` counts from the start of the attempt, as in the other modes."""
    ti = SimpleNamespace(start_date=datetime.now(UTC) - timedelta(seconds=10))
    time_left = PersistentResourceSensor(**PLACE, **limits)._time_left({"ti": ti})  # type: ignore[typeddict-item]
    assert time_left is not None
    assert left - 1 < time_left.total_seconds() <= left


@pytest.mark.parametrize(
    ("soft_fail", "kind"), [(False, AirflowSensorTimeout), (True, AirflowSkipException)], ids=["fail", "skip"]
)
def test_a_deferred_sensor_runs_out_of_time(kind: type[Exception], *, soft_fail: bool) -> None:
    """After ``timeout`` a deferred task ends as in the other modes."""
    sensor = PersistentResourceSensor(**PLACE, soft_fail=soft_fail)
    with pytest.raises(kind):
        sensor.resume_execution("__fail__", {"error": "Trigger timeout"}, {})


def test_each_attempt_has_all_of_max_outage() -> None:
    """An attempt that starts in the outage in which the last one failed waits it out anew."""
    store = Store()
    sensor = PersistentResourceSensor(**{**PLACE, "deferrable": False}, max_outage=1e-6)
    hook: Any = Mock(default_project_id="acme", get=Mock(side_effect=ServiceUnavailable("away")))
    sensor.resource_hook = hook

    for try_number in (1, 2):
        attempt: Any = {"task_state_store": store, "ti": SimpleNamespace(try_number=try_number)}
        assert not sensor.poke(attempt).is_done
        with pytest.raises(ServiceUnreachableError, match=r"for max_outage"):
            sensor.poke(attempt)
