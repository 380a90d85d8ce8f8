# SPDX-License-Identifier: Apache-2.0
"""Jobs that queue for machines in several places at once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from airflow.sdk.exceptions import AirflowFailException

from airflow_vertex_persistent.emulator import EmulatorControl
from airflow_vertex_persistent.exceptions import (
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

REGIONS = ("europe-west4", "us-central1", "us-east4")


def stock(*texts: str) -> dict[str, str]:
    """Return the stock of the regions."""
    return {f"{region}/g2-standard-4": text for region, text in zip(REGIONS, texts, strict=True)}


def test_the_first_to_start_goes_on(
    start_cloud: Callable[..., Cloud], race: Make, run_dag: Callable[[], Run], *, deferrable: bool
) -> None:
    """All queue at once; when one has machines the others are cancelled, and the result tells which it was."""
    cloud = start_cloud(stock=stock("never", "0, then 1 after 1 s", "never"))
    race("sleep", "0.3", deferrable=deferrable)
    run = run_dag()
    assert cloud.states_in(*REGIONS) == ["cancelled", "succeeded", "cancelled"]
    assert (run.result()["region"], run.result()["candidate"]) == ("us-central1", 1)
    winner = cloud.jobs_in(*REGIONS)[1]
    assert run.result()["job"] == winner.name
    assert winner.name.rpartition("/")[2] in run.xcoms["train"]["_link_TrainingJobLink"]
    assert {job.labels["airflow_execution"] for job in cloud.jobs_in(*REGIONS)} == {
        winner.labels["airflow_execution"]
    }


def test_machines_everywhere(
    start_cloud: Callable[..., Cloud], race: Make, run_dag: Callable[[], Run], *, deferrable: bool
) -> None:
    """However many have started, one goes on."""
    cloud = start_cloud()
    race("sleep", "1", deferrable=deferrable)
    run = run_dag()
    assert run.result()["state"] == "JOB_STATE_SUCCEEDED"
    assert sorted(cloud.states_in(*REGIONS)) == ["cancelled", "cancelled", "succeeded"]


def test_machines_nowhere(
    start_cloud: Callable[..., Cloud], race: Make, run_dag: Callable[[], Run], *, deferrable: bool
) -> None:
    """When all have waited in vain the error tells of each, and a retry races anew."""
    cloud = start_cloud(stock=stock("never", "never", "never"))
    race(max_wait_duration=0.3, deferrable=deferrable, retries=1)
    errors = run_dag().errors["train"]
    assert [type(error) for error in errors] == [MaxWaitExceededError] * 2
    for part in ("0 (europe-west4 ", "1 (us-central1 ", "2 (us-east4 "):
        assert part in str(errors[-1])
    assert cloud.states_in(*REGIONS) == ["failed"] * 6


def test_one_that_waits_in_vain_leaves_the_others(
    start_cloud: Callable[..., Cloud],
    race: Make,
    run_dag: Callable[[], Run],
    meanwhile: Meanwhile,
    *,
    deferrable: bool,
) -> None:
    """The race goes on without those whose time is over."""
    cloud = start_cloud(stock=stock("never", "never", "never"))

    def come_late() -> None:
        in_vain = ["failed", "pending", "failed"]
        cloud.wait_for(lambda: cloud.states_in(*REGIONS) == in_vain, "two have waited in vain")
        with EmulatorControl(cloud.address) as control:
            control.set_stock(f"{REGIONS[1]}/g2-standard-4", 1)

    candidates = [
        candidate(region=region, max_wait_duration=limit)
        for region, limit in zip(REGIONS, (0.2, 0, 0.4), strict=True)
    ]
    race(candidates=candidates, deferrable=deferrable)
    with meanwhile(come_late):
        run = run_dag()
    assert run.result()["region"] == "us-central1"
    assert cloud.states_in(*REGIONS) == ["failed", "succeeded", "failed"]


def test_a_winner_that_loses_its_machines(
    start_cloud: Callable[..., Cloud],
    race: Make,
    run_dag: Callable[[], Run],
    meanwhile: Meanwhile,
    *,
    deferrable: bool,
) -> None:
    """The candidates that were cancelled for it race again, without it."""
    cloud = start_cloud(stock=stock("1", "never", "never"), spot_restarts=0)

    def come_and_go() -> None:
        with EmulatorControl(cloud.address) as control:
            won = ["running", "cancelled", "cancelled"]
            cloud.wait_for(lambda: cloud.states_in(*REGIONS) == won, "one has won")
            control.set_stock(f"{REGIONS[0]}/g2-standard-4", 0)
            control.set_stock(f"{REGIONS[1]}/g2-standard-4", 1)

    first = candidate(region=REGIONS[0], strategy="spot", args=["sleep", "600"])
    others = [candidate(region=region, args=["succeed"]) for region in REGIONS[1:]]
    race(candidates=[first, *others], deferrable=deferrable)
    with meanwhile(come_and_go):
        run = run_dag()
    assert (run.result()["region"], run.result()["candidate"]) == ("us-central1", 1)
    assert cloud.states_in(*REGIONS) == ["failed", "cancelled", "succeeded", "cancelled", "cancelled"]


def test_code_that_fails_ends_the_race(
    start_cloud: Callable[..., Cloud], race: Make, run_dag: Callable[[], Run], *, deferrable: bool
) -> None:
    """Nothing is tried elsewhere once there were machines."""
    cloud = start_cloud(stock=stock("never", "1", "never"))
    race("fail", deferrable=deferrable)
    assert type(run_dag().error()) is JobFailedError
    assert cloud.states_in(*REGIONS) == ["cancelled", "failed", "cancelled"]


def test_somebody_who_cancels_ends_the_race(
    start_cloud: Callable[..., Cloud],
    race: Make,
    run_dag: Callable[[], Run],
    meanwhile: Meanwhile,
    *,
    deferrable: bool,
) -> None:
    """A job that was cancelled while it waited stops the others."""
    cloud = start_cloud(stock=stock("never", "never", "never"))

    def cancel() -> None:
        cloud.wait_for(lambda: len(cloud.jobs_in(*REGIONS)) == 3, "all are in the race")
        cloud.jobs.cancel_custom_job(name=cloud.jobs_in(*REGIONS)[1].name)

    race(deferrable=deferrable)
    with meanwhile(cancel):
        run = run_dag()
    assert type(run.error()) is JobCancelledError
    assert cloud.states_in(*REGIONS) == ["cancelled"] * 3


@pytest.mark.durability(
    "Vertex AI gives no answer for longer than ``max_outage`` while the task's jobs race for machines",
    "Fails with ``ServiceUnreachableError``; the retry takes all of them over, or the one that has won, and succeeds.",
    "One of each candidate; the first to start goes on, the others are cancelled.",
)
def test_a_retry_takes_the_race_over(
    start_cloud: Callable[..., Cloud],
    relay_to: Callable[[Cloud], Relay],
    race: Make,
    run_dag: Callable[[], Run],
    *,
    deferrable: bool,
) -> None:
    """No candidate gets a second job, and whoever looks decides alike."""
    cloud = start_cloud(stock=stock("never", "0, then 1 after 2 s", "never"))
    relay = relay_to(cloud)
    relay.refuse("GetCustomJob", times=1000)

    def answer_again(context: Any) -> None:
        if context["ti"].try_number == 2:
            relay.answer("GetCustomJob")

    race("sleep", "0.5", deferrable=deferrable, retries=1, max_outage=0.1, pre_execute=answer_again)
    run = run_dag()
    assert [type(error) for error in run.errors["train"]] == [ServiceUnreachableError]
    assert run.result()["candidate"] == 1
    assert relay.count("CreateCustomJob") == 3
    assert cloud.states_in(*REGIONS) == ["cancelled", "succeeded", "cancelled"]


@pytest.mark.durability(
    "The first of a task's racing jobs starts, and succeeds, while no attempt of the task is there",
    "The retry returns the result of the winner.",
    "One of each candidate; the retry cancels those that have lost.",
)
def test_a_winner_that_nobody_saw(
    start_cloud: Callable[..., Cloud],
    relay_to: Callable[[Cloud], Relay],
    race: Make,
    run_dag: Callable[[], Run],
    *,
    deferrable: bool,
) -> None:
    """What was decided between two attempts is decided: nobody queues on for nothing."""
    cloud = start_cloud(stock=stock("never", "never", "never"))
    relay = relay_to(cloud)
    relay.refuse("GetCustomJob", times=1000)

    def let_one_win(context: Any) -> None:
        if context["ti"].try_number == 2:
            relay.answer("GetCustomJob")
            with EmulatorControl(cloud.address) as control:
                control.set_stock("us-central1/g2-standard-4", 1)
            cloud.wait_for(
                lambda: "succeeded" in cloud.states_in(*REGIONS), "one has won, and nobody has seen it"
            )

    race(deferrable=deferrable, retries=1, max_outage=0.1, pre_execute=let_one_win)
    run = run_dag()
    assert [type(error) for error in run.errors["train"]] == [ServiceUnreachableError]
    assert run.result()["candidate"] == 1
    assert relay.count("CreateCustomJob") == 3
    assert cloud.states_in(*REGIONS) == ["cancelled", "succeeded", "cancelled"]


def test_a_loser_that_cannot_be_cancelled(
    start_cloud: Callable[..., Cloud],
    relay_to: Callable[[Cloud], Relay],
    race: Make,
    run_dag: Callable[[], Run],
    *,
    deferrable: bool,
) -> None:
    """It is left behind when the winner has ended."""
    cloud = start_cloud(stock=stock("1", "never", "never"))
    refused = {"code": "PERMISSION_DENIED", "where": f"/locations/{REGIONS[1]}"}
    relay_to(cloud).refuse("CancelCustomJob", times=10_000, **refused)
    race(deferrable=deferrable)
    assert run_dag().result()["region"] == REGIONS[0]
    assert cloud.states_in(*REGIONS) == ["succeeded", "pending", "cancelled"]


def test_a_refusal_ends_the_race(
    start_cloud: Callable[..., Cloud], race: Make, run_dag: Callable[[], Run], *, deferrable: bool
) -> None:
    """When one of the jobs cannot be created for another reason than machines, those before it do not go on."""
    metric = "custom_model_training_preemptible_nvidia_l4_gpus"
    cloud = start_cloud(stock=stock("never", "never", "never"), quota={f"us-east4/{metric}": 0})
    race(deferrable=deferrable)
    assert type(run_dag().error()) is QuotaExceededError
    assert cloud.states_in(*REGIONS) == ["cancelled", "cancelled"]


def test_a_place_without_quota_is_left_out(
    start_cloud: Callable[..., Cloud], race: Make, run_dag: Callable[[], Run]
) -> None:
    """Who says that a quota is no end races in the other places."""
    metric = "custom_model_training_preemptible_nvidia_l4_gpus"
    cloud = start_cloud(quota={f"europe-west4/{metric}": 0})
    race("sleep", "2", next_on_quota=True)
    assert run_dag().result()["region"] != "europe-west4"
    assert sorted(cloud.states_in(*REGIONS)) == ["cancelled", "succeeded"]


@pytest.mark.usefixtures("empty_cloud")
@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ({"candidate_order": "chaos"}, "candidate_order = 'chaos': write 'ordered' or 'race'"),
        ({"wait_for_completion": False}, "wait_for_completion = False: leave it out"),
        ({"cancel_on_kill": False}, "cancel_on_kill = False: leave it out"),
        (
            {"base_output_dir": "gs://nightly-models/a"},
            "base_output_dir = 'gs://nightly-models/a': write one of its own",
        ),
        ({"strategy": "spot", "max_wait_duration": 60}, "max_wait_duration = 60: in a race it goes with"),
    ],
)
def test_wrong_races(race: Make, run_dag: Callable[[], Run], given: dict[str, Any], problem: str) -> None:
    """What does not go with a race is told before anything is submitted."""
    race(**given, retries=3)
    error = run_dag().error()
    assert type(error) is AirflowFailException
    assert f"\n  - {problem}" in str(error)
