# SPDX-License-Identifier: Apache-2.0
"""What becomes of jobs that queue for machines while no attempt of their task watches them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from airflow_vertex_persistent.emulator import EmulatorControl
from airflow_vertex_persistent.exceptions import MaxWaitExceededError, ServiceUnreachableError
from airflow_vertex_persistent.specs.candidates import candidate

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from airflow_vertex_persistent.operators.flex_start import FlexStartTrainingOperator
    from tests.conftest import Relay
    from tests.integration.conftest import Cloud
    from tests.integration.operators.conftest import Run

    Make = Callable[..., FlexStartTrainingOperator]

REGIONS = ("europe-west4", "us-central1", "us-east4")
NOTHING = {"*/*": "never"}
QUOTA = "custom_model_training_preemptible_nvidia_l4_gpus"


def before(attempts: Mapping[int, Callable[[], object]]) -> Callable[[Any], None]:
    """Return what does something before attempts, by their number."""

    def pre_execute(context: Any) -> None:
        attempts.get(context["ti"].try_number, lambda: None)()

    return pre_execute


def set_stock(cloud: Cloud, **regions: int) -> None:
    """Set how many machines there are, by region."""
    with EmulatorControl(cloud.address) as control:
        for region, count in regions.items():
            control.set_stock(f"{region.replace('_', '-')}/g2-standard-4", count)


def wait_for(cloud: Cloud, number: int, state: str) -> None:
    """Wait until one of the jobs, in the order of their regions, is in a state."""
    cloud.wait_for(lambda: cloud.states_in(*REGIONS)[number] == state, f"job {number} is {state}")


@pytest.fixture
def unwatched(
    start_cloud: Callable[..., Cloud], relay_to: Callable[[Cloud], Relay]
) -> Callable[..., tuple[Cloud, Relay]]:
    """Start an emulator that tells nothing of one job to an attempt, until its relay is told to."""

    def start(**settings: Any) -> tuple[Cloud, Relay]:
        cloud = start_cloud(**settings)
        relay = relay_to(cloud)
        relay.refuse("GetCustomJob", times=1000)
        return cloud, relay

    return start


def test_each_round_has_all_candidates(
    start_cloud: Callable[..., Cloud], race: Make, run_dag: Callable[[], Run]
) -> None:
    """A retry after a round in vain races in all places again, also where one of them creates nothing."""
    cloud = start_cloud(stock=NOTHING, quota={f"{REGIONS[0]}/{QUOTA}": 0})
    race(max_wait_duration=0.3, next_on_quota=True, retries=2)
    errors = run_dag().errors["train"]
    assert [type(error) for error in errors] == [MaxWaitExceededError] * 3
    assert len(cloud.jobs_in(REGIONS[1])) == len(cloud.jobs_in(REGIONS[2])) == 3


def test_a_job_without_a_name_in_the_second_round(
    start_cloud: Callable[..., Cloud],
    relay_to: Callable[[Cloud], Relay],
    race: Make,
    run_dag: Callable[[], Run],
) -> None:
    """A job whose create had no answer is found by the next attempt, and not created again."""
    cloud = start_cloud(stock=NOTHING, list_lag_seconds=2)
    relay = relay_to(cloud)
    race(
        candidates=[candidate(region=region) for region in REGIONS[:2]],
        max_wait_duration="{{ 1 if ti.try_number == 1 else 0 }}",
        max_outage=0.5,
        retries=2,
        pre_execute=before(
            {2: lambda: relay.lose_reply("CreateCustomJob"), 3: lambda: set_stock(cloud, us_central1=1)}
        ),
    )
    run = run_dag()
    assert [type(error) for error in run.errors["train"]] == [MaxWaitExceededError, ServiceUnreachableError]
    assert run.result()["region"] == "us-central1"
    states = ["failed", "cancelled", "failed", "succeeded"]
    cloud.wait_for(
        lambda: cloud.states_in(*REGIONS) == states,
        "lists are up to date, and each round has had each job once",
    )


def test_a_wait_in_vain_leads_on(
    unwatched: Callable[..., tuple[Cloud, Relay]],
    queue: Make,
    run_dag: Callable[[], Run],
) -> None:
    """A candidate whose time to wait ends between two attempts has had it."""
    cloud, relay = unwatched(stock={f"{REGIONS[0]}/*": "never"})

    def end_of_the_wait() -> None:
        relay.answer("GetCustomJob")
        wait_for(cloud, 0, "failed")

    queue(
        candidates=[candidate(region=REGIONS[0], max_wait_duration=1), candidate(region=REGIONS[1])],
        retries=1,
        max_outage=0.1,
        pre_execute=before({2: end_of_the_wait}),
    )
    assert run_dag().result()["region"] == REGIONS[1]
    assert cloud.states_in(*REGIONS) == ["failed", "succeeded"]


def test_the_only_wait_in_vain_is_told(
    unwatched: Callable[..., tuple[Cloud, Relay]],
    queue: Make,
    run_dag: Callable[[], Run],
) -> None:
    """Where there is one place, the next attempt tells of it, and the one after that queues again."""
    cloud, relay = unwatched(stock=NOTHING)

    def end_of_the_wait() -> None:
        relay.answer("GetCustomJob")
        wait_for(cloud, 0, "failed")

    queue(
        region=REGIONS[0],
        max_wait_duration=1,
        retries=2,
        max_outage=0.1,
        pre_execute=before({2: end_of_the_wait, 3: lambda: set_stock(cloud, europe_west4=1)}),
    )
    run = run_dag()
    assert [type(error) for error in run.errors["train"]] == [ServiceUnreachableError, MaxWaitExceededError]
    assert cloud.states_in(*REGIONS) == ["failed", "succeeded"]


def test_one_that_has_succeeded_is_the_result(
    unwatched: Callable[..., tuple[Cloud, Relay]],
    race: Make,
    run_dag: Callable[[], Run],
    *,
    deferrable: bool,
) -> None:
    """The work that is done counts, whoever had started before, and none is left in a queue."""
    cloud, relay = unwatched(stock=NOTHING)

    def two_ends() -> None:
        set_stock(cloud, us_central1=1)
        wait_for(cloud, 1, "failed")
        set_stock(cloud, us_central1=0, europe_west4=1)
        wait_for(cloud, 0, "succeeded")
        relay.answer("GetCustomJob")

    race(
        candidates=[
            candidate(region=region, args=[what])
            for region, what in zip(REGIONS, ("succeed", "fail", "succeed"), strict=True)
        ],
        retries=1,
        max_outage=0.1,
        deferrable=deferrable,
        pre_execute=before({2: two_ends}),
    )
    assert run_dag().result()["region"] == REGIONS[0]
    assert cloud.states_in(*REGIONS) == ["succeeded", "failed", "cancelled"]


def test_a_winner_that_loses_its_machines(
    unwatched: Callable[..., tuple[Cloud, Relay]],
    race: Make,
    run_dag: Callable[[], Run],
) -> None:
    """The others race on when a winner whom one attempt has seen is lost before the next."""
    cloud, relay = unwatched(stock={**NOTHING, f"{REGIONS[0]}/g2-standard-4": "1"}, spot_restarts=0)

    def a_winner() -> None:
        wait_for(cloud, 0, "running")
        relay.answer("GetCustomJob")
        relay.before("GetCustomJob", lambda: relay.refuse("GetCustomJob", times=1000))

    def no_winner() -> None:
        set_stock(cloud, europe_west4=0, us_central1=1)
        wait_for(cloud, 0, "failed")
        relay.answer("GetCustomJob")

    race(
        candidates=[
            candidate(region=REGIONS[0], strategy="spot", args=["sleep", "600"]),
            candidate(region=REGIONS[1]),
        ],
        retries=2,
        max_outage=0.1,
        pre_execute=before({2: a_winner, 3: no_winner}),
    )
    assert run_dag().result()["region"] == REGIONS[1]
    first, *others, last = cloud.states_in(*REGIONS)
    assert (first, last) == ("failed", "succeeded")
    assert set(others) <= {"cancelled"}


def test_all_that_have_waited_in_vain_are_told(
    unwatched: Callable[..., tuple[Cloud, Relay]],
    race: Make,
    run_dag: Callable[[], Run],
) -> None:
    """A race that was over before the next attempt ends that with what became of each; the one after races again."""
    cloud, relay = unwatched(stock=NOTHING)

    def end_of_the_wait() -> None:
        cloud.wait_for(lambda: cloud.states_in(*REGIONS) == ["failed"] * 3, "all have waited in vain")
        relay.answer("GetCustomJob")

    race(
        max_wait_duration=1,
        retries=2,
        max_outage=0.1,
        pre_execute=before({2: end_of_the_wait, 3: lambda: set_stock(cloud, us_east4=1)}),
    )
    run = run_dag()
    unreachable, in_vain = run.errors["train"]
    assert (type(unreachable), type(in_vain)) == (ServiceUnreachableError, MaxWaitExceededError)
    for part in ("0 (europe-west4 ", "1 (us-central1 ", "2 (us-east4 "):
        assert str(in_vain).count(part) == 1
    assert cloud.states_in(*REGIONS) == ["failed", "cancelled", "failed", "cancelled", "failed", "succeeded"]


def test_one_that_waits_in_vain_is_told_once(
    unwatched: Callable[..., tuple[Cloud, Relay]],
    race: Make,
    run_dag: Callable[[], Run],
) -> None:
    """What became of a candidate between attempts is not told again with what becomes of the others."""
    cloud, relay = unwatched(stock=NOTHING)

    def end_of_one_wait() -> None:
        wait_for(cloud, 1, "failed")
        relay.answer("GetCustomJob")

    waits = zip(REGIONS, (4, 1, 4), strict=True)
    race(
        candidates=[candidate(region=region, max_wait_duration=seconds) for region, seconds in waits],
        retries=1,
        max_outage=0.1,
        pre_execute=before({2: end_of_one_wait}),
    )
    error = run_dag().errors["train"][-1]
    for part in ("0 (europe-west4 ", "1 (us-central1 ", "2 (us-east4 "):
        assert str(error).count(part) == 1


def test_a_job_of_before_that_cannot_be_cancelled(
    unwatched: Callable[..., tuple[Cloud, Relay]],
    race: Make,
    run_dag: Callable[[], Run],
) -> None:
    """A DAG that was changed goes on with a job that has its machines, whatever becomes of the rest."""
    cloud, relay = unwatched(stock=NOTHING)

    def a_winner() -> None:
        set_stock(cloud, europe_west4=1)
        wait_for(cloud, 0, "running")
        relay.answer("GetCustomJob")
        relay.refuse(
            "CancelCustomJob", code="PERMISSION_DENIED", times=1000, where=f"/locations/{REGIONS[1]}"
        )

    race(
        candidates=[
            candidate(region=REGIONS[0], args=["sleep", "3"]),
            candidate(region=REGIONS[1], args=["sleep", "{{ ti.try_number }}"]),
        ],
        retries=1,
        max_outage=0.1,
        pre_execute=before({2: a_winner}),
    )
    assert run_dag().result()["region"] == REGIONS[0]
    assert cloud.states_in(*REGIONS) == ["succeeded", "pending"]


def test_a_race_that_is_none_any_more(
    unwatched: Callable[..., tuple[Cloud, Relay]],
    race: Make,
    run_dag: Callable[[], Run],
) -> None:
    """Where a DAG was changed to try one place after the other, no job of the race is left behind."""
    cloud, relay = unwatched(stock=NOTHING)

    def machines() -> None:
        relay.answer("GetCustomJob")
        set_stock(cloud, europe_west4=1)

    race(
        candidate_order="{{ 'race' if ti.try_number == 1 else 'ordered' }}",
        retries=1,
        max_outage=0.1,
        pre_execute=before({2: machines}),
    )
    assert run_dag().result()["region"] == REGIONS[0]
    assert "pending" not in cloud.states_in(*REGIONS)
    assert "running" not in cloud.states_in(*REGIONS)
