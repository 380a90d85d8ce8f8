# SPDX-License-Identifier: Apache-2.0
"""What the operators and the sensor of persistent resources decide without asking anybody."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import pytest
from airflow.sdk.exceptions import AirflowFailException, AirflowSensorTimeout, AirflowSkipException
from google.api_core.exceptions import ServiceUnavailable
from google.cloud.aiplatform_v1.types import CustomJob, HyperparameterTuningJob

from airflow_vertex_persistent.exceptions import (
    CapacityError,
    PersistentResourceError,
    ServiceUnreachableError,
)
from airflow_vertex_persistent.names import persistent_resource_name
from airflow_vertex_persistent.operators.persistent_resource import RebootPersistentResourceOperator
from airflow_vertex_persistent.operators.persistent_resource.creation_record import CreationRecord
from airflow_vertex_persistent.operators.persistent_resource.jobs import active_jobs, until_unused, who_uses
from airflow_vertex_persistent.operators.training.cancelling import can_be_cancelled
from airflow_vertex_persistent.sensors.persistent_resource import PersistentResourceSensor

NAME = persistent_resource_name("acme", "europe-west4", "nightly")
PLACE: dict[str, Any] = {
    "task_id": "task",
    "region": "europe-west4",
    "persistent_resource_id": "nightly",
    "deferrable": True,
}


class Store(dict[str, Any]):
    """A task state store in memory."""

    def set(self, key: str, value: Any) -> None:
        """Keep a value."""
        self[key] = value


def context(store: Store, max_tries: int = 3) -> Any:
    """Return the part of a task's context that a record needs."""
    return {"task_state_store": store, "ti": SimpleNamespace(max_tries=max_tries)}


def snapshot(state: str, used: int = 0, error: str = "") -> Any:
    """Return a resource in a state with some of its machines in use."""
    return {
        "persistent_resource": str(NAME),
        "state": state,
        "error_message": error,
        "pools": [{"id": "cpu", "replica_count": 2, "max_replica_count": None, "used_replica_count": used}],
    }


def test_a_retry_knows_what_went_before() -> None:
    """The attempts of an execution share key, beginning and pauses, also those of a newer version of this package."""
    store = Store()
    first = CreationRecord.load(context(store), "request")
    assert CreationRecord.load(context(store), "request") == first
    changed = replace(first, rotated=True, pauses=2, pause_until=first.since, pause_reason="machines")
    changed.save(context(store))
    ((key, stored),) = store.items()
    store[key] = {**stored, "something_new": 1}
    assert CreationRecord.load(context(store), "request") == changed


@pytest.mark.parametrize(("max_tries", "request_"), [(7, "request"), (3, "another")])
def test_another_execution_begins_anew(max_tries: int, request_: str) -> None:
    """A task that was cleared, or whose DAG was changed, has all its time again, and no resource yet."""
    store = Store()
    first = CreationRecord.load(context(store), "request")
    second = CreationRecord.load(context(store, max_tries), request_)
    assert second.key != first.key
    assert second.since >= first.since
    assert CreationRecord.load(context(store, max_tries), request_) == second


def test_when_all_waiting_is_over() -> None:
    """The limit counts from the beginning of the execution; none is none."""
    record = CreationRecord("key", 3, "request", since="2026-11-22T01:00:00+00:00")
    assert record.deadline(7200) == datetime(2026, 11, 22, 3, tzinfo=UTC)
    assert record.deadline(0) is None


JOBS = "projects/1/locations/europe-west4/customJobs"


def job_hook(*jobs: tuple[str, str], tuning: HyperparameterTuningJob | None = None) -> Any:
    """Return a hook that lists custom jobs, each a name and the resource that it runs on, and one tuning job."""
    listed: dict[str, list[Any]] = {
        "customJobs": [
            CustomJob(
                name=f"{JOBS}/{name}", job_spec={"persistent_resource_id": resource, "worker_pool_specs": []}
            )
            for name, resource in jobs
        ],
        "hyperparameterTuningJobs": [tuning] if tuning else [],
    }
    return SimpleNamespace(list_jobs=lambda *place: listed[place[2]], get_job=lambda _: tuning)


