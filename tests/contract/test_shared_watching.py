# SPDX-License-Identifier: Apache-2.0
"""Many triggers on Airflow's own shared streams, against the emulator."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from airflow.triggers.shared_stream import SharedStreamManager

from airflow_vertex_persistent.hooks.training_job import TrainingJobHook
from airflow_vertex_persistent.names import CUSTOM_JOBS, INSTALLATION_LABEL, KEY_LABEL
from airflow_vertex_persistent.triggers.persistent_resource import PersistentResourceTrigger
from airflow_vertex_persistent.triggers.race import RaceTrigger
from airflow_vertex_persistent.triggers.training_job import TrainingJobTrigger

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from airflow_vertex_persistent.triggers.base import VertexTrigger
    from tests.conftest import Relay
    from tests.contract.conftest import Cloud

PROJECT, REGION = "demo-project", "europe-west4"
SHARED: dict[str, Any] = {
    "region": REGION,
    "gcp_conn_id": "google_cloud_default",
    "impersonation_chain": None,
    "poll_interval": 0.5,
    "max_outage": 60.0,
}
DEADLINE = 60.0

pytestmark = pytest.mark.usefixtures("relay")


def submitted(
    cloud: Cloud, code: str, key: str, installation: str, *, known: bool = True, region: str = REGION
) -> TrainingJobTrigger:
    """Create a job and return its trigger; ``known`` tells the trigger of the job's labels."""
    labels = {KEY_LABEL: key, INSTALLATION_LABEL: installation}
    body = cloud.job(cloud.pool(code), labels=labels)
    job = TrainingJobHook().create_job(PROJECT, region, CUSTOM_JOBS, body)
    ours: dict[str, Any] = {"execution_key": key, "installation": installation} if known else {}
    return TrainingJobTrigger(job=job.name, cancel_on_kill=True, **ours, **SHARED)


async def watch_together(triggers: Sequence[VertexTrigger]) -> list[Any]:
    """Return the event of each trigger, run as a triggerer runs those that share."""
    manager = SharedStreamManager()

    async def one(number: int, trigger: VertexTrigger) -> Any:
        key = trigger.shared_stream_key()
        stream = manager.subscribe(trigger_id=number, trigger=trigger, key=key)
        try:
            events = [event.payload async for event in trigger.filter_shared_stream(stream)]
        finally:
            await manager.unsubscribe(number, key)
        assert len(events) == 1
        return events[0]

    async with asyncio.timeout(DEADLINE):
        return await asyncio.gather(*(one(number, trigger) for number, trigger in enumerate(triggers)))


def test_many_jobs_cost_few_reads(cloud: Cloud, relay: Relay) -> None:
    """Jobs of one installation are read by list, none by itself, and each trigger gets its own job's end."""
    codes = ["import time; time.sleep(1.5)", "raise SystemExit(3)", "pass"]
    triggers = [submitted(cloud, codes[n % 3], f"few{n}", "few-reads") for n in range(9)]
    events = asyncio.run(watch_together(triggers))
    assert [event["snapshot"]["job"] for event in events] == [trigger.job for trigger in triggers]
    assert [event["snapshot"]["state"].removeprefix("JOB_STATE_") for event in events] == [
        "SUCCEEDED",
        "FAILED",
        "SUCCEEDED",
    ] * 3
    assert relay.count("GetCustomJob") == 0


def test_an_event_is_that_of_a_watch_alone(cloud: Cloud) -> None:
    """Sharing changes nothing of what a trigger ends with, the end of a failed job's log included."""
    trigger = submitted(cloud, "raise ValueError('the loss is not a number')", "alone", "alone-or-not")
    (shared,) = asyncio.run(watch_together([trigger]))
    assert shared == trigger.watch_here()
    assert shared["details"]["log_lines"][-1] == "ValueError: the loss is not a number"


def test_jobs_without_our_labels(cloud: Cloud, relay: Relay) -> None:
    """A job that somebody else made is read by itself, in the same loop's rounds."""
    trigger = submitted(cloud, "pass", "theirs", "theirs", known=False)
    (event,) = asyncio.run(watch_together([trigger]))
    assert event["snapshot"]["state"] == "JOB_STATE_SUCCEEDED"
    assert relay.count("ListCustomJobs") == 0


