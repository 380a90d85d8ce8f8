# SPDX-License-Identifier: Apache-2.0
"""Regions that do not answer while a task's jobs race for machines, and attempts that end meanwhile."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from airflow.sdk.exceptions import AirflowTaskTimeout
from attempts import before_retry

from airflow_vertex_persistent.emulator import EmulatorControl
from airflow_vertex_persistent.exceptions import ServiceUnreachableError

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_vertex_persistent.operators.flex_start import FlexStartTrainingOperator
    from tests.conftest import Relay
    from tests.integration.conftest import Cloud
    from tests.integration.operators.conftest import Run

    Make = Callable[..., FlexStartTrainingOperator]

FIRST, SECOND, THIRD = REGIONS = ("europe-west4", "us-central1", "us-east4")
READS = ("GetCustomJob", "ListCustomJobs")


@pytest.fixture
def cloud(start_cloud: Callable[..., Cloud]) -> Cloud:
    """An emulator without machines."""
    return start_cloud(stock={"*/*": "never"})


@pytest.fixture
def relay(cloud: Cloud, relay_to: Callable[[Cloud], Relay]) -> Relay:
    """A relay before it."""
    return relay_to(cloud)


def let_start(cloud: Cloud, region: str, when: str = "1") -> None:
    """Let a job in a region have its machine."""
    with EmulatorControl(cloud.address) as control:
        control.set_stock(f"{region}/g2-standard-4", when)


def silence(relay: Relay, region: str, *methods: str) -> None:
    """Let a region give no answer any more."""
    for method in methods:
        relay.refuse(method, times=1000, where=f"/locations/{region}")


@pytest.mark.durability(
    "One of the regions gives no answer for longer than ``max_outage``, or a minute, when a race begins there",
    "Goes on with the other candidates, without a retry.",
    "One of each other candidate; the first to start goes on, the others are cancelled.",
)
def test_a_region_that_is_away_at_the_start(
    cloud: Cloud, relay: Relay, race: Make, run_dag: Callable[[], Run]
) -> None:
    """A candidate whose region is away keeps no other one from the race, not even as the first."""
    silence(relay, FIRST, *READS, "CreateCustomJob", "CancelCustomJob")
    let_start(cloud, SECOND, "0, then 1 after 2 s")
    race(max_outage=0.5)
    assert run_dag().result()["candidate"] == 1
    assert cloud.states_in(*REGIONS) == ["succeeded", "cancelled"]


@pytest.mark.durability(
    "One of the regions gives no answer for longer than ``max_outage`` while the task's jobs race for machines",
    "Goes on with the others and succeeds, without a retry.",
    "One of each candidate; the first to start goes on, the others are cancelled.",
)
def test_a_region_that_goes_away(
    cloud: Cloud, relay: Relay, race: Make, run_dag: Callable[[], Run], *, deferrable: bool
) -> None:
    """That nobody knows what a loser is like does not keep the winner's result from the task."""
    let_start(cloud, SECOND, "0, then 1 after 2 s")
    relay.before("GetCustomJob", lambda: silence(relay, THIRD, *READS))
    race("sleep", "0.5", deferrable=deferrable, max_outage=0.5)
    assert run_dag().result()["candidate"] == 1
    assert cloud.states_in(*REGIONS) == ["cancelled", "succeeded", "cancelled"]


