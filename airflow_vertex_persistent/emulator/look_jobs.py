# SPDX-License-Identifier: Apache-2.0
"""``vertex-emulator jobs`` and ``cancel``, through the calls that every client of Vertex AI has."""

from __future__ import annotations

from collections import Counter
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from google.cloud.aiplatform_v1.services.job_service import JobServiceClient
from google.cloud.aiplatform_v1.services.job_service.transports.grpc import JobServiceGrpcTransport
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from .look_calls import CALL_SECONDS, OF_ALL_PROJECTS, emulator_channel, moment
from .names import TUNING_JOBS
from .screen import console, duration

if TYPE_CHECKING:
    from collections.abc import Iterator

    from google.cloud.aiplatform_v1.types import CustomJob, CustomJobSpec, HyperparameterTuningJob

    AnyJob = CustomJob | HyperparameterTuningJob

_CANDIDATE = "airflow_candidate"  # the provider's label
_NAME = "display name"
_SHORTENED = ((_NAME, 12), ("how", 9), (_NAME, 3))
"""Columns that may be shortened, in order, and what is left of each at that time."""
_COLOURS = {
    "SUCCEEDED": "green",
    "FAILED": "red",
    "CANCELLED": "yellow",
    "EXPIRED": "yellow",
    "RUNNING": "cyan",
}


@contextmanager
def _client(host: str) -> Iterator[JobServiceClient]:
    with emulator_channel(host) as channel:
        yield JobServiceClient(transport=JobServiceGrpcTransport(channel=channel))


def _all(client: JobServiceClient) -> list[AnyJob]:
    """All jobs of both kinds, newest first."""
    request = {"parent": "projects/-/locations/-"}
    jobs: list[AnyJob] = []
    for lister in (client.list_custom_jobs, client.list_hyperparameter_tuning_jobs):
        jobs += lister(request, timeout=CALL_SECONDS, metadata=OF_ALL_PROJECTS)
    return sorted(jobs, key=lambda job: int(_id(job)), reverse=True)


def show_jobs(host: str) -> None:
    """
    Print a table of all jobs, newest first.

    :raises OSError: when no emulator answers.
    """
    with _client(host) as client:
        jobs = _all(client)
    if jobs:
        _print_rows([_row(job, datetime.now(UTC)) for job in jobs])
    else:
        console().print("No jobs yet.")


def cancel_job(host: str, job: str) -> None:
    """
    Cancel a job and print the state that it is in.

    :param job: its name, or its id.
    :raises OSError: when no emulator answers, or it refuses.
    :raises ValueError: when there is no such job.
    """
    with _client(host) as client:
        found = _find(client, job)
        cancel, get = client.cancel_custom_job, client.get_custom_job
        if _is_tuning(found):
            cancel, get = client.cancel_hyperparameter_tuning_job, client.get_hyperparameter_tuning_job
        cancel(name=found.name, timeout=CALL_SECONDS)
        state = _state(get(name=found.name, timeout=CALL_SECONDS))
    console().print(f"Job {_id(found)} is {state}.")


def print_machines(host: str, job: str) -> None:
    """
    Print in one line which machines a job has just lost.

    :param job: its name, or its id.
    :raises OSError: when no emulator answers.
    """
    with _client(host) as client:
        found = _find(client, job)
    machines = Counter[str]()
    for pool in _spec(found).worker_pool_specs:
        machines[pool.machine_spec.machine_type] += pool.replica_count
    lost = ", ".join(f"{count} x {machine}" for machine, count in machines.items() if count)
    console().print(f"Job {_id(found)} loses {lost} in {_region(found)}.", soft_wrap=True)


def _find(client: JobServiceClient, job: str) -> AnyJob:
    for one in _all(client):
        if _id(one) == job.rpartition("/")[2]:
            return one
    raise ValueError(f"there is no job {job!r}")


def _print_rows(rows: list[dict[str, str]]) -> None:
    """Print one line a job, with as much of the display name as there is room for."""
    widths = _fitting({name: max(len(row[name]) for row in rows) for name in rows[0]}, console().width)
    columns = (Column(name, no_wrap=True, width=size) for name, size in widths.items())
    table = Table(*columns, box=SIMPLE_HEAD, padding=0, show_edge=False)
    for row in rows:
        cells = {name: Text(row[name], overflow="ellipsis") for name in widths}
        cells["state"].stylize(_COLOURS.get(row["state"], ""))
        table.add_row(*cells.values())
    # A terminal that is narrower breaks the lines itself: half an id would be of no use to anybody.
    Console(width=_total(widths), highlight=False).print(table)


def _fitting(longest: dict[str, int], width: int) -> dict[str, int]:
    """Leave out empty columns, and shorten display names and names of persistent resources to fit into a width."""
    widths = {name: max(size, len(name)) for name, size in longest.items() if size}
    for name, least in _SHORTENED:
        if name in widths and (excess := _total(widths) - width) > 0:
            widths[name] = max(widths[name] - excess, min(widths[name], least))
    if _total(widths) > width:
        widths.pop(_NAME, None)
    return widths


def _total(widths: dict[str, int]) -> int:
    return sum(widths.values()) + len(widths) - 1


def _row(job: AnyJob, now: datetime) -> dict[str, str]:
    """One line of the table, by column."""
    created, started, ended = moment(job.create_time), moment(job.start_time), moment(job.end_time)
    machines = {pool.machine_spec.machine_type: None for pool in _spec(job).worker_pool_specs}
    return {
        "job": _id(job),
        "state": _state(job),
        "wait": _between(created or now, started or ended or now),
        "ran": _between(started, ended or now) if started else "",
        "how": _how(job),
        "machine": ",".join(filter(None, machines)),
        "region": _region(job),
        "#": job.labels.get(_CANDIDATE, ""),
        _NAME: job.display_name,
    }


def _id(job: AnyJob) -> str:
    return job.name.rpartition("/")[2]


def _region(job: AnyJob) -> str:
    return job.name.split("/")[3]


def _state(job: AnyJob) -> str:
    return str(job.state.name.removeprefix("JOB_STATE_"))


def _is_tuning(job: AnyJob) -> bool:
    return f"/{TUNING_JOBS}/" in job.name


def _spec(job: AnyJob) -> CustomJobSpec:
    """What a job runs; a tuning job, as each of its trials."""
    return job.trial_job_spec if _is_tuning(job) else job.job_spec


def _how(job: AnyJob) -> str:
    """How a job gets its machines: the persistent resource that it is on, or its strategy; a tuning job has none."""
    if _is_tuning(job):
        return "tuning"
    names = {"FLEX_START": "flex", "SPOT": "spot", "LOW_COST": "spot"}
    spec = _spec(job)
    strategy = spec.scheduling.strategy.name
    return spec.persistent_resource_id or names.get(strategy, "on demand")


def _between(begin: datetime, end: datetime) -> str:
    return duration((end - begin).total_seconds())
