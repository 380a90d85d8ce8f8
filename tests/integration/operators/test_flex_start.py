# SPDX-License-Identifier: Apache-2.0
"""Jobs that queue for scarce machines, in one place or in one after the other."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from airflow.sdk.exceptions import AirflowFailException
from google.cloud.aiplatform_v1.types import JobState

from airflow_vertex_persistent.emulator import EmulatorControl
from airflow_vertex_persistent.exceptions import (
    CapacityError,
    JobCancelledError,
    JobFailedError,
    MaxWaitExceededError,
    QuotaExceededError,
    ServiceUnreachableError,
)
from airflow_vertex_persistent.specs.candidates import candidate

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from airflow_vertex_persistent.operators.flex_start import FlexStartTrainingOperator
    from tests.conftest import Relay
    from tests.integration.conftest import Cloud
    from tests.integration.operators.conftest import Run

    Make = Callable[..., FlexStartTrainingOperator]
    Meanwhile = Callable[[Callable[[], object]], AbstractContextManager[None]]

IMAGE = "europe-west4-docker.pkg.dev/acme/training/small:1"
OTHER_IMAGE = "us-docker.pkg.dev/acme/training/small:1"
HERE, THERE = "europe-west4", "us-central1"
L4 = {"machine_type": "g2-standard-4", "accelerator_type": "NVIDIA_L4", "accelerator_count": 1}
NOTHING_HERE = {"europe-west4/*": "never"}
NOTHING = {"*/*": "never"}
BOTH = [candidate(region=HERE, max_wait_duration=0.5), candidate(region=THERE, max_wait_duration=60)]


def jobs(cloud: Cloud) -> list[Any]:
    """Return all jobs of both regions, the oldest first."""
    regions = (f"projects/{cloud.PROJECT}/locations/{region}" for region in (HERE, THERE))
    found = [job for parent in regions for job in cloud.jobs.list_custom_jobs(parent=parent)]
    return sorted(found, key=lambda job: str(job.create_time))


def ends(cloud: Cloud) -> list[tuple[str, str]]:
    """Return region and state of all jobs, the oldest first."""
    return [
        (job.name.split("/")[3], job.state.name.removeprefix("JOB_STATE_").lower()) for job in jobs(cloud)
    ]


def test_it_waits_for_its_machines(
    start_cloud: Callable[..., Cloud],
    queue: Make,
    run_dag: Callable[[], Run],
    meanwhile: Meanwhile,
    *,
    deferrable: bool,
) -> None:
    """A job queues until its machines are there, and time in the queue and time of work are told apart."""
    cloud = start_cloud(stock=NOTHING)

    def give_machines() -> None:
        cloud.wait_for(lambda: jobs(cloud), "the job queues")
        with EmulatorControl(cloud.address) as control:
            control.set_stock("*/*", "0, then 1 after 0.5 s")

    queue("sleep", "0.2", deferrable=deferrable)
    with meanwhile(give_machines):
        result = run_dag().result()
    assert (result["strategy"], result["region"], result["candidate"]) == ("FLEX_START", HERE, None)
    assert result["queued_seconds"] > 0.3
    assert result["running_seconds"] > 0.1


@pytest.mark.parametrize(("given", "seconds"), [(None, None), (0, 0.0), ("3600s", 3600.0)])
def test_how_long_it_may_wait(
    empty_cloud: Cloud, queue: Make, run_dag: Callable[[], Run], given: Any, seconds: float | None
) -> None:
    """For ever, the service's default and a time are three things on the wire."""
    queue(max_wait_duration=given)
    run_dag().result()
    (job,) = jobs(empty_cloud)
    scheduling = job.job_spec.scheduling
    assert ("max_wait_duration" in scheduling) is (seconds is not None)
    assert scheduling.max_wait_duration.total_seconds() == (seconds or 0.0)


@pytest.mark.parametrize("expiry", ["failed", "cancelled", "expired"])
def test_the_next_place(
    start_cloud: Callable[..., Cloud],
    queue: Make,
    run_dag: Callable[[], Run],
    capsys: pytest.CaptureFixture[str],
    expiry: str,
    *,
    deferrable: bool,
) -> None:
    """When there are no machines in time the same job queues elsewhere, however the service ends the first."""
    cloud = start_cloud(OTHER_IMAGE, stock=NOTHING_HERE, flex_start_expiry=expiry)
    there = candidate(region=THERE, container_uri=OTHER_IMAGE, base_output_dir="gs://nightly-models/us")
    queue(candidates=[BOTH[0], there], deferrable=deferrable, base_output_dir="gs://nightly-models/eu")
    result = run_dag().result()
    assert capsys.readouterr().out.count("Candidates, tried in this order:") == 1
    assert (result["region"], result["candidate"]) == (THERE, 1)
    assert result["output_dir"] == "gs://nightly-models/us"
    assert ends(cloud) == [(HERE, expiry), (THERE, "succeeded")]
    first, second = jobs(cloud)
    assert [job.labels["airflow_candidate"] for job in (first, second)] == ["0", "1"]
    assert first.labels["airflow_execution"] == second.labels["airflow_execution"]
    assert second.job_spec.worker_pool_specs[0].container_spec.image_uri == OTHER_IMAGE


