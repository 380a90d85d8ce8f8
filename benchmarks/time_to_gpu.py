# SPDX-License-Identifier: Apache-2.0
"""
How soon a training has its GPU where they are scarce, by how the task looks for one.

Each run has three regions of its own, in which a machine is free for a while and taken for longer: at random, the
same way every time and for each way to look for one. The emulator is a process of its own, the operators are the real
ones; nothing is trained. A peer's operator creates its job in one region and fails when there is no machine; the same
does ours with ``strategy="standard"`` and one region.

The figures are those of the emulator's own jobs, except for when a run began and whether its task succeeded. They
never fail the run.
"""

from __future__ import annotations

import argparse
import logging
import math
import os
import tempfile
import time
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
from google.cloud.aiplatform_v1 import JobServiceClient
from google.cloud.aiplatform_v1.types import JobState
from local_emulator import PROJECT, start_emulator
from only_attempt import context
from processes import Processes
from rich.console import Console
from rich.table import Table
from scarce_machines import FREE, LATE, PLACES, TAKEN, Period, Scarcity, Turn

from airflow_vertex_persistent.emulator import EmulatorControl
from airflow_vertex_persistent.exceptions import VertexTrainingError
from airflow_vertex_persistent.operators.flex_start import FlexStartTrainingOperator
from airflow_vertex_persistent.specs.candidates import candidate

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

MACHINE = "g2-standard-4"
LIMIT = 30.0
"""Seconds for which a task looks for one."""
POLL, CANCEL = 0.5, 0.5
"""Seconds between two looks at a job, and until a cancellation is carried out."""
STRETCH = 1.1
"""A task stretches its pauses by up to a tenth."""
MOST_LOST = STRETCH * POLL + CANCEL
"""Seconds that one loser may have a GPU, apart from what the calls take."""
RUN_SECONDS = 4.0
PROVISIONING_SECONDS = 0.1
ALL_CALLS = 999_999
LETTERS = str.maketrans("0123456789", "abcdefghij")


@dataclass(frozen=True)
class Way:
    """
    A way to look for a GPU.

    :param name: For the table.
    :param parameters: Of the operator, for three regions.
    :param turns: When it waits where.
    """

    name: str
    parameters: Callable[[list[str]], Mapping[str, Any]]
    turns: tuple[Turn, ...]


def one_place(name: str, strategy: str) -> Way:
    """Look in the first region only."""
    return Way(
        name,
        lambda regions: {"region": regions[0], "strategy": strategy, "max_wait_duration": LIMIT},
        (Turn(0, 0, Period(0, LIMIT)),),
    )


def three_places(name: str, order: str, limit: float, turns: Iterator[Turn]) -> Way:
    """Look in each region for a time."""
    return Way(
        name,
        lambda regions: {
            "candidates": [candidate(region=region) for region in regions],
            "candidate_order": order,
            "max_wait_duration": limit,
        },
        tuple(turns),
    )


THIRD = LIMIT / len(PLACES)
PEER = one_place("a peer: one region, then fail", "standard")
WAYS = (
    PEER,
    one_place("one region", "flex_start"),
    three_places(
        "three regions in order",
        "ordered",
        THIRD,
        (Turn(place, place, Period(place * THIRD, (place + 1) * THIRD)) for place in range(len(PLACES))),
    ),
    three_places(
        "three regions in a race",
        "race",
        LIMIT,
        (Turn(place, 0, Period(0, LIMIT)) for place in range(len(PLACES))),
    ),
)


@dataclass(frozen=True)
class Run:
    """
    One task.

    :param way: Number of its way.
    :param seed: Which machines it finds.
    """

    way: int
    seed: int

    @property
    def regions(self) -> list[str]:
        """Regions that no other run has; a region's name ends in one or two digits."""
        seed = str(self.seed).translate(LETTERS)
        return [f"{place}-{seed}{self.way}" for place in PLACES]


@dataclass(frozen=True)
class Outcome:
    """
    What became of one run.

    :param waited: Seconds from its begin to the start of the job that counts; infinite: it got no GPU.
    :param lost: Seconds that each other job had a GPU, of those that had one.
    :param winners: Jobs that were trained to their end.
    :param came: A machine was free while it waited there.
    """

    waited: float
    lost: list[float]
    winners: int
    came: bool


def look_for_one(run: Run, control: EmulatorControl) -> tuple[datetime, str | None]:
    """Run one task; return when it began, and the name of the job that it says was trained."""
    operator = FlexStartTrainingOperator(
        task_id="train",
        container_uri="bench/image:1",
        machine_type=MACHINE,
        accelerator_type="NVIDIA_L4",
        accelerator_count=1,
        poll_interval=POLL,
        deferrable=False,
        **WAYS[run.way].parameters(run.regions),
    )
    for place, region in enumerate(run.regions):
        control.set_stock(f"{region}/{MACHINE}", Scarcity(run.seed).stock(place))
    began = datetime.now(UTC)
    try:
        return began, str(operator.execute(context("train", f"{run.way}-{run.seed}"))["job"])
    except VertexTrainingError:
        return began, None


def outcome(run: Run, began: datetime, told: str | None, jobs: Sequence[Any]) -> Outcome:
    """Return what the jobs of a run say of it."""
    trained = [job for job in jobs if job.state == JobState.JOB_STATE_SUCCEEDED]
    others = [job for job in jobs if job.start_time and job.name != told]
    return Outcome(
        waited=min(
            ((job.start_time - began).total_seconds() for job in trained if job.name == told),
            default=math.inf,
        ),
        lost=[(job.end_time - job.start_time).total_seconds() for job in others],
        winners=len(trained),
        came=Scarcity(run.seed).came(WAYS[run.way].turns),
    )


