# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from google.cloud.aiplatform_v1.types import JobState

from airflow_vertex_persistent.names import label_value

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from tests.conftest import Relay
    from tests.integration.conftest import Cloud
    from tests.integration.operators.sharing.conftest import Night

    Meanwhile = Callable[[Callable[[], object]], AbstractContextManager[None]]

STUBBORN = """\
import signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("deaf", flush=True)
time.sleep(600)
"""


def start_job(cloud: Cloud, labels: dict[str, str], *, stubborn: bool = False) -> str:
    """Start a job on the persistent resource that does not end by itself, and return its name."""
    pool = {
        "machine_spec": {"machine_type": "n1-standard-4"},
        "disk_spec": {"boot_disk_type": "pd-ssd", "boot_disk_size_gb": 100},
        "replica_count": 1,
        "container_spec": {"image_uri": cloud.IMAGE, "args": ["sleep", "600"]},
    }
    if stubborn:
        pool["container_spec"] = {"image_uri": cloud.IMAGE, "command": ["python", "-c", STUBBORN]}
    job: Any = {
        "display_name": "somebody's",
        "job_spec": {"worker_pool_specs": [pool], "persistent_resource_id": "nightly"},
        "labels": labels,
    }
    parent = f"projects/{cloud.PROJECT}/locations/{cloud.REGION}"
    name: str = cloud.jobs.create_custom_job(parent=parent, custom_job=job).name
    log = cloud.data_dir / "logs" / name.rpartition("/")[2] / "workerpool0-0.log"
    said = "deaf" if stubborn else "training"
    cloud.wait_for(lambda: log.exists() and said in log.read_text(), "the job runs")
    return name


def test_a_job_of_nobody_known_keeps_it(cloud: Cloud, night: Night) -> None:
    """A job that somebody has started by hand is not ended, and the task says which it is."""
    job = start_job(cloud, {})
    night.make()
    assert night.result()["used_by"] == [f"job {job.rpartition('/')[2]} (somebody's)"]
    assert cloud.running_job().name == job


def test_a_job_of_another_airflow_keeps_it(cloud: Cloud, night: Night) -> None:
    """Staging and production have the same DAGs and runs: the name of the installation tells them apart."""
    night.make()
    night.make_job(lambda labels: start_job(cloud, labels | {"airflow_installation": "staging"}))
    (used_by,) = night.result()["used_by"]
    assert f"of DAG {label_value(night.dag.dag_id)}" in used_by
    assert cloud.running_job()


def test_a_job_of_its_own_run_does_not(relayed_cloud: Cloud, relay: Relay, night: Night) -> None:
    """What this run has left running on the machines is no reason to keep them: it ends with them."""
    night.make()
    night.make_job(lambda labels: start_job(relayed_cloud, labels))
    assert night.result()["deleted"]
    assert relayed_cloud.settled_states() == [JobState.JOB_STATE_CANCELLED]
    assert relayed_cloud.resource() is None
    assert relay.count("ListCustomJobs") == 1


@pytest.mark.parametrize("own", [True, False])
def test_a_job_that_is_being_cancelled(
    relayed_cloud: Cloud, relay: Relay, night: Night, *, own: bool
) -> None:
    """A job that is about to end is waited for, whoever's it is, and keeps nothing."""

    def start_and_cancel(labels: dict[str, str]) -> None:
        job = start_job(relayed_cloud, labels if own else {}, stubborn=True)
        relayed_cloud.jobs.cancel_custom_job(name=job)

    night.make()
    night.make_job(start_and_cancel)
    assert night.result()["deleted"]
    assert relay.count("ListCustomJobs") > 1
    assert relayed_cloud.resource() is None


def test_waiting_for_a_job_of_somebody(
    relayed_cloud: Cloud, relay: Relay, night: Night, meanwhile: Meanwhile
) -> None:
    """If it is told to, the task waits for the job to end."""
    job = start_job(relayed_cloud, {})

    def end() -> None:
        relayed_cloud.wait_for(lambda: relay.count("ListCustomJobs") > 1, "the teardown looks again")
        relayed_cloud.jobs.cancel_custom_job(name=job)

    night.make(when_in_use="wait")
    with meanwhile(end):
        assert night.result()["deleted"]
    assert relayed_cloud.resource() is None
