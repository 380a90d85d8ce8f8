# SPDX-License-Identifier: Apache-2.0
"""
How soon a training has its GPU where they are scarce, by how the task looks for one.

Each run has three regions of its own in one emulator, in which a machine is free for a while and taken for longer, at
random and the same way every time. The operators are the real ones; nothing is trained. A peer's operator creates its
job in one region and fails when there is no machine; the same does ours with ``strategy="standard"`` and one region.
The figures never fail the run.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from statistics import median, quantiles
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import grpc
from google.cloud.aiplatform_v1 import JobServiceClient
from google.cloud.aiplatform_v1.types import JobState
from local_emulator import CONNECTION
from rich.console import Console
from rich.table import Table

from airflow_vertex_persistent.emulator import EmulatorSettings, VertexEmulator
from airflow_vertex_persistent.exceptions import VertexTrainingError
from airflow_vertex_persistent.operators.flex_start import FlexStartTrainingOperator
from airflow_vertex_persistent.specs.candidates import candidate

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

MACHINE = "g2-standard-4"
FREE, TAKEN = 4.0, 12.0
"""Mean seconds for which a region has a machine, and has none."""
LIMIT = 30.0
"""Seconds for which a task looks for one."""
POLL = 0.5
RUN_SECONDS = 4.0
THREADS = 50


@dataclass(frozen=True)
class Way:
    """
    A way to look for a GPU.

    :param name: For the table.
    :param parameters: Of the operator, for three regions.
    """

    name: str
    parameters: Callable[[list[str]], Mapping[str, Any]]


def one_place(strategy: str) -> Callable[[list[str]], Mapping[str, Any]]:
    """Look in the first region only."""
    return lambda regions: {"region": regions[0], "strategy": strategy, "max_wait_duration": LIMIT}


def three_places(order: str, limit: float) -> Callable[[list[str]], Mapping[str, Any]]:
    """Look in each region for a time."""
    return lambda regions: {
        "candidates": [candidate(region=region) for region in regions],
        "candidate_order": order,
        "max_wait_duration": limit,
    }


WAYS = (
    Way("a peer: one region, on demand, then fail", one_place("standard")),
    Way("Flex Start, one region", one_place("flex_start")),
    Way("Flex Start, three regions in order", three_places("ordered", LIMIT / 3)),
    Way("Flex Start, three regions in a race", three_places("race", LIMIT)),
)


@dataclass(frozen=True)
class Outcome:
    """
    What became of one run.

    :param waited: Seconds from its begin to the start of the job that counts; ``None``: it got no GPU.
    :param lost: Seconds that other jobs had a GPU.
    :param winners: Jobs that were trained to their end.
    """

    waited: float | None
    lost: float
    winners: int


class Store(dict[str, Any]):
    """A task state store in memory."""

    def set(self, key: str, value: Any) -> None:
        """Keep a value."""
        self[key] = value


def context(run: str) -> Any:
    """Return what an operator sees of Airflow in the only attempt of a task."""
    ti = SimpleNamespace(
        dag_id="bench",
        task_id="train",
        run_id=run,
        map_index=-1,
        try_number=1,
        max_tries=0,
        start_date=datetime.now(UTC),
        xcom_push=lambda **_: None,
    )
    return {"ti": ti, "task_state_store": Store(), "dag": SimpleNamespace(fileloc=__file__)}


def look_for_one(way: Way, run: str, regions: list[str], client: JobServiceClient) -> Outcome:
    """Run one task and say what became of it."""
    operator = FlexStartTrainingOperator(
        task_id="train",
        container_uri="bench/image:1",
        machine_type=MACHINE,
        accelerator_type="NVIDIA_L4",
        accelerator_count=1,
        poll_interval=POLL,
        deferrable=False,
        **way.parameters(regions),
    )
    began = datetime.now(UTC)
    try:
        result = operator.execute(context(run))
    except VertexTrainingError:
        result = None
    jobs = [
        job
        for region in regions
        for job in client.list_custom_jobs(parent=f"projects/demo-project/locations/{region}")
    ]
    waited = None
    if result is not None:
        waited = (datetime.fromisoformat(result["start_time"]) - began).total_seconds()
    others = [job for job in jobs if result is None or job.name != result["job"]]
    winners = sum(job.state == JobState.JOB_STATE_SUCCEEDED for job in jobs)
    return Outcome(waited, sum(map(seconds_on_gpu, others)), winners)


def seconds_on_gpu(job: Any) -> float:
    """Return for how long a job had its machine."""
    if not job.start_time or not job.end_time:
        return 0.0
    return float((job.end_time - job.start_time).total_seconds())


def run_all(way: Way, number: int, runs: int) -> list[Outcome]:
    """Run all tasks of one way, each with regions of its own."""
    stock = f"random seed=1 free={FREE:g} taken={TAKEN:g} machines=1"
    settings = EmulatorSettings(
        executor="simulate",
        simulated_seconds=RUN_SECONDS,
        provisioning_seconds=0.1,
        stockout_retries=0,
        stock={f"*/{MACHINE}": stock},
    )
    with VertexEmulator(settings=settings) as emulator:
        os.environ |= emulator.environment
        client = JobServiceClient(
            transport=JobServiceClient.get_transport_class("grpc")(
                channel=grpc.insecure_channel(emulator.address)
            )
        )

        def one(run: int) -> Outcome:
            regions = [f"bench-{place}{run}" for place in ("east", "north", "west")]
            return look_for_one(way, f"{number}-{run}", regions, client)

        with ThreadPoolExecutor(THREADS) as threads:
            return list(threads.map(one, range(runs)))


def row(way: Way, outcomes: list[Outcome]) -> list[str]:
    """Return a line of the table."""
    waits = [outcome.waited for outcome in outcomes if outcome.waited is not None]
    high = f"{quantiles(waits, n=20)[-1]:.1f}" if len(waits) > 1 else "-"
    return [
        way.name,
        f"{len(waits)} of {len(outcomes)}",
        f"{median(waits):.1f}" if waits else "-",
        high,
        f"{sum(outcome.lost for outcome in outcomes):.1f}",
        f"{max(outcome.lost for outcome in outcomes):.1f}",
        str(sum(outcome.winners > 1 for outcome in outcomes)),
    ]


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description="Compare how soon a task has its GPU.")
    parser.add_argument("--runs", type=int, default=200, help="of each way (default: 200)")
    options = parser.parse_args()
    os.environ["AIRFLOW_CONN_GOOGLE_CLOUD_DEFAULT"] = json.dumps(CONNECTION)
    logging.disable(logging.ERROR)
    table = Table(
        title=f"{options.runs} runs each; a machine is free for {FREE:g} s and taken for {TAKEN:g} s"
    )
    for column in ("", "got a GPU", "wait, s: median", "95 %", "GPU s of losers: all", "most", "two winners"):
        table.add_column(column, justify="left" if not column else "right")
    for number, way in enumerate(WAYS):
        table.add_row(*row(way, run_all(way, number, options.runs)))
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
