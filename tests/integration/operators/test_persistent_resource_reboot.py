# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from airflow.sdk.exceptions import AirflowFailException
from google.cloud.aiplatform_v1.types import JobState, PersistentResource

from airflow_vertex_persistent.emulator import EmulatorControl
from airflow_vertex_persistent.exceptions import CapacityError, PersistentResourceError
from airflow_vertex_persistent.operators.persistent_resource import RebootPersistentResourceOperator

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from airflow.sdk import DAG

    from tests.conftest import Relay
    from tests.integration.conftest import Cloud
    from tests.integration.operators.conftest import Run

    Make = Callable[..., Any]
    Meanwhile = Callable[[Callable[[], object]], AbstractContextManager[None]]

REBOOT = "RebootPersistentResource"


@pytest.fixture
def reboot(dag: DAG) -> Make:
    """Make the task ``reboot`` with short pauses."""
    values = {
        "task_id": "reboot",
        "region": "europe-west4",
        "persistent_resource_id": "nightly",
        "poll_interval": 0.05,
    }
    return lambda **changes: RebootPersistentResourceOperator(dag=dag, **{**values, **changes})


def name(cloud: Cloud) -> str:
    """Return the full name of the resource."""
    live = cloud.resource()
    assert live is not None
    return live.name


def test_reboot(
    relayed_cloud: Cloud, relay: Relay, reboot: Make, run_dag: Callable[[], Run], *, deferrable: bool
) -> None:
    """The resource has been rebooted, once, and runs again when the task ends."""
    reboot(deferrable=deferrable)
    result = run_dag().result("reboot")
    assert result["state"] == "RUNNING"
    assert result["persistent_resource"] == name(relayed_cloud)
    assert [pool["free_replica_count"] for pool in result["pools"]] == [2]
    assert relay.count(REBOOT) == 1
    live = relayed_cloud.resource()
    assert live is not None
    assert live.state == PersistentResource.State.RUNNING


def test_reboot_one_in_error(
    empty_cloud: Cloud, reboot: Make, run_dag: Callable[[], Run], *, deferrable: bool
) -> None:
    """A resource that never came up may come up by a reboot."""
    with EmulatorControl(empty_cloud.address) as control:
        control.add_fault("CreatePersistentResource", "stockout")
    empty_cloud.create_resource()
    reboot(deferrable=deferrable)
    assert run_dag().result("reboot")["state"] == "RUNNING"


def test_machines_that_a_reboot_loses(
    cloud: Cloud, reboot: Make, run_dag: Callable[[], Run], *, deferrable: bool
) -> None:
    """A resource that does not come up again ends the task with the service's own reason."""
    with EmulatorControl(cloud.address) as control:
        control.add_fault(REBOOT, "stockout")
    reboot(deferrable=deferrable)
    error = run_dag().error("reboot")
    assert type(error) is CapacityError
    assert "is in ERROR: Resources are insufficient in region: europe-west4." in str(error)
    assert "Next step: " in str(error)


def test_one_in_use_is_left_alone(
    relayed_cloud: Cloud, relay: Relay, reboot: Make, run_dag: Callable[[], Run], *, deferrable: bool
) -> None:
    """Unless it is told otherwise, a reboot takes no machines from under a job, and names it."""
    job = relayed_cloud.occupy()
    reboot(deferrable=deferrable)
    error = run_dag().error("reboot")
    assert type(error) is PersistentResourceError
    assert f"is in use: {job.name}\nNext step: " in str(error)
    assert relay.count(REBOOT) == 0


def test_it_waits_for_running_jobs(
    relay: Relay,
    relayed_cloud: Cloud,
    reboot: Make,
    run_dag: Callable[[], Run],
    meanwhile: Meanwhile,
    *,
    deferrable: bool,
) -> None:
    """The reboot comes after the end of the jobs."""
    relayed_cloud.occupy()

    def end_the_job() -> None:
        relayed_cloud.wait_for(lambda: relay.count("GetPersistentResource") > 5, "the task waits")
        assert relay.count(REBOOT) == 0
        relayed_cloud.cancel_running_job()

    reboot(deferrable=deferrable, when_in_use="wait")
    with meanwhile(end_the_job):
        run = run_dag()
    assert run.result("reboot")["state"] == "RUNNING"
    assert relay.count(REBOOT) == 1


