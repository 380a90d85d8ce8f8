# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.providers.standard.operators.empty import EmptyOperator
from google.cloud.aiplatform_v1.types import JobState

from airflow_vertex_persistent.exceptions import JobFailedError

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from tests.integration.conftest import Cloud
    from tests.integration.operators.conftest import Run

    Make = Callable[..., Any]
    Meanwhile = Callable[[Callable[[], object]], AbstractContextManager[None]]


def test_templates(
    dag: Any, empty_cloud: Cloud, create: Make, delete: Make, run_dag: Callable[[], Run], *, deferrable: bool
) -> None:
    """Ids, counts and machine types can be rendered for each run, in both tasks."""
    dag.params = {"id": "weekly", "n": 3}
    pools = [
        {"machineSpec": {"machineType": "n1-standard-{{ params.n + 1 }}"}, "replicaCount": "{{ params.n }}"}
    ]
    first = create(persistent_resource_id="{{ params.id }}", resource_pools=pools, deferrable=deferrable)
    first >> delete(persistent_resource_id="{{ params.id }}", deferrable=deferrable)
    run = run_dag()
    assert run.result("create")["persistent_resource_id"] == "weekly"
    assert run.states == {"create": "success", "delete": "success"}
    assert empty_cloud.resource("weekly") is None


def test_delete_ends_the_jobs_on_it(
    cloud: Cloud, delete: Make, run_dag: Callable[[], Run], *, deferrable: bool
) -> None:
    """A resource that is to be deleted whoever uses it is deleted, and the job on it is cancelled by that."""
    job = cloud.occupy()
    delete(when_in_use="delete", deferrable=deferrable)
    assert run_dag().states == {"delete": "success"}
    assert cloud.jobs.get_custom_job(name=job.name).state == JobState.JOB_STATE_CANCELLED


def test_a_resource_that_vanishes_under_a_job(
    cloud: Cloud, train: Make, run_dag: Callable[[], Run], meanwhile: Meanwhile, *, deferrable: bool
) -> None:
    """A job whose resource is deleted ends its task with an error that points there."""

    def remove() -> None:
        cloud.running_job()
        cloud.resources.delete_persistent_resource(name=cloud.resource().name)  # type: ignore[union-attr]

    train("sleep", "600", deferrable=deferrable)
    with meanwhile(remove):
        error = run_dag().error()
    assert "deleted its persistent resource" in str(error)


def test_the_night_that_fails(
    empty_cloud: Cloud,
    create: Make,
    train: Make,
    delete: Make,
    run_dag: Callable[[], Run],
    *,
    deferrable: bool,
) -> None:
    """A teardown deletes the resource although the training failed; the run fails for what did not come after it."""
    setup = create(deferrable=deferrable).as_setup()
    work = train("fail", deferrable=deferrable)
    setup >> work >> EmptyOperator(task_id="promote")
    work >> delete(deferrable=deferrable).as_teardown(setups=setup, on_failure_fail_dagrun=True)
    run = run_dag()
    expected = {"create": "success", "train": "failed", "promote": "upstream_failed", "delete": "success"}
    assert run.states == expected
    assert type(run.error()) is JobFailedError
    assert run.dag_state == "failed"
    assert empty_cloud.resource() is None


def test_the_night_that_goes_well(
    empty_cloud: Cloud,
    create: Make,
    train: Make,
    delete: Make,
    run_dag: Callable[[], Run],
    *,
    deferrable: bool,
) -> None:
    """Setup, training on the resource that the setup names, and teardown, one after the other."""
    setup = create(deferrable=deferrable).as_setup()
    work = train(
        persistent_resource_id="{{ ti.xcom_pull('create')['persistent_resource_id'] }}", deferrable=deferrable
    )
    setup >> work >> delete(deferrable=deferrable).as_teardown(setups=setup)
    run = run_dag()
    assert run.states == {"create": "success", "train": "success", "delete": "success"}
    assert run.dag_state == "success"
    assert run.result()["persistent_resource_id"] == "nightly"
    assert empty_cloud.resource() is None


def test_links_of_the_resource(
    empty_cloud: Cloud, create: Make, delete: Make, run_dag: Callable[[], Run], *, deferrable: bool
) -> None:
    """Both tasks have a button to the console's list of persistent resources."""
    first, second = create(deferrable=deferrable), delete(deferrable=deferrable)
    first >> second
    run = run_dag()
    (link,) = first.operator_extra_links
    expected = (
        "https://console.cloud.google.com/vertex-ai/training/persistent-resources"
        f"?project={empty_cloud.PROJECT}"
    )
    assert run.xcoms["create"][link.xcom_key] == run.xcoms["delete"][link.xcom_key] == expected
