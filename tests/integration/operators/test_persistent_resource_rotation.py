# SPDX-License-Identifier: Apache-2.0
"""A resource that is too old, differs or is in ERROR is replaced, but only an own one that nobody uses."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from airflow.sdk.exceptions import AirflowFailException
from google.cloud.aiplatform_v1.types import JobState, PersistentResource

from airflow_vertex_persistent.emulator import EmulatorControl
from airflow_vertex_persistent.exceptions import MaxWaitExceededError, PersistentResourceError
from airflow_vertex_persistent.operators.labels import installation

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from tests.conftest import Relay
    from tests.integration.conftest import Cloud
    from tests.integration.operators.conftest import Run

    Make = Callable[..., Any]
    Meanwhile = Callable[[Callable[[], object]], AbstractContextManager[None]]

AT_ONCE = 0.001
A_MONTH = "2592000s"
AUTOSCALED: dict[str, Any] = {
    "machine_spec": {"machine_type": "n1-standard-4"},
    "disk_spec": {"boot_disk_type": "pd-ssd", "boot_disk_size_gb": 100},
    "autoscaling_spec": {"min_replica_count": 1, "max_replica_count": 2},
}


def ours() -> dict[str, str]:
    """Return the labels of a resource that this installation has made."""
    return {"airflow_installation": str(installation())}


@pytest.fixture
def cloud(empty_cloud: Cloud, relay: Relay) -> Cloud:
    """An emulator behind a relay, with the persistent resource ``nightly``, which this installation has made."""
    assert relay.address != empty_cloud.address
    empty_cloud.create_resource(labels=ours())
    return empty_cloud


def create_time(cloud: Cloud) -> Any:
    """Return when the resource was created that runs now."""
    live = cloud.resource()
    assert live is not None
    assert live.state == PersistentResource.State.RUNNING
    return live.create_time


def test_an_old_one_is_replaced(
    cloud: Cloud, create: Make, run_dag: Callable[[], Run], *, deferrable: bool
) -> None:
    """A resource that is older than max_age gives way to a new one of the same id."""
    old = create_time(cloud)
    create(deferrable=deferrable, max_age=AT_ONCE)
    result = run_dag().result("create")
    assert (result["created"], result["rotated"]) == (True, True)
    assert create_time(cloud) > old


def test_a_young_one_stays(
    relay: Relay, create: Make, run_dag: Callable[[], Run], *, deferrable: bool
) -> None:
    """What is as it is wanted and young enough is adopted, however often the task runs."""
    create(deferrable=deferrable, max_age=A_MONTH)
    assert run_dag().result("create")["created"] is True
    result = run_dag().result("create")
    assert (result["created"], result["rotated"]) == (False, False)
    assert relay.count("CreatePersistentResource") == 1
    assert relay.count("DeletePersistentResource") == 0


def test_one_that_differs_is_replaced(
    cloud: Cloud, create: Make, run_dag: Callable[[], Run], *, deferrable: bool
) -> None:
    """A changed spec is a reason to replace what is young, even where it is only the number of machines."""
    pool = {"machine_spec": {"machine_type": "n1-standard-4"}, "replica_count": 3}
    create(deferrable=deferrable, max_age=A_MONTH, resource_pools=[pool])
    assert run_dag().result("create")["rotated"] is True
    live = cloud.resource()
    assert live is not None
    assert live.resource_pools[0].replica_count == 3


def test_one_in_error_is_replaced(
    empty_cloud: Cloud, create: Make, run_dag: Callable[[], Run], *, deferrable: bool
) -> None:
    """A resource that never came up gives way to one that does."""
    with EmulatorControl(empty_cloud.address) as control:
        control.add_fault("CreatePersistentResource", "stockout")
    empty_cloud.create_resource(labels=ours())
    create(deferrable=deferrable, max_age=A_MONTH)
    assert run_dag().result("create")["rotated"] is True


@pytest.mark.parametrize("labels", [{}, {"airflow_installation": "another"}])
def test_one_of_somebody_else_stays(
    empty_cloud: Cloud,
    relay: Relay,
    create: Make,
    run_dag: Callable[[], Run],
    labels: dict[str, str],
    *,
    deferrable: bool,
) -> None:
    """What this installation has not made is never deleted: the error names the label and what to do."""
    empty_cloud.create_resource(labels=labels)
    create(deferrable=deferrable, max_age=AT_ONCE, retries=3)
    error = run_dag().error("create")
    assert type(error) is AirflowFailException
    told = "its label airflow_installation is 'another', not " if labels else "no label airflow_installation"
    for part in (told, " old", "Next step:"):
        assert part in str(error)
    assert relay.count("DeletePersistentResource") == 0
    assert create_time(empty_cloud)


def test_it_waits_for_running_jobs(
    cloud: Cloud,
    relay: Relay,
    create: Make,
    run_dag: Callable[[], Run],
    meanwhile: Meanwhile,
    *,
    deferrable: bool,
) -> None:
    """Nothing is deleted while a job runs on the resource; once the job has ended, it is replaced."""
    old, job = create_time(cloud), cloud.occupy()

    def end_the_job() -> None:
        cloud.wait_for(lambda: relay.count("GetPersistentResource") > 5, "the task waits")
        assert relay.count("DeletePersistentResource") == 0
        assert cloud.jobs.get_custom_job(name=job.name).state == JobState.JOB_STATE_RUNNING
        cloud.cancel_running_job()

    create(deferrable=deferrable, max_age=AT_ONCE)
    with meanwhile(end_the_job):
        run = run_dag()
    assert run.result("create")["rotated"] is True
    assert create_time(cloud) > old


def test_it_waits_for_jobs_that_wait(
    start_cloud: Callable[..., Cloud], create: Make, run_dag: Callable[[], Run], *, deferrable: bool
) -> None:
    """A job that has no machines yet uses the resource as well, and comes to its end."""
    cloud = start_cloud(scale_up_seconds=4.0)
    cloud.create_resource(labels=ours(), resource_pools=[AUTOSCALED])
    pool = {
        "machine_spec": AUTOSCALED["machine_spec"],
        "disk_spec": AUTOSCALED["disk_spec"],
        "replica_count": 1,
        "container_spec": {"image_uri": cloud.IMAGE, "args": ["succeed"]},
    }
    job: Any = {
        "display_name": "waits",
        "job_spec": {"worker_pool_specs": [pool, pool], "persistent_resource_id": "nightly"},
    }
    parent = f"projects/{cloud.PROJECT}/locations/{cloud.REGION}"
    cloud.jobs.create_custom_job(parent=parent, custom_job=job)
    create(deferrable=deferrable, max_age=AT_ONCE, resource_pools=[AUTOSCALED])
    assert run_dag().result("create")["rotated"] is True
    assert cloud.settled_states() == [JobState.JOB_STATE_SUCCEEDED]


def test_one_in_use_fails_at_once(
    cloud: Cloud, relay: Relay, create: Make, run_dag: Callable[[], Run], *, deferrable: bool
) -> None:
    """Who would rather not wait is told which jobs are in the way, and why it should be replaced."""
    job = cloud.occupy()
    create(deferrable=deferrable, max_age=AT_ONCE, when_in_use="fail")
    error = run_dag().error("create")
    assert type(error) is PersistentResourceError
    for part in (job.name, " old", "when_in_use='wait'"):
        assert part in str(error)
    assert relay.count("DeletePersistentResource") == 0


def test_waiting_for_jobs_has_an_end(
    cloud: Cloud, relay: Relay, create: Make, run_dag: Callable[[], Run], *, deferrable: bool
) -> None:
    """Once max_wait_duration has passed the error says what was waited for; resource and job are left alone."""
    job = cloud.occupy()
    create(deferrable=deferrable, max_age=AT_ONCE, max_wait_duration="1s")
    error = run_dag().error("create")
    assert type(error) is MaxWaitExceededError
    for part in ("max_wait_duration, 1 s", job.name, "Next step:"):
        assert part in str(error)
    assert relay.count("DeletePersistentResource") == 0
    assert cloud.jobs.get_custom_job(name=job.name).state == JobState.JOB_STATE_RUNNING


def test_a_job_that_comes_meanwhile(
    cloud: Cloud, relay: Relay, create: Make, run_dag: Callable[[], Run], *, deferrable: bool
) -> None:
    """A deletion without an answer is not repeated before it is known who uses the resource by then."""
    old = create_time(cloud)
    relay.before("DeletePersistentResource", cloud.occupy)
    relay.refuse("DeletePersistentResource")
    create(deferrable=deferrable, max_age=AT_ONCE, when_in_use="fail")
    error = run_dag().error("create")
    assert type(error) is PersistentResourceError
    assert "is in use: " in str(error)
    assert relay.count("DeletePersistentResource") == 1
    assert create_time(cloud) == old


def test_a_deletion_whose_answer_is_lost(
    cloud: Cloud, relay: Relay, create: Make, run_dag: Callable[[], Run], *, deferrable: bool
) -> None:
    """What counts is whether the resource is there: it is not deleted again."""
    old = create_time(cloud)
    relay.lose_reply("DeletePersistentResource")
    create(deferrable=deferrable, max_age=AT_ONCE)
    assert run_dag().result("create")["rotated"] is True
    assert relay.count("DeletePersistentResource") == 1
    assert create_time(cloud) > old