def test_jobs_can_be_given_up(
    relayed_cloud: Cloud, reboot: Make, run_dag: Callable[[], Run], *, deferrable: bool
) -> None:
    """Who says so loses the jobs."""
    relayed_cloud.occupy()
    reboot(deferrable=deferrable, when_in_use="reboot")
    assert run_dag().result("reboot")["state"] == "RUNNING"
    assert relayed_cloud.settled_states() == [JobState.JOB_STATE_CANCELLED]


def test_a_reboot_of_somebody_else_counts(
    start_cloud: Callable[..., Cloud], reboot: Make, run_dag: Callable[[], Run], *, deferrable: bool
) -> None:
    """A reboot under way is waited for, and not followed by another."""
    cloud = start_cloud(resource_reboot_seconds=3.0)
    cloud.create_resource()
    cloud.resources.reboot_persistent_resource(name=name(cloud))
    reboot(deferrable=deferrable)
    assert run_dag().result("reboot")["state"] == "RUNNING"
    with EmulatorControl(cloud.address) as control:
        assert control.call_counts()[REBOOT] == 1


def test_one_that_is_being_created(
    start_cloud: Callable[..., Cloud], reboot: Make, run_dag: Callable[[], Run], *, deferrable: bool
) -> None:
    """A resource that cannot be rebooted yet is waited for first."""
    cloud = start_cloud(resource_provisioning_seconds=3.0)
    cloud.start_resource()
    reboot(deferrable=deferrable)
    assert run_dag().result("reboot")["state"] == "RUNNING"
    with EmulatorControl(cloud.address) as control:
        assert control.call_counts()[REBOOT] == 1


def test_a_reboot_whose_reply_is_lost(
    start_cloud: Callable[..., Cloud], reboot: Make, run_dag: Callable[[], Run], *, deferrable: bool
) -> None:
    """A reboot that happened although its call failed is seen, and not repeated."""
    cloud = start_cloud(resource_reboot_seconds=3.0)
    cloud.create_resource()
    reboot(deferrable=deferrable)
    with EmulatorControl(cloud.address) as control:
        control.add_fault(REBOOT, "lost_reply")
        assert run_dag().result("reboot")["state"] == "RUNNING"
        assert control.call_counts()[REBOOT] == 1


def test_a_moment_in_which_it_cannot_be(
    relayed_cloud: Cloud, relay: Relay, reboot: Make, run_dag: Callable[[], Run], *, deferrable: bool
) -> None:
    """A refusal that passes by itself is waited out."""
    assert relayed_cloud.resource() is not None
    relay.refuse(REBOOT, code="FAILED_PRECONDITION", text="not RUNNING or ERROR")
    reboot(deferrable=deferrable)
    assert run_dag().result("reboot")["state"] == "RUNNING"
    assert relay.count(REBOOT) == 2


@pytest.mark.usefixtures("empty_cloud")
def test_what_is_not_there(reboot: Make, run_dag: Callable[[], Run], *, deferrable: bool) -> None:
    """There is nothing to reboot."""
    reboot(deferrable=deferrable)
    error = run_dag().error("reboot")
    assert type(error) is PersistentResourceError
    assert "is not there\nNext step: " in str(error)


def test_what_is_being_deleted(
    start_cloud: Callable[..., Cloud], reboot: Make, run_dag: Callable[[], Run], *, deferrable: bool
) -> None:
    """A resource on its way out does not come back by a reboot."""
    cloud = start_cloud(resource_teardown_seconds=600.0)
    cloud.create_resource()
    cloud.resources.delete_persistent_resource(name=name(cloud))
    reboot(deferrable=deferrable)
    error = run_dag().error("reboot")
    assert type(error) is PersistentResourceError
    assert "is being deleted\nNext step: " in str(error)


def test_reboot_wrong(cloud: Cloud, reboot: Make, run_dag: Callable[[], Run]) -> None:
    """Every wrong field is named at once, before anything happens."""
    reboot(persistent_resource_id="Nightly", when_in_use="hope", poll_interval=0, retries=3, deferrable=False)
    error = run_dag().error("reboot")
    assert type(error) is AirflowFailException
    assert str(error).startswith(
        "The reboot of the persistent resource is not possible like this, 3 problems:"
    )
    for field in ("persistent_resource_id", "when_in_use", "poll_interval"):
        assert f"  - {field} = " in str(error)
    assert cloud.resource() is not None
