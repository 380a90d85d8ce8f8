# SPDX-License-Identifier: Apache-2.0
"""Long-running operations, and the google.longrunning.Operations service over them."""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING, Any

from google.cloud.aiplatform_v1.types import GenericOperationMetadata
from google.longrunning.operations_pb2 import (
    CancelOperationRequest,
    DeleteOperationRequest,
    GetOperationRequest,
    ListOperationsRequest,
    ListOperationsResponse,
    Operation,
    WaitOperationRequest,
)
from google.protobuf.empty_pb2 import Empty
from google.rpc import code_pb2
from google.rpc.status_pb2 import Status

from airflow_vertex_persistent.emulator.errors import invalid, not_found, refused, unimplemented
from airflow_vertex_persistent.emulator.names import Key, Location, parse_parent
from airflow_vertex_persistent.emulator.paging import page

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    import proto
    from google.protobuf.message import Message

    from airflow_vertex_persistent.emulator.table import Table

    from . import Call

_NAME = re.compile(r"(projects/[^/]+/locations/[^/]+)/(?:(?P<parent>[^/]+/[^/]+)/)?operations/([0-9]+)")
_LONGEST_WAIT = 300.0
_REPLY_MARGIN = 0.5  # answer WaitOperation before the caller's own deadline


class Operations:
    """
    Starts, finishes and answers operations.

    :param table: where they are kept.
    :param clock: says what time it is.
    """

    def __init__(self, table: Table[Operation], clock: Callable[[], datetime]) -> None:
        self._table = table
        self._clock = clock
        self._count = 0
        self._done: dict[Key, asyncio.Event] = {}
        for key, operation in table.newest_first():
            self._done[key] = asyncio.Event()
            if operation.done:
                self._done[key].set()

    def start(
        self, location: Location, metadata: type[proto.Message], *, under: str = "", progress: str = ""
    ) -> Operation:
        """
        Start an operation.

        :param metadata: type of its metadata, which has a ``generic_metadata``.
        :param under: ``COLLECTION/ID`` of the resource that it works on, empty for the short name.
        :param progress: progress message, for metadata types that have one.
        """
        self._count += 1
        key = Key(location, str(self._clock().strftime("%Y%m%d%H%M%S%f")) + f"{self._count:03}"[-3:])
        path = f"{location.path}/{under}" if under else location.path
        operation = Operation(name=f"{path}/operations/{key.id}")
        now = self._clock()
        fields: dict[str, Any] = {
            "generic_metadata": GenericOperationMetadata(create_time=now, update_time=now)
        }
        if progress:
            fields["progress_message"] = progress
        operation.metadata.Pack(metadata.pb(metadata(**fields)))
        self._table.put(key, operation)
        self._done[key] = asyncio.Event()
        return operation

    def unfinished(self, location: Location, under: str) -> Operation | None:
        """Find the operation that works on a resource, named as in :meth:`start`."""
        prefix = f"{location.path}/{under}/operations/"
        rows = self._table.newest_first(location)
        return next((one for _, one in rows if not one.done and one.name.startswith(prefix)), None)

    def finish(
        self,
        operation: Operation,
        result: Message | Status,
        metadata: type[proto.Message] | None = None,
        progress: str = "",
    ) -> Operation:
        """
        End an operation with a response, or with an error when ``result`` is a Status.

        :param metadata: type of the metadata that gets the last progress message.
        """
        key, _ = self._parse(operation.name)
        kept = self._table.get(key)
        if kept is None or kept.done:
            return operation  # deleted or cancelled by the caller
        finished = Operation()
        finished.CopyFrom(kept)
        finished.done = True
        if isinstance(result, Status):
            finished.error.CopyFrom(result)
        else:
            finished.response.Pack(result)
        if metadata is not None:
            details = metadata.pb(metadata())
            finished.metadata.Unpack(details)
            details.generic_metadata.update_time.FromDatetime(self._clock())
            details.progress_message = progress
            finished.metadata.Pack(details)
        self._table.put(key, finished)
        self._done[key].set()
        return finished

    @staticmethod
    def _parse(name: str) -> tuple[Key, str]:
        match = _NAME.fullmatch(name)
        if match is None:
            raise invalid(f"Invalid operation name: {name!r}.")
        return Key(parse_parent(match[1]), match[3]), match["parent"] or ""

    def _find(self, name: str) -> tuple[Key, Operation]:
        """Find an operation by its long or its short name."""
        key, parent = self._parse(name)
        operation = self._table.get(key)
        if operation is None or (parent and f"/{parent}/" not in operation.name):
            raise not_found(f"The operation {name!r} does not exist.")
        return key, operation

    async def get(self, request: GetOperationRequest, _: Call) -> Operation:
        """Get one operation."""
        return self._find(request.name)[1]

    async def wait(self, request: WaitOperationRequest, call: Call) -> Operation:
        """Get one operation as soon as it is done, or when the time is over."""
        key, operation = self._find(request.name)
        limits = [_LONGEST_WAIT]
        if request.HasField("timeout"):
            limits.append(max(0.0, request.timeout.seconds + request.timeout.nanos / 1e9))
        if call.seconds_left is not None:
            limits.append(max(0.0, call.seconds_left - _REPLY_MARGIN))
        waiting = asyncio.create_task(self._done[key].wait())
        await asyncio.wait({waiting}, timeout=min(limits))
        waiting.cancel()
        return self._table.get(key) or operation

    async def list(self, request: ListOperationsRequest, _: Call) -> ListOperationsResponse:
        """List the operations of a location, or of one resource in it."""
        head, _slash, tail = request.name.removesuffix("/operations").partition("/locations/")
        region, _slash, under = tail.partition("/")
        location = parse_parent(f"{head}/locations/{region}")
        if request.filter:
            raise unimplemented("ListOperations has no filters in the emulator.")
        rows = [
            row
            for row in self._table.newest_first(location)
            if not under or row[1].name.startswith(f"{location.path}/{under}/operations/")
        ]
        chosen, token = page(
            rows,
            lambda row: int(row[0].id),
            descending=True,
            size=request.page_size,
            token=request.page_token,
            question=f"{location} {under}",
        )
        return ListOperationsResponse(operations=[row[1] for row in chosen], next_page_token=token)

    async def cancel(self, request: CancelOperationRequest, _: Call) -> Empty:
        """End an operation as cancelled. What it started goes on: cancelling is best effort."""
        operation = self._find(request.name)[1]
        self.finish(operation, Status(code=code_pb2.CANCELLED, message="The operation was cancelled."))
        return Empty()

    async def delete(self, request: DeleteOperationRequest, _: Call) -> Empty:
        """Forget a finished operation."""
        key, operation = self._find(request.name)
        if not operation.done:
            raise refused(f"The operation {request.name!r} is not done.")
        self._table.remove(key)
        return Empty()
