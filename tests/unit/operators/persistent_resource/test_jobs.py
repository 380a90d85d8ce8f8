# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from google.cloud.aiplatform_v1.types import CustomJob, HyperparameterTuningJob
from resources import NIGHTLY, seen_resource

from airflow_vertex_persistent.operators.persistent_resource.jobs import active_jobs, until_unused, who_uses
from airflow_vertex_persistent.operators.training.cancelling import can_be_cancelled

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
        who_uses(
            job_hook(("one", "nightly"), ("two", "other"), ("three", "")), NIGHTLY, seen_resource("RUNNING")
        )
        == f"{JOBS}/one"
    )
    many = job_hook(*((f"job{number}", "nightly") for number in range(7)))
    first = [f"{JOBS}/job{number}" for number in range(5)]
    assert who_uses(many, NIGHTLY, seen_resource("RUNNING", 2)) == f"{', '.join(first)} and 2 more"
    assert who_uses(job_hook(), NIGHTLY, seen_resource("RUNNING", 2)) == "a job of another kind on 2 machines"
    assert who_uses(job_hook(), NIGHTLY, seen_resource("RUNNING")) == ""
    assert who_uses(job_hook(), NIGHTLY, seen_resource("ERROR", 2)) == ""


def test_a_tuning_job_uses_a_resource_with_all_its_trials() -> None:
    """It goes for the custom jobs that its trials are, which do not say whose they are."""
    tuning = HyperparameterTuningJob(
        name="projects/1/locations/europe-west4/hyperparameterTuningJobs/9",
        trial_job_spec={"persistent_resource_id": NIGHTLY.id},
        trials=[{"id": "1", "custom_job": f"{JOBS}/trial"}, {"id": "2"}],
    )
    hook = job_hook(("trial", "nightly"), ("other", "nightly"), tuning=tuning)
    assert who_uses(hook, NIGHTLY, seen_resource("RUNNING", 2)) == f"{JOBS}/other, {tuning.name}"


@pytest.mark.filterwarnings("ignore:Unrecognized JobState enum value")
def test_a_job_in_a_state_of_a_newer_service_uses_a_resource() -> None:
    """It is neither over nor being cancelled, as far as anybody knows."""
    job = CustomJob(name=f"{JOBS}/7", state=99, job_spec={"persistent_resource_id": "nightly"})
    hook: Any = SimpleNamespace(list_jobs=lambda *place: [job] if place[2] == "customJobs" else [])
    ti = SimpleNamespace(dag_id="retrain", run_id="scheduled")
    (active,) = active_jobs(hook, NIGHTLY, ti)
    assert not active.cancelling
    assert can_be_cancelled(job)


@pytest.mark.parametrize(
    ("state", "used", "until"), [("RUNNING", 2, "unused"), ("RUNNING", 0, None), ("ERROR", 2, None)]
)
def test_how_users_are_waited_for(state: str, used: int, until: str | None) -> None:
    """Only machines in use can be watched; else some time passes before the next look."""
    wait = until_unused("the end of job1", seen_resource(state, used), 30.0)
    assert wait.until == until
    assert 30.0 <= wait.seconds <= 33.0
