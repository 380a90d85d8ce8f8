# SPDX-License-Identifier: Apache-2.0
"""Jobs whose replicas are not run: they take their time, exit as they were told, and can be cancelled."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from google.cloud.aiplatform_v1.types import CustomJob, JobState

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.contract.conftest import Cloud

FOREVER = "86400"


@pytest.fixture(scope="module")
def simulator(module_cloud_with: Callable[..., Cloud]) -> Cloud:
    """An emulator that runs nothing."""
    return module_cloud_with(executor="simulate", simulated_seconds=0.2)


def pool(cloud: Cloud, **fields: Any) -> dict[str, Any]:
    """A worker pool of an image that nobody has, with variables such as EXIT_CODE=3."""
    replicas = fields.pop("replica_count", 1)
    env = [{"name": f"EMULATOR_{name}", "value": value} for name, value in fields.items()]
    return cloud.pool(container_spec={"image_uri": "nobody/has/this:1", "env": env}, replica_count=replicas)


def seconds(job: CustomJob) -> float:
    """How long a job ran."""
    raw = CustomJob.pb(job)
    return float((raw.end_time.ToDatetime() - raw.start_time.ToDatetime()).total_seconds())


def test_a_job_runs_as_long_as_the_setting_says(simulator: Cloud) -> None:
    """Any image will do, it succeeds, and no log is written."""
    job = simulator.run(pool(simulator))
    assert job.state == JobState.JOB_STATE_SUCCEEDED
    assert seconds(job) >= 0.2
    assert not (simulator.emulator.data_dir / "logs").exists()


def test_a_job_can_say_itself_how_long_it_runs(simulator: Cloud) -> None:
    """Longer than the setting."""
    assert seconds(simulator.run(pool(simulator, RUN_SECONDS="0.5"))) >= 0.5


def test_a_job_can_say_itself_how_it_exits(simulator: Cloud) -> None:
    """Its error is that of a job that really ran."""
    job = simulator.run(pool(simulator, EXIT_CODE="3"))
    assert job.state == JobState.JOB_STATE_FAILED
    assert "The replica workerpool0-0 exited with a non-zero status of 3." in job.error.message


def test_the_primary_replica_decides(simulator: Cloud) -> None:
    """Workers that would run on end with it."""
    workers = pool(simulator, RUN_SECONDS=FOREVER, replica_count=2)
    assert simulator.run(pool(simulator), workers).state == JobState.JOB_STATE_SUCCEEDED


def test_a_job_can_be_cancelled(simulator: Cloud) -> None:
    """It ends at once."""
    job = simulator.running(simulator.create(simulator.job(pool(simulator, RUN_SECONDS=FOREVER))))
    assert simulator.stop(job).state == JobState.JOB_STATE_CANCELLED


def test_a_timeout_ends_a_job(simulator: Cloud) -> None:
    """As it does one that really runs."""
    job = simulator.run(pool(simulator, RUN_SECONDS=FOREVER), scheduling={"timeout": "1s"})
    assert job.state == JobState.JOB_STATE_CANCELLED
    assert "timeout of 1 seconds" in job.error.message


@pytest.mark.parametrize(
    ("variable", "words"),
    [
        ({"RUN_SECONDS": "long"}, "EMULATOR_RUN_SECONDS='long' is no number of seconds"),
        ({"RUN_SECONDS": "-1"}, "EMULATOR_RUN_SECONDS='-1' is no number of seconds"),
        ({"EXIT_CODE": "256"}, "EMULATOR_EXIT_CODE='256' is no exit status"),
        ({"EXIT_CODE": "bad"}, "EMULATOR_EXIT_CODE='bad' is no exit status"),
    ],
)
def test_variables_that_make_no_sense_fail_the_job(
    simulator: Cloud, variable: dict[str, str], words: str
) -> None:
    """The error says which."""
    job = simulator.run(pool(simulator, **variable))
    assert job.state == JobState.JOB_STATE_FAILED
    assert words in job.error.message


def test_many_jobs_run_at_once(simulator: Cloud) -> None:
    """All are RUNNING at the same time, are found by label page by page, and end when they are cancelled."""
    labels = {"crowd": "yes"}
    jobs = [
        simulator.create(simulator.job(pool(simulator, RUN_SECONDS=FOREVER), labels=labels))
        for _ in range(150)
    ]
    wanted = {"parent": simulator.PARENT, "page_size": 60}
    text = 'labels.crowd="yes" AND state="{}"'

    def found(state: str) -> list[str]:
        listed = simulator.jobs.list_custom_jobs({**wanted, "filter": text.format(state)})
        return [job.name for job in listed]

    names = [job.name for job in reversed(jobs)]
    simulator.wait_for(lambda: len(found("JOB_STATE_RUNNING")) == len(jobs), "all jobs' start")
    assert found("JOB_STATE_RUNNING") == names
    for name in names:
        simulator.jobs.cancel_custom_job(name=name)
    simulator.wait_for(lambda: found("JOB_STATE_CANCELLED") == names, "all jobs' end")