def run_all(runs: Sequence[Run], at_once: int) -> Iterator[Outcome]:
    """Run all tasks, each with regions of its own, and yield what became of each."""
    settings: dict[str, float | str] = {
        "executor": "simulate",
        "simulated-seconds": RUN_SECONDS,
        "provisioning-seconds": PROVISIONING_SECONDS,
    }
    with tempfile.TemporaryDirectory() as name, Processes(Path(name)) as processes:
        environment = start_emulator(
            processes, Path(name) / "cloud", images={}, buckets=[], settings=settings
        )
        os.environ |= environment
        address = environment["VERTEX_AI_EMULATOR_HOST"]
        with EmulatorControl(address) as control, ThreadPoolExecutor(at_once) as threads:
            control.add_fault("CancelCustomJob", "slow_request", times=ALL_CALLS, seconds=CANCEL)
            told = list(threads.map(lambda run: look_for_one(run, control), runs))
        # A proxy that the environment names must not stand before our own machine.
        channel = grpc.insecure_channel(address, options=[("grpc.enable_http_proxy", 0)])
        with channel:
            client = JobServiceClient(transport=JobServiceClient.get_transport_class("grpc")(channel=channel))
            for run, (began, job) in zip(runs, told, strict=True):
                yield outcome(run, began, job, jobs_of(run, client))


def jobs_of(run: Run, client: JobServiceClient) -> list[Any]:
    """Return the emulator's jobs of a run, all of which have ended or are about to."""
    while True:
        jobs: list[Any] = [
            job
            for region in run.regions
            for job in client.list_custom_jobs(parent=f"projects/{PROJECT}/locations/{region}")
        ]
        if all(job.end_time for job in jobs):
            return jobs
        time.sleep(POLL)


def percentile(values: Sequence[float], share: float) -> str:
    """Return the value that so many do not exceed; whoever got no GPU waits for ever."""
    value = sorted(values)[math.ceil(share * len(values)) - 1]
    return "never" if math.isinf(value) else f"{value:.1f}"


def row(way: Way, outcomes: Sequence[Outcome]) -> list[str]:
    """Return a line of the table."""
    waits, came = [outcome.waited for outcome in outcomes], [outcome for outcome in outcomes if outcome.came]
    lost = [seconds for outcome in outcomes for seconds in outcome.lost]
    return [
        way.name,
        str(sum(map(math.isfinite, waits))),
        f"{sum(math.isinf(outcome.waited) for outcome in came)}/{len(came)}",
        str(sum(outcome.winners > 1 for outcome in outcomes)),
        percentile(waits, 0.5),
        percentile(waits, 0.95),
        str(len(lost)),
        f"{sum(lost):.1f}",
        f"{max(lost, default=0):.2f}",
    ]


def surprises(run: Run, found: Outcome) -> Iterator[str]:
    """Yield what should not be."""
    if found.winners > 1:
        yield f"{found.winners} winners"
    if found.came and math.isinf(found.waited) and WAYS[run.way] is not PEER:
        yield "a machine came, and it got none"
    if any(seconds > MOST_LOST for seconds in found.lost):
        yield f"a loser had a GPU for {max(found.lost):.2f} s"


def table_of(outcomes: Mapping[int, Sequence[Outcome]], runs: int) -> Table:
    """Return the table."""
    table = Table(
        title=f"{runs} runs each (seeds 1 to {runs}); on demand, then Flex Start",
        caption=(
            f"In each region a machine is free for {FREE:g} s and taken for {TAKEN:g} s, on average, whatever the way. "
            f"A run looks for one for {LIMIT:g} s, {THIRD:g} s in each of three regions in order.\n"
            "None, but one came: by the timetable of machines alone, one was free in a region while the run waited "
            f"there, were it to begin each turn {LATE:g} s late; for a peer, in its region within {LIMIT:g} s.\n"
            "Who got no GPU waits for ever.\n"
            f"A loser may have one for {MOST_LOST:.2f} s: {POLL:g} s between two looks, stretched by up to a tenth, and "
            f"{CANCEL:g} s that a cancellation takes; calls take their time, too."
        ),
        caption_justify="left",
    )
    for column in (
        "",
        "got a GPU",
        "none, but one came",
        "two winners",
        "wait, s: median",
        "95 %",
        "losers with a GPU",
        "their GPU s",
        "most of one",
    ):
        table.add_column(column, justify="right" if column else "left", no_wrap=not column)
    for number, way in enumerate(WAYS):
        table.add_row(*row(way, outcomes[number]))
    return table


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description="Compare how soon a task has its GPU.")
    parser.add_argument("--runs", type=int, default=50, help="of each way (default: 50)")
    parser.add_argument("--at-once", type=int, default=20, help="tasks at the same time (default: 20)")
    options = parser.parse_args()
    logging.disable(logging.ERROR)
    # All ways side by side, so that the machine is as busy for one as for the other.
    runs = [Run(way, seed) for seed in range(1, options.runs + 1) for way in range(len(WAYS))]
    outcomes = defaultdict[int, list[Outcome]](list)
    odd = []
    for run, found in zip(runs, run_all(runs, options.at_once), strict=True):
        outcomes[run.way].append(found)
        odd += [f"{WAYS[run.way].name}, seed {run.seed}: {what}" for what in surprises(run, found)]
    Console(width=120).print(table_of(outcomes, options.runs), *odd, sep="\n")


if __name__ == "__main__":
    main()
