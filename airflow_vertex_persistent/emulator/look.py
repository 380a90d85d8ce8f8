# SPDX-License-Identifier: Apache-2.0
"""What ``vertex-emulator`` prints of logs and faults, asked of the running emulator."""

from __future__ import annotations

import json
import time
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from google.protobuf.json_format import MessageToDict
from rich.console import Console
from rich.table import Table
from rich.text import Text

from .control import EmulatorControl
from .logs import LAST_WORDS, SERVICE
from .look_calls import CALL_SECONDS, OF_ALL_PROJECTS, emulator_channel, moment
from .screen import console

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    import grpc
    from google.cloud.logging_v2.types import LogEntry

_FOLLOW_SECONDS = 0.3
_OVERLAP = timedelta(seconds=2)  # lines of several files may come a little out of order
_PAGE = 1000


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
    console().print(table if faults else "No faults.")


def show_logs(host: str, job_id: str, *, follow: bool) -> bool:
    """
    Print the log of a job, all replicas by time.

    :param follow: go on until the job has ended.
    :return: whether there was anything to print.
    :raises OSError: when no emulator answers.
    """
    printed = Console(highlight=False, soft_wrap=True)
    with emulator_channel(host) as channel:
        lines = _followed(channel, job_id) if follow else _entries(channel, job_id, None)
        empty = True
        for entry in lines:
            printed.print(_line(entry))
            empty = False
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
        timeout=CALL_SECONDS,
        retry=None,  # the client's own would hide for a minute that nobody answers
        metadata=OF_ALL_PROJECTS,
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
            last = moment(fresh[-1].timestamp)
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
    when = moment(entry.timestamp)
    clock = when.astimezone().strftime("%H:%M:%S.%f")[:-3] if when else ""
    line = Text.assemble((f"{clock} ", "dim"), (f"{_task(entry):<13} ", "cyan"))
    if level != "INFO":
        line.append(f"{level} ", style="bold")
    line.append(message)
    if payload:
        line.append(f" {json.dumps(payload, default=str)}", style="dim")
    return line