@pytest.mark.durability(
    "One of the regions gives no answer for longer than ``max_outage``, or a minute, when a retry takes a race over",
    "The retry goes on with the others, or the one that has won, and succeeds.",
    "One of each candidate; the first to start goes on, the others are cancelled.",
)
@pytest.mark.parametrize("won", [False, True])
def test_a_retry_while_a_region_is_away(
    cloud: Cloud, relay: Relay, race: Make, run_dag: Callable[[], Run], *, won: bool
) -> None:
    """A retry does not wait for a region of which nobody can tell what its job is like."""
    relay.refuse("GetCustomJob", times=1000)

    def begin_again() -> None:
        let_start(cloud, SECOND, "1" if won else "0, then 1 after 2 s")
        if won:
            cloud.wait_for(lambda: cloud.states_in(SECOND) != ["pending"], "one has won")
        silence(relay, THIRD, *READS)

    race(
        "sleep",
        "1.5",
        retries=1,
        max_outage=0.2,
        pre_execute=before_retry(begin_again),
    )
    run = run_dag()
    assert [type(error) for error in run.errors["train"]] == [ServiceUnreachableError]
    assert run.result()["candidate"] == 1
    assert relay.count("CreateCustomJob") == 3
    assert cloud.states_in(*REGIONS) == ["cancelled", "succeeded", "cancelled"]


@pytest.mark.durability(
    "An attempt ends between the creates of a race, one of which had no answer, and an earlier job of it starts",
    "The retry looks for the job that may have been created, and succeeds with the winner.",
    "One of each candidate that had one; the retry cancels those that have lost.",
)
def test_a_winner_beside_a_job_that_is_not_listed_yet(
    start_cloud: Callable[..., Cloud],
    relay_to: Callable[[Cloud], Relay],
    race: Make,
    run_dag: Callable[[], Run],
) -> None:
    """Nobody forgets a job that lists do not show yet because another one has won."""
    cloud = start_cloud(stock={f"{FIRST}/*": "1", "*/*": "never"}, list_lag_seconds=4)
    relay = relay_to(cloud)
    relay.before("CreateCustomJob", lambda: relay.lose_reply("CreateCustomJob"))
    race("sleep", "1", retries=1, max_outage=0.2)
    run = run_dag()
    assert [type(error) for error in run.errors["train"]] == [ServiceUnreachableError]
    assert run.result()["candidate"] == 0
    assert relay.count("CreateCustomJob") == 2
    assert cloud.states_in(*REGIONS) == ["succeeded", "cancelled"]


@pytest.mark.durability(
    "A retry with ``durable=False`` while jobs of the attempt before race for machines",
    "The retry races anew and succeeds.",
    "All are cancelled; one of each candidate takes their place.",
)
def test_a_race_that_is_not_durable(
    cloud: Cloud, relay: Relay, race: Make, run_dag: Callable[[], Run]
) -> None:
    """What an older execution has in the queues ends before another one queues there."""
    relay.refuse("GetCustomJob", times=1000)

    def begin_again() -> None:
        relay.answer("GetCustomJob")
        relay.before("CreateCustomJob", lambda: let_start(cloud, SECOND))

    race(
        durable=False,
        retries=1,
        max_outage=0.2,
        pre_execute=before_retry(begin_again),
    )
    assert run_dag().result()["candidate"] == 1
    states = cloud.states_in(*REGIONS)
    assert states == ["cancelled", "cancelled", "cancelled", "succeeded", "cancelled", "cancelled"]


@pytest.mark.durability(
    "Longer than ``execution_timeout`` while its jobs race for machines, and one of the regions does not answer",
    "Fails with that error.",
    "All are cancelled, those of the other regions at once.",
)
def test_no_job_waits_for_the_cancellation_of_another(
    cloud: Cloud, relay: Relay, race: Make, run_dag: Callable[[], Run]
) -> None:
    """A task that is stopped has a few seconds: a region that is away does not take them from the others."""
    lists: list[int] = []

    def count() -> None:
        lists.append(relay.count("ListCustomJobs"))

    def watched() -> None:
        count()
        silence(relay, FIRST, "ListCustomJobs")

    def cancelled() -> None:
        count()
        relay.answer("ListCustomJobs")

    relay.before("GetCustomJob", watched)
    relay.before("CancelCustomJob", cancelled)
    race(execution_timeout=timedelta(seconds=2))
    assert type(run_dag().error()) is AirflowTaskTimeout
    assert cloud.states_in(*REGIONS) == ["cancelled"] * 3
    # One list of each region, and the first retries of the one that is away: it is asked for ten seconds.
    assert lists[1] - lists[0] < 6