def test_no_place_has_machines(
    start_cloud: Callable[..., Cloud], queue: Make, run_dag: Callable[[], Run], *, deferrable: bool
) -> None:
    """The error tells of every candidate, and a retry begins with the first one."""
    cloud = start_cloud(stock=NOTHING)
    both = [candidate(region=region, max_wait_duration=0.3) for region in (HERE, THERE)]
    queue(candidates=both, deferrable=deferrable, retries=1)
    run = run_dag()
    assert [type(error) for error in run.errors["train"]] == [MaxWaitExceededError] * 2
    text = str(run.errors["train"][-1])
    for part in (
        "No candidate got machines:",
        "\n  0 (europe-west4 g2",
        "\n  1 (us-central1 g2",
        "Next step: ",
    ):
        assert part in text
    assert [region for region, _ in ends(cloud)] == [HERE, THERE] * 2


def test_code_that_fails_stops_it(
    start_cloud: Callable[..., Cloud], queue: Make, run_dag: Callable[[], Run], *, deferrable: bool
) -> None:
    """Where there were machines nothing is tried elsewhere."""
    cloud = start_cloud()
    queue("fail", candidates=BOTH, deferrable=deferrable)
    assert type(run_dag().error()) is JobFailedError
    assert ends(cloud) == [(HERE, "failed")]


def test_somebody_who_cancels_stops_it(
    start_cloud: Callable[..., Cloud],
    queue: Make,
    run_dag: Callable[[], Run],
    meanwhile: Meanwhile,
    *,
    deferrable: bool,
) -> None:
    """A job that was cancelled while it waited is not submitted elsewhere."""
    cloud = start_cloud(stock=NOTHING_HERE)

    def cancel() -> None:
        (job,) = cloud.wait_for(lambda: jobs(cloud), "there is a job")
        cloud.jobs.cancel_custom_job(name=job.name)

    queue(candidates=[candidate(region=HERE), candidate(region=THERE)], deferrable=deferrable)
    with meanwhile(cancel):
        run = run_dag()
    assert type(run.error()) is JobCancelledError
    assert ends(cloud) == [(HERE, "cancelled")]


@pytest.mark.parametrize("next_on_quota", [False, True])
def test_quota(
    start_cloud: Callable[..., Cloud],
    queue: Make,
    run_dag: Callable[[], Run],
    *,
    next_on_quota: bool,
    deferrable: bool,
) -> None:
    """A quota is the project's, so it leads elsewhere only for who says so; the error says which quota that is."""
    metric = "custom_model_training_preemptible_nvidia_l4_gpus"
    cloud = start_cloud(quota={f"{HERE}/{metric}": 0})
    queue(candidates=BOTH, next_on_quota=next_on_quota, deferrable=deferrable)
    run = run_dag()
    if next_on_quota:
        assert run.result()["region"] == THERE
        return
    error = run.error()
    assert type(error) is QuotaExceededError
    assert metric in str(error)
    assert "Flex Start and Spot draw on the quotas with 'preemptible' in their name" in str(error)
    assert jobs(cloud) == []


@pytest.mark.parametrize("strategy", ["standard", "spot"])
def test_a_stockout_of_others(
    start_cloud: Callable[..., Cloud],
    queue: Make,
    run_dag: Callable[[], Run],
    strategy: str,
    *,
    deferrable: bool,
) -> None:
    """Machines on demand and preemptible ones are there or not; then the next candidate queues."""
    cloud = start_cloud(stock=NOTHING_HERE, stockout_retries=0, spot_restarts=0, provisioning_seconds=0.05)
    first = candidate(region=HERE, strategy=strategy)
    queue(candidates=[first, candidate(region=THERE)], deferrable=deferrable)
    assert run_dag().result()["strategy"] == "FLEX_START"
    assert ends(cloud) == [(HERE, "failed"), (THERE, "succeeded")]


def test_a_stockout_in_the_only_place(
    start_cloud: Callable[..., Cloud], queue: Make, run_dag: Callable[[], Run]
) -> None:
    """With one place the error is that of its job."""
    start_cloud(stock=NOTHING, stockout_retries=0, provisioning_seconds=0.05)
    queue(strategy="standard")
    error = run_dag().error()
    assert type(error) is CapacityError
    assert "Resources are insufficient in region: europe-west4" in str(error)