def test_a_late_reason_is_waited_for_together(
    cloud_with: Callable[..., Cloud], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A failed job whose error comes later than its state ends its trigger with the error."""
    cloud = cloud_with(error_delay_seconds=2)
    monkeypatch.setenv("VERTEX_AI_EMULATOR_HOST", cloud.emulator.address)
    trigger = submitted(cloud, "raise SystemExit(3)", "late", "late-reason")
    (event,) = asyncio.run(watch_together([trigger]))
    assert "exited with a non-zero status of 3" in event["snapshot"]["error_message"]


def test_jobs_that_wait_too_long(
    cloud_with: Callable[..., Cloud], start_relay: Callable[[str], Relay], monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    A job that has no machines by its deadline is overdue: what is on its way for all says so, as does a look
    alone.
    """
    cloud = cloud_with(provisioning_seconds=600)
    relay = start_relay(cloud.emulator.address)
    monkeypatch.setenv("VERTEX_AI_EMULATOR_HOST", relay.address)
    triggers = [submitted(cloud, "pass", f"due{n}", "overdue") for n in range(2)]
    for seconds, trigger in enumerate(triggers):
        trigger.wait_deadline = (datetime.now(UTC) + timedelta(seconds=seconds)).isoformat()
    events = asyncio.run(watch_together(triggers))
    assert datetime.now(UTC) >= datetime.fromisoformat(str(triggers[-1].wait_deadline))
    assert relay.count("GetCustomJob") == 0
    assert [(event["name"], event["status"]) for event in events] == [
        (trigger.job, "overdue") for trigger in triggers
    ]
    assert events[0]["snapshot"]["state"] == "JOB_STATE_PENDING"
    assert triggers[0].watch_here() == events[0]


def test_an_outage_is_waited_out_together(cloud: Cloud, relay: Relay) -> None:
    """No trigger fails for an answer that did not come."""
    triggers = [submitted(cloud, "pass", f"out{n}", "outage") for n in range(3)]
    relay.refuse("ListCustomJobs", times=2)
    events = asyncio.run(watch_together(triggers))
    assert {event["snapshot"]["state"] for event in events} == {"JOB_STATE_SUCCEEDED"}
    assert relay.count("GetCustomJob") == 0


def test_a_race_while_a_region_is_away(cloud: Cloud, relay: Relay) -> None:
    """The end of the winner is seen, and the others are cancelled, though one region does not answer."""
    winner = submitted(cloud, "import time; time.sleep(3)", "race", "race-away")
    loser = submitted(cloud, "import time; time.sleep(600)", "race", "race-away", region="us-central1")
    for method in ("ListCustomJobs", "GetCustomJob"):
        relay.refuse(method, times=1000, where="/locations/us-central1")
    values = {field: getattr(winner, field) for field in TrainingJobTrigger.fields} | {"max_outage": 1.0}
    race = RaceTrigger(**values, jobs=[winner.job, loser.job])
    (event,) = asyncio.run(watch_together([race]))
    assert (event["name"], event["status"]) == (winner.job, "settled")
    for method in ("ListCustomJobs", "GetCustomJob"):
        relay.answer(method)
    snapshot: Any = loser.watch_here()["snapshot"]
    assert snapshot["state"] == "JOB_STATE_CANCELLED"


def test_lists_that_are_refused(cloud: Cloud, relay: Relay) -> None:
    """Where listing is not allowed but reading is, each trigger reads its own job."""
    triggers = [submitted(cloud, "pass", f"no{n}", "no-list") for n in range(2)]
    relay.refuse("ListCustomJobs", code="PERMISSION_DENIED", times=1000)
    events = asyncio.run(watch_together(triggers))
    assert {event["snapshot"]["state"] for event in events} == {"JOB_STATE_SUCCEEDED"}


def test_a_job_that_is_gone(cloud: Cloud) -> None:
    """A job that was deleted ends its own trigger as refused, and nobody else's."""
    gone = TrainingJobTrigger(
        job=f"projects/1/locations/{REGION}/customJobs/1",
        cancel_on_kill=True,
        execution_key="gone",
        installation="gone-or-not",
        **SHARED,
    )
    other = submitted(cloud, "pass", "not-gone", "gone-or-not")
    # The same project for both, or they would not share.
    gone.job = f"{other.job.rpartition('/')[0]}/1"
    first, second = asyncio.run(watch_together([gone, other]))
    assert first["status"] == "failed"
    assert second["snapshot"]["state"] == "JOB_STATE_SUCCEEDED"


def test_tasks_that_wait_for_one_resource_read_it_once(cloud: Cloud, relay: Relay) -> None:
    """However many wait for a persistent resource, one read a round serves them all."""
    cloud.resource("shared-watching")
    triggers = [
        PersistentResourceTrigger(
            project_id=PROJECT, persistent_resource_id="shared-watching", until="ready", **SHARED
        )
        for _ in range(8)
    ]
    events = asyncio.run(watch_together(triggers))
    assert {event["snapshot"]["state"] for event in events} == {"RUNNING"}
    assert relay.count("GetPersistentResource") < 4


def test_a_resource_that_is_not_there() -> None:
    """Waiting for the end of a resource that is gone ends at once, with nothing."""
    trigger = PersistentResourceTrigger(
        project_id=PROJECT, persistent_resource_id="never-was", until="gone", **SHARED
    )
    (event,) = asyncio.run(watch_together([trigger]))
    assert (event["status"], event["snapshot"]) == ("settled", None)
