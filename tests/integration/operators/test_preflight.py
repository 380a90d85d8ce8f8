# SPDX-License-Identifier: Apache-2.0
"""What a task sees of its persistent resource before it creates a job there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from airflow.sdk.exceptions import AirflowFailException
from google.cloud.aiplatform_v1.types import JobState, PersistentResource

from airflow_vertex_persistent.exceptions import CapacityError, PersistentResourceError

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_vertex_persistent.operators.custom_job import PersistentResourceCustomJobOperator
    from tests.conftest import Relay
    from tests.integration.conftest import Cloud
    from tests.integration.operators.conftest import Run

    Make = Callable[..., PersistentResourceCustomJobOperator]

STOCKOUT = "Resources are insufficient in region: europe-west4. Try a different region."
State = PersistentResource.State


def test_a_machine_that_no_pool_has(
    relayed_cloud: Cloud, relay: Relay, train: Make, run_dag: Callable[[], Run], *, deferrable: bool
) -> None:
    """What does not fit fails without retries, tells the fields, and nothing is sent."""
    train(machine_type="n1-standard-8", boot_disk_size_gb=200, retries=3, deferrable=deferrable)
    error = run_dag().error()
    assert isinstance(error, AirflowFailException)
    for part in (
        "The custom job is not possible like this, 2 problems:",
        "machine_type",
        "boot_disk_size_gb",
    ):
        assert part in str(error)
    assert relayed_cloud.all_jobs() == []
    assert relay.count("CreateCustomJob") == 0


def test_machine_and_disk_of_the_pool(
    empty_cloud: Cloud, train: Make, run_dag: Callable[[], Run], *, deferrable: bool
) -> None:
    """A job that leaves out its machine gets machine and disk of the pool that it names."""
    small = {"machine_spec": {"machine_type": "n1-standard-4"}, "replica_count": 1, "id": "small"}
    disk = {"boot_disk_type": "pd-standard", "boot_disk_size_gb": 200}
    large = {
        "machine_spec": {"machine_type": "n1-standard-8"},
        "replica_count": 1,
        "disk_spec": disk,
        "id": "large",
    }
    empty_cloud.create_resource(resource_pools=[small, large])
    train("succeed", machine_type=None, resource_pool="large", deferrable=deferrable)
    run_dag().result()
    (job,) = empty_cloud.all_jobs()
    (pool,) = job.job_spec.worker_pool_specs
    assert pool.machine_spec.machine_type == "n1-standard-8"
    assert (pool.disk_spec.boot_disk_type, pool.disk_spec.boot_disk_size_gb) == ("pd-standard", 200)


@pytest.mark.parametrize("when_busy", ["queue", "fail", "on_demand"])
def test_a_resource_that_is_not_ready(
    start_cloud: Callable[..., Cloud],
    train: Make,
    run_dag: Callable[[], Run],
    when_busy: str,
    *,
    deferrable: bool,
) -> None:
    """On a resource that is on its way no job is created, nor elsewhere: that is not busy."""
    cloud = start_cloud(resource_provisioning_seconds=600)
    cloud.start_resource()
    train(when_busy=when_busy, deferrable=deferrable)
    error = run_dag().error()
    assert type(error) is PersistentResourceError
    for part in ("nightly is PROVISIONING, not RUNNING", "PersistentResourceSensor"):
        assert part in str(error)
    assert cloud.all_jobs() == []


@pytest.mark.parametrize("when_busy", ["queue", "fail", "on_demand"])
def test_a_resource_that_is_lost(
    start_cloud: Callable[..., Cloud],
    train: Make,
    run_dag: Callable[[], Run],
    when_busy: str,
    *,
    deferrable: bool,
) -> None:
    """A resource in ERROR ends the task with the service's reason, whatever it would do were it busy."""
    cloud = start_cloud(resource_errors={"nightly": STOCKOUT})
    cloud.create_resource()
    train(when_busy=when_busy, deferrable=deferrable)
    error = run_dag().error()
    assert type(error) is CapacityError
    assert STOCKOUT in str(error)
    assert cloud.all_jobs() == []


