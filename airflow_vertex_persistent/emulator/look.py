# SPDX-License-Identifier: Apache-2.0
"""What ``vertex-emulator`` prints of jobs, logs, faults and machines, asked of the running emulator."""

from __future__ import annotations

import json
import sys
import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import grpc
from google.api_core.exceptions import DeadlineExceeded, GoogleAPICallError, ServiceUnavailable
from google.protobuf.json_format import MessageToDict
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from .control import EmulatorControl, unreachable
from .logs import LAST_WORDS, SERVICE
from .services import EVERYWHERE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from google.cloud.aiplatform_v1.types import CustomJob
    from google.cloud.logging_v2.types import LogEntry

_EVERYWHERE = ((EVERYWHERE, "1"),)
_CALL_SECONDS = 10.0
_FOLLOW_SECONDS = 0.3
_OVERLAP = timedelta(seconds=2)  # lines of several files may come a little out of order
_PAGE = 1000
_WIDE = 160
_COLOURS = {
    "SUCCEEDED": "green",
    "FAILED": "red",
    "CANCELLED": "yellow",
    "EXPIRED": "yellow",
    "RUNNING": "cyan",
}


def show_jobs(host: str) -> None:
    """
    Print a table of all jobs, newest first.

    :raises OSError: when no emulator answers.
    """
    from google.cloud.aiplatform_v1.services.job_service import JobServiceClient
    from google.cloud.aiplatform_v1.services.job_service.transports.grpc import JobServiceGrpcTransport

    with grpc.insecure_channel(host) as channel:
        client = JobServiceClient(transport=JobServiceGrpcTransport(channel=channel))
        try:
            jobs = list(
                client.list_custom_jobs(
                    {"parent": "projects/-/locations/-"}, timeout=_CALL_SECONDS, metadata=_EVERYWHERE
                )
            )
        except (ServiceUnavailable, DeadlineExceeded) as error:
            raise unreachable(host) from error
        except GoogleAPICallError as error:
            raise OSError(f"{host} answers, but not as a Vertex AI emulator: {error.message}") from error
    console = _console()
    if jobs:
        console.print(_jobs_table(jobs, datetime.now(UTC)))
    else:
        console.print("No jobs yet.")


def _console() -> Console:
    # Without a terminal there is no width to fit in, and nothing should be cut off.
    return Console() if sys.stdout.isatty() else Console(width=_WIDE)


def show_faults(host: str) -> None:
    """
    Print a table of all ordered faults.

    :raises OSError: when no emulator answers.
    """
    with EmulatorControl(host) as control:
        faults = control.faults()
    table = Table("method", "kind", "skip", "times", "used", "seconds", "text")
    for fault in faults:
        numbers = [f"{fault[name]:g}" for name in ("skip", "times", "used", "seconds")]
        table.add_row(fault["method"], fault["kind"], *numbers, Text(fault["text"]))
    _console().print(table if faults else "No faults.")


def show_capacity(host: str) -> None:
    """
    Print machines outside persistent resources, and below them the jobs that wait for some.

    :raises OSError: when no emulator answers.
    """
    with EmulatorControl(host) as control:
        shelves = control.capacity()
    now = datetime.now(UTC)
    machines = _narrow("region", "machine type", "stock", "in use", "waiting", "next change")
    queues = _narrow("region", "machine type", "waiting job", "nodes", "waited", "limit")
    for shelf in shelves:
        where = shelf["region"], shelf["machine_type"]
        numbers = _stock(shelf["stock"]), str(shelf["in_use"]), str(len(shelf["queue"]))
        machines.add_row(*where, *numbers, _change(shelf, now))
        for place in shelf["queue"]:
            limit = "for ever" if place["wait_limit"] is None else _seconds(place["wait_limit"])
            job = place["job"].rpartition("/")[2]
            queues.add_row(*where, job, str(place["nodes"]), _seconds(place["waited"]), limit)
    console = _console()
    console.print(machines if shelves else "No machines in use, and none waited for.")
    if queues.rows:
        console.print(queues)


def _narrow(*names: str) -> Table:
    """A table that fits into most terminals, and breaks lines where it does not."""
    columns = (Column(name, overflow="fold", no_wrap=name == "waiting job") for name in names)
    return Table(*columns, box=SIMPLE_HEAD, pad_edge=False)


def _stock(machines: int | None) -> str:
    return "unlimited" if machines is None else str(machines)


def _change(shelf: dict[str, Any], now: datetime) -> str:
    if shelf["next_change"] is None:
        return ""
    moment = datetime.fromisoformat(shelf["next_change"])
    return f"{_stock(shelf['next_stock'])} in {_duration(now, moment)}"


