# SPDX-License-Identifier: Apache-2.0
"""LoggingServiceV2.ListLogEntries over the log files of replicas, as Cloud Logging shows training jobs."""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING

from google.cloud.logging_v2.types import ListLogEntriesResponse, LogEntry
from google.logging.type.log_severity_pb2 import LogSeverity
from google.protobuf.json_format import ParseDict, ParseError
from google.protobuf.struct_pb2 import Struct

from airflow_vertex_persistent.emulator import filters
from airflow_vertex_persistent.emulator.errors import invalid
from airflow_vertex_persistent.emulator.names import parse_project
from airflow_vertex_persistent.emulator.paging import page

if TYPE_CHECKING:
    from google.cloud.logging_v2.types import ListLogEntriesRequest

    from airflow_vertex_persistent.emulator.logs import Line, LogBook
    from airflow_vertex_persistent.emulator.names import Location
    from airflow_vertex_persistent.emulator.store import Store

    from . import Call

_RESOURCE_TYPE = "ml_job"
_DESCENDING = {"": False, "timestamp": False, "timestamp asc": False, "timestamp desc": True}
_SEVERITIES: dict[str, int] = dict(LogSeverity.items())
_COMPLEX = re.compile(r"\b(OR|NOT)\b")


class Logging:
    """
    Answers log entries.

    :param logs: the log files.
    :param store: says which project and region a job belongs to.
    """

    def __init__(self, logs: LogBook, store: Store) -> None:
        self._logs = logs
        self._store = store

    async def list_entries(self, request: ListLogEntriesRequest, call: Call) -> ListLogEntriesResponse:
        """List the lines that a filter asks for, by time."""
        if request.order_by not in _DESCENDING:
            raise invalid(f"order_by {request.order_by!r} is not 'timestamp asc' or 'timestamp desc'.")
        projects = None if call.everywhere else {parse_project(name) for name in request.resource_names}
        if projects is not None and not projects:
            raise invalid("resource_names: Required field is not set.")
        fields = _Fields()
        try:
            test = filters.parse(request.filter, fields.meaning, adjacent=True)
        except filters.FilterError as error:
            raise invalid(f"Invalid filter {request.filter!r}: {error}.") from error
        ids = set(self._logs.job_ids())
        if fields.job_ids and not _COMPLEX.search(request.filter):
            ids &= fields.job_ids  # spares reading the logs of all the other jobs
        jobs = [*self._store.jobs.newest_first(), *self._store.tuning_jobs.newest_first()]
        places = {key.id: key.location for key, _ in jobs}
        ids = {job for job in ids if projects is None or job not in places or places[job].project in projects}
        lines = await asyncio.to_thread(
            lambda: sorted(line for job in ids for line in self._logs.lines(job) if test(line))
        )
        descending = _DESCENDING[request.order_by]
        chosen, token = page(
            lines[::-1] if descending else lines,
            _place,
            descending=descending,
            size=request.page_size,
            token=request.page_token,
            question=f"{sorted(request.resource_names)} {request.filter}",
        )
        return ListLogEntriesResponse(
            entries=[_entry(line, places.get(line.job_id)) for line in chosen], next_page_token=token
        )


def _place(line: Line) -> str:
    return f"{line.time.isoformat()} {line.job_id} {line.task} {line.number:012}"


class _Fields:
    """What the fields of a log filter mean; remembers the job ids that it asks for."""

    def __init__(self) -> None:
        self.job_ids: set[str] = set()

    def meaning(self, comparison: filters.Comparison) -> filters.Test:
        field = comparison.field
        if field == "timestamp":
            return filters.time_test(comparison, lambda line: line.time)
        if field == "severity":
            return _severity_test(comparison)
        if field == "resource.type":
            return filters.text_test(comparison, lambda _: _RESOURCE_TYPE)
        if field == "resource.labels.job_id":
            if comparison.operator == "=":
                self.job_ids.add(comparison.value)
            return filters.text_test(comparison, lambda line: line.job_id)
        if field == "resource.labels.task_name":
            return filters.text_test(comparison, lambda line: line.task)
        raise filters.FilterError(
            f"field {field!r} is not one of resource.type, resource.labels.job_id, resource.labels.task_name, "
            "timestamp, severity"
        )


def _severity_test(comparison: filters.Comparison) -> filters.Test:
    wanted = _SEVERITIES.get(comparison.value.upper())
    if wanted is None:
        raise filters.FilterError(f"{comparison.value!r} is no severity")
    tests: dict[str, filters.Test] = {
        "=": lambda line: _severity(line) == wanted,
        "!=": lambda line: _severity(line) != wanted,
        ">": lambda line: _severity(line) > wanted,
        ">=": lambda line: _severity(line) >= wanted,
        "<": lambda line: _severity(line) < wanted,
        "<=": lambda line: _severity(line) <= wanted,
    }
    if comparison.operator not in tests:
        raise filters.FilterError(f"severity cannot be compared with {comparison.operator}")
    return tests[comparison.operator]


def _severity(line: Line) -> int:
    return _SEVERITIES.get(line.payload()[0], _SEVERITIES["DEFAULT"])


def _entry(line: Line, place: Location | None) -> LogEntry:
    severity, payload = line.payload()
    try:
        struct = ParseDict(payload, Struct())
    except (ParseError, OverflowError):  # valid JSON, but more than a Struct can hold
        struct = ParseDict({"levelname": severity, "message": line.text}, Struct())
    project = place.project if place else "-"
    labels = {"job_id": line.job_id, "task_name": line.task, "project_id": project}
    return LogEntry(
        log_name=f"projects/{project}/logs/{line.task}",
        resource={"type": _RESOURCE_TYPE, "labels": labels},
        timestamp=line.time,
        severity=_SEVERITIES.get(severity, _SEVERITIES["DEFAULT"]),
        insert_id=f"{line.job_id}-{line.task}-{line.number:012}",
        json_payload=struct,
    )
