# SPDX-License-Identifier: Apache-2.0
"""A triggerer is lost, or silent for a while: the deferred task goes on with its job, in another triggerer."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from stage import Stage, Training

pytestmark = [pytest.mark.timeout(600), pytest.mark.parametrize("mode", ["deferrable"])]


@pytest.fixture
def watching(stage: Stage, training: Training, triggerer: str) -> tuple[str, str]:
    """Start a second triggerer, and return the name of the one that watches the job and that of the other."""
    training.wait_until_watched()
    both = {triggerer, stage.start_triggerer()}
    for name in both:
        stage.wait_for_triggerer(name)
    stage.wait_for(lambda: training.triggerer() in both, "one of them has the trigger")
    holder = str(training.triggerer())
    (other,) = both - {holder}
    return holder, other


def wait_until_taken_by(training: Training, name: str) -> None:
    """Wait until a triggerer has a trigger that was another one's."""
    training.stage.wait_for(lambda: training.triggerer() == name, f"{name} has the trigger")


@pytest.mark.durability(
    "SIGKILL of the triggerer while the task is deferred, and a start of it later",
    "Goes on when the triggerer is back, without a retry.",
    "One: it runs on.",
)
def test_killed_while_waiting(stage: Stage, training: Training, triggerer: str) -> None:
    """A triggerer that is killed and started again goes on with the job that its task waited for."""
    training.wait_until_watched()
    stage.airflow.kill(triggerer)
    stage.start_triggerer()
    training.let_end()
    training.check_one_job()


@pytest.mark.durability(
    "SIGKILL of the triggerer when it has seen the end of the job, before Airflow has its event",
    "Succeeds when the triggerer is back, without a retry.",
    "One: it is not run again.",
)
def test_killed_at_the_end(stage: Stage, training: Training, triggerer: str) -> None:
    """What a triggerer saw and could not tell is seen again by the next."""
    training.wait_until_watched()
    training.let_end()
    stage.airflow.processes.wait_for_end(triggerer, 120)
    training.wait_for_jobs("SUCCEEDED")
    assert training.task()["state"] == "deferred"
    stage.start_triggerer()
    training.check_one_job()


@pytest.mark.durability(
    "SIGKILL of the triggerer that watches, beside another one",
    "Goes on in the other one, without a retry.",
    "One: it runs on.",
)
def test_killed_beside_another(stage: Stage, training: Training, watching: tuple[str, str]) -> None:
    """The trigger of a lost triggerer moves to the one that is left."""
    holder, other = watching
    stage.airflow.kill(holder)
    wait_until_taken_by(training, other)
    training.let_end()
    training.check_one_job()


@pytest.mark.durability(
    "The triggerer that watches is silent for longer than its health threshold, beside another one, and comes back",
    "Goes on in the other one, without a retry.",
    "One: it runs on. The one that comes back does not cancel it.",
)
def test_silent_for_a_while(stage: Stage, training: Training, watching: tuple[str, str]) -> None:
    """A triggerer that comes back to triggers that are another one's lets their jobs go on."""
    holder, other = watching
    stage.airflow.processes.signal(holder, signal.SIGSTOP)
    wait_until_taken_by(training, other)
    stage.airflow.processes.signal(holder, signal.SIGCONT)
    training.wait_for_log("goes on: its task is deferred")
    assert training.states() == ["RUNNING"]
    training.let_end()
    training.check_one_job()