def _jobs_table(jobs: list[CustomJob], now: datetime) -> Table:
    names = ("job", "display name", "state", "where", "queued", "ran")
    table = Table(*(Column(name, no_wrap=name in {"job", "state", "queued", "ran"}) for name in names))
    for job in jobs:
        state = job.state.name.removeprefix("JOB_STATE_")
        created, started, ended = _time(job.create_time), _time(job.start_time), _time(job.end_time)
        table.add_row(
            job.name.rpartition("/")[2],
            Text(job.display_name),
            Text(state, style=_COLOURS.get(state, "")),
            Text(f"{job.job_spec.persistent_resource_id or _how(job)}, {job.name.split('/')[3]}"),
            _duration(created or now, started or ended or now),
            _duration(started, ended or now) if started else "",
        )
    return table


def _how(job: CustomJob) -> str:
    """How a job outside persistent resources gets its machines."""
    names = {"FLEX_START": "Flex Start", "SPOT": "Spot", "LOW_COST": "Spot"}
    return names.get(job.job_spec.scheduling.strategy.name, "on demand")


def _time(value: object) -> datetime | None:
    return value if isinstance(value, datetime) else None


def _duration(begin: datetime, end: datetime) -> str:
    return _seconds((end - begin).total_seconds())


def _seconds(seconds: float) -> str:
    if seconds < 60:  # noqa: PLR2004 - a minute
        return f"{seconds:.1f} s"
    return str(timedelta(seconds=round(seconds)))


def show_logs(host: str, job_id: str, *, follow: bool) -> bool:
    """
    Print the log of a job, all replicas by time.

    :param follow: go on until the job has ended.
    :return: whether there was anything to print.
    :raises OSError: when no emulator answers.
    """
    console = Console(highlight=False, soft_wrap=True)
    with grpc.insecure_channel(host) as channel:
        try:
            lines = _followed(channel, job_id) if follow else _entries(channel, job_id, None)
            empty = True
            for entry in lines:
                console.print(_line(entry))
                empty = False
        except (ServiceUnavailable, DeadlineExceeded) as error:
            raise unreachable(host) from error
        except GoogleAPICallError as error:
            raise OSError(f"{host} refused to list log entries: {error.message}") from error
    return not empty


def _entries(channel: grpc.Channel, job_id: str, since: datetime | None) -> Iterator[LogEntry]:
    from google.cloud.logging_v2.services.logging_service_v2 import LoggingServiceV2Client
    from google.cloud.logging_v2.services.logging_service_v2.transports import (
        LoggingServiceV2GrpcTransport,
    )

    client = LoggingServiceV2Client(transport=LoggingServiceV2GrpcTransport(channel=channel))
    wanted = f'resource.type="ml_job" AND resource.labels.job_id={json.dumps(job_id)}'
    if since is not None:
        wanted += f' AND timestamp>="{since.isoformat()}"'
    yield from client.list_log_entries(
        {
            "resource_names": ["projects/-"],
            "filter": wanted,
            "order_by": "timestamp asc",
            "page_size": _PAGE,
        },
        timeout=_CALL_SECONDS,
        retry=None,  # the client's own would hide for a minute that nobody answers
        metadata=_EVERYWHERE,
    )


def _followed(channel: grpc.Channel, job_id: str) -> Iterator[LogEntry]:
    """Yield each entry once, until the service has said its last words on the job."""
    seen: set[str] = set()
    since: datetime | None = None
    while True:
        fresh = [entry for entry in _entries(channel, job_id, since) if entry.insert_id not in seen]
        for entry in fresh:
            seen.add(entry.insert_id)
            yield entry
        if not seen or any(_task(entry) == SERVICE and _message(entry) in LAST_WORDS for entry in fresh):
            return
        if fresh:
            last = _time(fresh[-1].timestamp)
            since = last and last - _OVERLAP
        time.sleep(_FOLLOW_SECONDS)


def _task(entry: LogEntry) -> str:
    return str(entry.resource.labels["task_name"])


def _message(entry: LogEntry) -> str:
    return str(_payload(entry).get("message", ""))


def _payload(entry: LogEntry) -> dict[str, Any]:
    return MessageToDict(type(entry).pb(entry).json_payload)


def _line(entry: LogEntry) -> Text:
    payload = _payload(entry)
    level = payload.pop("levelname", "INFO")
    message = str(payload.pop("message", ""))
    when = _time(entry.timestamp)
    clock = when.astimezone().strftime("%H:%M:%S.%f")[:-3] if when else ""
    line = Text.assemble((f"{clock} ", "dim"), (f"{_task(entry):<13} ", "cyan"))
    if level != "INFO":
        line.append(f"{level} ", style="bold")
    line.append(message)
    if payload:
        line.append(f" {json.dumps(payload, default=str)}", style="dim")
    return line
