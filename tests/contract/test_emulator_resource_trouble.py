# SPDX-License-Identifier: Apache-2.0
"""Persistent resources in trouble, as a test or a user orders it: no machines, broken ones, names that stay taken."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from google.api_core import exceptions
from google.cloud.aiplatform_v1.types import JobState, PersistentResource

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.contract.conftest import Cloud

State = PersistentResource.State
MACHINE = {"machine_type": "n1-standard-4"}
STOCKOUT = "Resources are insufficient in region: europe-west4. "


@pytest.fixture(scope="module")
def simulator(module_cloud_with: Callable[..., Cloud]) -> Cloud:
    """An emulator whose jobs run until they are cancelled."""
    return module_cloud_with(executor="simulate", simulated_seconds=3600)


@pytest.fixture
def troubled(simulator: Cloud) -> Iterator[Cloud]:
    """The simulator, with no faults after the test."""
    yield simulator
    simulator.emulator.control.clear_faults()


def start(cloud: Cloud, resource_id: str, *pools: dict[str, Any]) -> Any:
    """Create a job on a resource."""
    return cloud.create(cloud.job(*(pools or (cloud.pool(),)), persistent_resource_id=resource_id))


def delete(cloud: Cloud, name: str) -> None:
    """Delete a resource and wait until it is gone."""
    cloud.resources.delete_persistent_resource(name=name)

    def gone() -> bool:
        try:
            cloud.resources.get_persistent_resource(name=name)
        except exceptions.NotFound:
            return True
        return False

    cloud.wait_for(gone, f"the end of {name}")


def test_the_third_try_finds_machines(troubled: Cloud) -> None:
    """As many creations as ordered end in ERROR, of the same name too, and then one succeeds."""
    troubled.emulator.control.add_fault("CreatePersistentResource", "stockout", times=2)
    for _ in range(2):
        resource = troubled.resource("scarce")
        assert resource.state == State.ERROR
        assert resource.error.message.startswith(STOCKOUT)
        delete(troubled, resource.name)
    assert troubled.resource("scarce").state == State.RUNNING


def test_a_creation_can_be_slow_to_fail(cloud_with: Callable[..., Cloud]) -> None:
    """A stockout, too, comes only when the resource was PROVISIONING for its time."""
    cloud = cloud_with(executor="simulate", resource_provisioning_seconds=1)
    cloud.emulator.control.add_fault("CreatePersistentResource", "stockout")
    created = cloud.resources.create_persistent_resource(
        parent=cloud.PARENT,
        persistent_resource=PersistentResource(
            {"resource_pools": [{"machine_spec": MACHINE, "replica_count": 1}]}
        ),
        persistent_resource_id="slow",
    )
    name = f"{cloud.PARENT}/persistentResources/slow"
    assert cloud.resources.get_persistent_resource(name=name).state == State.PROVISIONING
    with pytest.raises(exceptions.InternalServerError):
        created.result(timeout=20)
    raw = PersistentResource.pb(cloud.resources.get_persistent_resource(name=name))
    assert raw.state == State.ERROR
    assert (raw.update_time.ToDatetime() - raw.create_time.ToDatetime()).total_seconds() >= 1


def test_a_running_resource_can_break(troubled: Cloud) -> None:
    """Jobs that ran or waited on it have failed with an internal error; one elsewhere goes on."""
    resource = troubled.resource("fragile")
    running, waiting = start(troubled, "fragile"), start(troubled, "fragile")
    elsewhere = troubled.running(troubled.create(troubled.job(troubled.pool())))
    troubled.running(running)
    troubled.emulator.control.fail_resource(resource.name)
    broken = troubled.resources.get_persistent_resource(name=resource.name)
    assert broken.state == State.ERROR
    assert broken.error.message == (
        "An internal error occurred on your cluster. Please try recreating one in a few minutes."
    )
    assert broken.error.code == 13
    assert broken.start_time == resource.start_time
    for job, ran in ((running, True), (waiting, False)):
        ended = troubled.ended(job)
        assert ended.state == JobState.JOB_STATE_FAILED
        assert (ended.error.code, ended.error.message) == (
            13,
            "Internal error occurred for the current attempt",
        )
        assert ("start_time" in ended) is ran
        assert "end_time" in ended
    assert troubled.get(elsewhere).state == JobState.JOB_STATE_RUNNING
    troubled.resources.reboot_persistent_resource(name=resource.name).result(timeout=20)
    pool = troubled.resources.get_persistent_resource(name=resource.name).resource_pools[0]
    assert (pool.replica_count, pool.used_replica_count) == (1, 0)
    troubled.running(start(troubled, "fragile"))


def test_a_job_that_is_being_cancelled_is_not_failed(cloud: Cloud) -> None:
    """Its machines go, but the user's word was first."""
    resource = cloud.resource("late-break")
    deaf = (
        "import signal, time; signal.signal(15, signal.SIG_IGN); print('deaf', flush=True); time.sleep(600)"
    )
    job = start(cloud, "late-break", cloud.pool(deaf))
    cloud.wait_for(lambda: cloud.log(job) == ["deaf"])
    cloud.jobs.cancel_custom_job(name=job.name)
    cloud.emulator.control.fail_resource(resource.name)
    assert cloud.ended(job).state == JobState.JOB_STATE_CANCELLED


def test_the_reason_of_a_broken_resource_can_be_chosen(troubled: Cloud) -> None:
    """The region is filled in."""
    name = troubled.resource("chosen").name
    troubled.emulator.control.fail_resource(name, "Resources are insufficient in region: {region}. Sorry.")
    error = troubled.resources.get_persistent_resource(name=name).error
    assert (error.code, error.message) == (8, f"{STOCKOUT}Sorry.")


@pytest.mark.parametrize(
    ("resource_id", "words"), [("nobody", "does not exist"), ("broken", '"broken" is ERROR, not RUNNING')]
)
def test_only_what_runs_can_break(troubled: Cloud, resource_id: str, words: str) -> None:
    """Everything else is told at once."""
    if resource_id == "broken":
        troubled.emulator.control.fail_resource(troubled.resource(resource_id).name)
    with pytest.raises(ValueError, match=words):
        troubled.emulator.control.fail_resource(f"{troubled.PARENT}/persistentResources/{resource_id}")


def test_names_that_stay_taken_are_free_in_the_end(cloud_with: Callable[..., Cloud]) -> None:
    """For a while, Get knows nothing of a resource, and its name is refused all the same."""
    cloud = cloud_with(executor="simulate", name_blocked_seconds=2)
    name = cloud.resource("blocked").name
    delete(cloud, name)
    with pytest.raises(exceptions.AlreadyExists):
        cloud.resource("blocked")
    with pytest.raises(exceptions.NotFound):
        cloud.resources.get_persistent_resource(name=name)
    assert "blocked" not in [
        one.display_name for one in cloud.resources.list_persistent_resources(parent=cloud.PARENT)
    ]

    def created() -> bool:
        try:
            cloud.resource("blocked")
        except exceptions.AlreadyExists:
            return False
        return True

    cloud.wait_for(created, "a free name")
