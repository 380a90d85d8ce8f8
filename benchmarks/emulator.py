# SPDX-License-Identifier: Apache-2.0
"""
How fast the emulator answers while thousands of jobs run.

An emulator in a process of its own simulates jobs; Google's client asks from this one. First all jobs run, then as
many newer ones have ended. Times are those of one call each, as the caller sees them.
The figures never fail the run: it prints whether the target is met.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import median, quantiles
from typing import TYPE_CHECKING, Any

import grpc
import psutil
from google.cloud.aiplatform_v1.services.job_service import JobServiceClient
from google.cloud.aiplatform_v1.services.job_service.transports.grpc import JobServiceGrpcTransport
from google.cloud.aiplatform_v1.types import CustomJob, ListCustomJobsRequest
from google.protobuf.field_mask_pb2 import FieldMask
from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PARENT = "projects/bench-project/locations/europe-west4"
TARGET_SECONDS = 0.02
PAGE_SIZE = 100
ENDED = ("SUCCEEDED", "FAILED", "CANCELLED", "EXPIRED", "PARTIALLY_SUCCEEDED")
ACTIVE = " AND ".join(
    ['labels.airflow_installation="bench"', *(f'state!="JOB_STATE_{state}"' for state in ENDED)]
)
MASK = (
    "name,state,create_time,start_time,end_time,error,labels,job_spec.persistent_resource_id,"
    "job_spec.base_output_directory,job_spec.scheduling"
)
FOREVER, AT_ONCE = "86400", "0"


@dataclass(frozen=True)
class Times:
    """Seconds of several calls of one kind."""

    what: str
    seconds: list[float]

    @property
    def row(self) -> tuple[str, ...]:
        """Call, number of calls, median and 95th percentile in milliseconds."""
        high = quantiles(self.seconds, n=20)[-1]
        return self.what, str(len(self.seconds)), f"{median(self.seconds) * 1e3:.1f}", f"{high * 1e3:.1f}"


@contextmanager
def emulator() -> Iterator[tuple[psutil.Process, str]]:
    """Run an emulator that simulates, and yield its process and address."""
    command = [sys.executable, "-m", "airflow_vertex_persistent.emulator.cli", "start", "--executor=simulate"]
    with tempfile.TemporaryDirectory() as folder:
        process = subprocess.Popen(
            [*command, "--port=0", "--storage-port=0", f"--data-dir={folder}"],
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            ready = process.stdout.readline() if process.stdout else ""
            address = re.search(r"VERTEX_AI_EMULATOR_HOST=([^\s;]+)", ready)
            if address is None:
                raise RuntimeError("the emulator did not start")
            yield psutil.Process(process.pid), address[1]
        finally:
            process.terminate()
            process.communicate()


def create(client: JobServiceClient, count: int, run_seconds: str) -> list[str]:
    """Create jobs, each with a label of its own, and return their names, oldest first."""

    def job(number: int) -> str:
        environment = [{"name": "EMULATOR_RUN_SECONDS", "value": run_seconds}]
        pool = {
            "machine_spec": {"machine_type": "n1-standard-4"},
            "replica_count": 1,
            "container_spec": {"image_uri": "bench/image:1", "env": environment},
        }
        labels = {"airflow_installation": "bench", "airflow_execution": f"k{run_seconds}-{number}"}
        spec = {
            "display_name": f"bench-{number}",
            "labels": labels,
            "job_spec": {"worker_pool_specs": [pool]},
        }
        return str(client.create_custom_job(parent=PARENT, custom_job=CustomJob(spec)).name)

    with ThreadPoolExecutor(8) as threads:
        return sorted(threads.map(job, range(count)))


def list_page(client: JobServiceClient, text: str, token: str = "") -> Any:
    """Ask for one page of jobs."""
    request = ListCustomJobsRequest(
        parent=PARENT,
        filter=text,
        page_size=PAGE_SIZE,
        page_token=token,
        read_mask=FieldMask(paths=MASK.split(",")),
    )
    return next(iter(client.list_custom_jobs(request).pages))


def wait_until(client: JobServiceClient, text: str, count: int) -> None:
    """Wait until a filter finds so many jobs."""
    while len(list(client.list_custom_jobs({"parent": PARENT, "filter": text, "page_size": 1000}))) != count:
        time.sleep(0.2)


def timed(call: Callable[..., Any], *arguments: Any) -> tuple[float, Any]:
    """Make a call and return its seconds and its answer."""
    start = time.perf_counter()
    answer = call(*arguments)
    return time.perf_counter() - start, answer


def measure(client: JobServiceClient, names: list[str], calls: int) -> list[Times]:
    """Measure each kind of call."""

    def get(name: str) -> CustomJob:
        return client.get_custom_job(name=name)

    step = max(1, len(names) // calls)
    gets = [timed(get, name)[0] for name in names[::step]]
    pages: list[float] = []
    token = ""
    while not pages or token:
        seconds, page = timed(list_page, client, ACTIVE, token)
        pages.append(seconds)
        token = page.next_page_token
    keys = [f"k{FOREVER}-{number}" for number in range(len(names))]
    groups = [keys[start : start + 50] for start in range(0, len(keys), 50)]
    texts = [" OR ".join(f'labels.airflow_execution="{key}"' for key in group) for group in groups]
    chosen = [timed(list_page, client, text)[0] for text in texts[:calls]]
    return [
        Times("get one job", gets),
        Times(f"list active jobs, {PAGE_SIZE} a page, all pages", pages),
        Times("list 50 jobs by label", chosen),
    ]


def main() -> None:
    """Measure, print the tables and whether the target is met."""
    parser = argparse.ArgumentParser(description="Measure the emulator with many jobs.")
    parser.add_argument("--jobs", type=int, default=5000, help="jobs that run (default: 5000)")
    parser.add_argument("--calls", type=int, default=200, help="calls of each kind (default: 200)")
    options = parser.parse_args()
    console, slowest = Console(width=120), 0.0
    with emulator() as (process, address), grpc.insecure_channel(address) as channel:
        client = JobServiceClient(transport=JobServiceGrpcTransport(channel=channel))
        seconds, names = timed(create, client, options.jobs, FOREVER)
        console.print(f"{options.jobs} jobs created in {seconds:.1f} s.")
        wait_until(client, 'state="JOB_STATE_RUNNING"', options.jobs)
        for title in (f"{options.jobs} jobs run", f"{options.jobs} jobs run, as many newer ones have ended"):
            if "newer" in title:
                create(client, options.jobs, AT_ONCE)
                wait_until(client, 'state="JOB_STATE_SUCCEEDED"', options.jobs)
            found = measure(client, names, options.calls)
            table = Table("call", "calls", "median ms", "95 % ms", title=title)
            for times in found:
                table.add_row(*times.row)
            console.print(table)
            slowest = max(slowest, *(median(times.seconds) for times in found))
        console.print(f"The emulator uses {process.memory_info().rss / 2**20:.0f} MiB.")
        before = time.perf_counter()
    console.print(f"It ended {options.jobs} jobs and itself in {time.perf_counter() - before:.1f} s.")
    verdict = "met" if slowest <= TARGET_SECONDS else "NOT met"
    console.print(
        f"Target {verdict}: each median at most {TARGET_SECONDS * 1e3:.0f} ms; the slowest is {slowest * 1e3:.1f} ms."
    )


if __name__ == "__main__":
    main()