def test_who_uses_a_resource() -> None:
    """Jobs of the resource are told by name, a few of many; of other jobs only machines show."""
    assert (
        who_uses(job_hook(("one", "nightly"), ("two", "other"), ("three", "")), NAME, snapshot("RUNNING"))
        == f"{JOBS}/one"
    )
    many = job_hook(*((f"job{number}", "nightly") for number in range(7)))
    first = [f"{JOBS}/job{number}" for number in range(5)]
    assert who_uses(many, NAME, snapshot("RUNNING", 2)) == f"{', '.join(first)} and 2 more"
    assert who_uses(job_hook(), NAME, snapshot("RUNNING", 2)) == "a job of another kind on 2 machines"
    assert who_uses(job_hook(), NAME, snapshot("RUNNING")) == ""
    assert who_uses(job_hook(), NAME, snapshot("ERROR", 2)) == ""


def test_a_tuning_job_uses_a_resource_with_all_its_trials() -> None:
    """It goes for the custom jobs that its trials are, which do not say whose they are."""
    tuning = HyperparameterTuningJob(
        name="projects/1/locations/europe-west4/hyperparameterTuningJobs/9",
        trial_job_spec={"persistent_resource_id": NAME.id},
        trials=[{"id": "1", "custom_job": f"{JOBS}/trial"}, {"id": "2"}],
    )
    hook = job_hook(("trial", "nightly"), ("other", "nightly"), tuning=tuning)
    assert who_uses(hook, NAME, snapshot("RUNNING", 2)) == f"{JOBS}/other, {tuning.name}"


@pytest.mark.filterwarnings("ignore:Unrecognized JobState enum value")
def test_a_job_in_a_state_of_a_newer_service_uses_a_resource() -> None:
    """It is neither over nor being cancelled, as far as anybody knows."""
    job = CustomJob(name=f"{JOBS}/7", state=99, job_spec={"persistent_resource_id": "nightly"})
    hook: Any = SimpleNamespace(list_jobs=lambda *place: [job] if place[2] == "customJobs" else [])
    ti = SimpleNamespace(dag_id="retrain", run_id="scheduled")
    (active,) = active_jobs(hook, NAME, ti)
    assert not active.cancelling
    assert can_be_cancelled(job)


@pytest.mark.parametrize(
    ("state", "used", "until"), [("RUNNING", 2, "unused"), ("RUNNING", 0, None), ("ERROR", 2, None)]
)
def test_how_users_are_waited_for(state: str, used: int, until: str | None) -> None:
    """Only machines in use can be watched; else some time passes before the next look."""
    wait = until_unused("the end of job1", snapshot(state, used), 30.0)
    assert wait.until == until
    assert 30.0 <= wait.seconds <= 33.0


@pytest.mark.parametrize(
    ("seen", "kind", "told"),
    [
        (
            snapshot("ERROR", error="Resources are insufficient in region: europe-west4."),
            CapacityError,
            "is in ERROR: Resources are insufficient",
        ),
        (snapshot("ERROR"), PersistentResourceError, "is in ERROR: the service gave no reason"),
        (None, PersistentResourceError, "was deleted while it was being rebooted"),
    ],
)
def test_a_reboot_that_ends_badly(seen: Any, kind: type[Exception], told: str) -> None:
    """A resource that does not come up again is told with the service's own reason and the next step."""
    event = {"name": str(NAME), "status": "settled", "snapshot": seen, "details": {}, "error": ""}
    with pytest.raises(kind, match=told) as caught:
        RebootPersistentResourceOperator(**PLACE).execute_complete({}, event)
    assert type(caught.value) is kind
    assert "Next step:" in str(caught.value)


def test_a_sensor_reads_a_rendered_number_alike_before_and_after_the_wait() -> None:
    """A template may render a whole number as ``2.0``."""
    seen = snapshot("RUNNING") | dict.fromkeys(("create_time", "start_time")) | {"labels": {}}
    event = {"name": str(NAME), "status": "settled", "snapshot": seen, "details": {}, "error": ""}
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