def test_a_resource_that_is_being_deleted(
    start_cloud: Callable[..., Cloud], train: Make, run_dag: Callable[[], Run]
) -> None:
    """A resource that is about to go takes no jobs."""
    cloud = start_cloud(resource_teardown_seconds=600)
    cloud.create_resource()
    cloud.resources.delete_persistent_resource(name=cloud.resource().name)  # type: ignore[union-attr]
    train()
    error = run_dag().error()
    assert type(error) is PersistentResourceError
    assert "is being deleted" in str(error)


def test_a_resource_that_goes_at_the_last_moment(
    relayed_cloud: Cloud, relay: Relay, train: Make, run_dag: Callable[[], Run]
) -> None:
    """A resource that is deleted between the look and the create gives the same kind of error."""

    def remove() -> None:
        relayed_cloud.resources.delete_persistent_resource(name=relayed_cloud.resource().name)  # type: ignore[union-attr]
        relayed_cloud.wait_while("nightly", State.RUNNING)

    relay.before("CreateCustomJob", remove)
    train()
    assert type(run_dag().error()) is PersistentResourceError


def test_a_look_without_an_answer(
    relayed_cloud: Cloud, relay: Relay, train: Make, run_dag: Callable[[], Run]
) -> None:
    """An outage before the create is waited out; nothing was sent, so nothing has to be looked for."""
    relay.refuse("GetPersistentResource", code="INTERNAL", times=2)
    train("succeed", max_outage=60)
    run_dag().result()
    assert len(relayed_cloud.all_jobs()) == 1
    assert relay.count("GetPersistentResource") == 3


def test_a_job_that_is_adopted_needs_no_look(
    relayed_cloud: Cloud, relay: Relay, train: Make, run_dag: Callable[[], Run], *, deferrable: bool
) -> None:
    """A retry that takes its job over does not ask whether another one would fit."""
    relay.refuse("GetCustomJob", times=2)
    train("sleep", "1", retries=1, max_outage=0.01, deferrable=deferrable)
    run_dag().result()
    assert relay.count("GetPersistentResource") == 1
    (job,) = relayed_cloud.all_jobs()
    assert job.state == JobState.JOB_STATE_SUCCEEDED


@pytest.mark.parametrize("deferrable", [False], ids=["blocking"])
def test_wrong_parameters(
    dag: Any, cloud: Cloud, train: Make, run_dag: Callable[[], Run], *, deferrable: bool
) -> None:
    """All that is wrong is told at once, without retries; values of templates are checked as any others."""
    dag.params = {"busy": "wait"}
    train(
        region="europe",
        when_busy="{{ params.busy }}",
        max_wait_duration="soon",
        resource_pool=5,
        retries=3,
        deferrable=deferrable,
    )
    error = run_dag().error()
    assert isinstance(error, AirflowFailException)
    lines = str(error).splitlines()
    assert lines[0] == "The custom job is not possible like this, 4 problems:"
    assert "  - when_busy = 'wait': write 'queue', 'fail' or 'on_demand'" in lines
    for field in ("region", "max_wait_duration", "resource_pool"):
        assert any(line.startswith(f"  - {field} = ") for line in lines)
    assert cloud.all_jobs() == []


@pytest.mark.parametrize("value", [-1, "-5s", True, [1]])
def test_wrong_limits(cloud: Cloud, train: Make, run_dag: Callable[[], Run], value: object) -> None:
    """A limit is a duration, or 0."""
    train(max_wait_duration=value)
    assert "max_wait_duration" in str(run_dag().error())
    assert cloud.all_jobs() == []


def test_no_limit(cloud: Cloud, train: Make, run_dag: Callable[[], Run], *, deferrable: bool) -> None:
    """0 means for ever, as a text too."""
    train("succeed", max_wait_duration="0s", when_busy="fail", deferrable=deferrable)
    assert run_dag().result()["persistent_resource_id"] == "nightly"
    assert len(cloud.all_jobs()) == 1