def test_the_task_counts_where_the_service_does_not(
    start_cloud: Callable[..., Cloud], queue: Make, run_dag: Callable[[], Run], *, deferrable: bool
) -> None:
    """A job without a queue of the service's own is cancelled when it has not started in time."""
    cloud = start_cloud(provisioning_seconds=600)
    first = candidate(region=HERE, strategy="spot", max_wait_duration=0.3)
    queue(candidates=[first], deferrable=deferrable)
    error = run_dag().error()
    assert type(error) is MaxWaitExceededError
    assert "for machines and was cancelled" in str(error)
    (job,) = jobs(cloud)
    assert job.state == JobState.JOB_STATE_CANCELLED
    assert "max_wait_duration" not in job.job_spec.scheduling


@pytest.mark.durability(
    "Vertex AI gives no answer for longer than ``max_outage`` while the task waits for the job of its second candidate",
    "Fails with ``ServiceUnreachableError``; the retry takes the job over and succeeds.",
    "One of each candidate: the second runs on.",
)
def test_a_retry_takes_the_second_job_over(
    start_cloud: Callable[..., Cloud],
    relay_to: Callable[[Cloud], Relay],
    queue: Make,
    run_dag: Callable[[], Run],
    *,
    deferrable: bool,
) -> None:
    """The candidate that was chosen stays the chosen one for the next attempt."""
    cloud = start_cloud(stock=NOTHING_HERE)
    relay = relay_to(cloud)

    def cut_off_the_second() -> None:
        relay.before("CreateCustomJob", lambda: relay.refuse("GetCustomJob", times=2))

    relay.before("CreateCustomJob", cut_off_the_second)
    queue("sleep", "1", candidates=BOTH, deferrable=deferrable, retries=1, max_outage=0.01)
    run = run_dag()
    assert [type(error) for error in run.errors["train"]] == [ServiceUnreachableError]
    assert run.result()["candidate"] == 1
    assert ends(cloud) == [(HERE, "failed"), (THERE, "succeeded")]


@pytest.mark.usefixtures("empty_cloud")
@pytest.mark.parametrize(
    ("config", "changes", "told"),
    [
        ({"scheduling": {"strategy": "SPOT", "maxWaitDuration": "60s"}}, {}, "config.scheduling.max_wait"),
        ({"persistentResourceId": "nightly"}, {}, "persistent_resource_id = 'nightly': leave it out, or use"),
        ({}, {"candidates": [{"region": HERE, "machine_type": "m"}]}, "candidates[0].machine_type: goes"),
    ],
)
def test_what_config_cannot_say(
    queue: Make, run_dag: Callable[[], Run], config: dict[str, Any], changes: dict[str, Any], told: str
) -> None:
    """A wait that nobody would count, warm machines, and pools that differ between candidates, are told as such."""
    pool = {"machineSpec": L4, "containerSpec": {"imageUri": IMAGE}}
    work: dict[str, Any] = dict.fromkeys(("container_uri", "args", *L4))
    queue(**work, **changes, config={"workerPoolSpecs": [pool], **config})
    (line,) = str(run_dag().error()).splitlines()[1:]
    assert line.startswith(f"  - {told}")


@pytest.mark.usefixtures("empty_cloud")
def test_wrong_candidates(
    queue: Make, run_dag: Callable[[], Run], capsys: pytest.CaptureFixture[str]
) -> None:
    """Everything that is wrong is told at once, by candidate and field; nothing is submitted, retried or planned."""
    wrong: list[Any] = [
        candidate(region="Europe"),
        candidate(region=THERE, machine_type="n1-standard-4", accelerator_type="NVIDIA_TESLA_T4"),
        {"region": THERE, "machine": "g2"},
        candidate(machine_type="g2-standard-4", max_wait_duration=-1, strategy="often"),
        THERE,
        candidate(region="asia"),
    ]
    queue(
        candidates=wrong,
        retries=3,
        next_on_quota="perhaps",
        allow_unlisted_accelerators="never",
        labels={"Team": "A"},
    )
    error = run_dag().error()
    assert type(error) is AirflowFailException
    assert "Candidates, " not in capsys.readouterr().out
    for part in (
        "\n  - candidates[0].region = 'Europe': ",
        "\n  - candidates[1].accelerator_type = 'NVIDIA_TESLA_T4': Flex Start has no",
        "\n  - candidates[2].machine: a candidate has no such field",
        "\n  - candidates[3].region = '': ",
        "\n  - candidates[3].max_wait_duration = -1: ",
        "\n  - candidates[3].strategy = 'often': ",
        "\n  - labels['Team']",
        "\n  - candidates[4]: write a mapping",
        "\n  - candidates[5].region = 'asia': ",
        "\n  - next_on_quota = 'perhaps': write True or False",
        "\n  - allow_unlisted_accelerators = 'never': write True or False",
    ):
        assert part in str(error)
    assert str(error).count("labels[") == 1
