# SPDX-License-Identifier: Apache-2.0
"""What every call of the emulated services goes through: it is counted, it may be too many, it may have a fault."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import grpc

from .errors import ApiError
from .faults import TEXTS, FaultKind

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from .calls import CallRecord, SubmissionLimit
    from .faults import FaultPlan
    from .services import Call

_REFUSALS = {
    FaultKind.UNAVAILABLE: grpc.StatusCode.UNAVAILABLE,
    FaultKind.DEADLINE_EXCEEDED: grpc.StatusCode.DEADLINE_EXCEEDED,
    FaultKind.INTERNAL: grpc.StatusCode.INTERNAL,
    FaultKind.RATE_LIMIT: grpc.StatusCode.RESOURCE_EXHAUSTED,
    FaultKind.QUOTA: grpc.StatusCode.RESOURCE_EXHAUSTED,
    FaultKind.PERMISSION_DENIED: grpc.StatusCode.PERMISSION_DENIED,
}
_SUBMISSIONS = {
    "CreateCustomJob",
    "DeleteCustomJob",
    "CreateHyperparameterTuningJob",
    "DeleteHyperparameterTuningJob",
}


@dataclass(frozen=True)
class Gate:
    """
    Lets calls through, or not.

    :param faults: what was ordered.
    :param calls: gets every call.
    :param submissions: limits creating and deleting jobs.
    """

    faults: FaultPlan
    calls: CallRecord
    submissions: SubmissionLimit

    async def through(
        self,
        method: str,
        call: Call,
        work: Callable[[Call], Awaitable[bytes]],
        resource: Callable[[], str] = str,
    ) -> bytes:
        """
        Do the work of a call, with its fault.

        gRPC cancels what waits here when the caller has gone. During a slow request nothing has happened then,
        and nothing will; during a slow reply everything has.

        :param method: short name of the RPC.
        :param work: handles the call.
        :param resource: says which resource the call is about.
        :raises ApiError: as the fault, the limit or the work has it.
        """
        self.calls.add(method, call.seconds_left)
        fault = self.faults.next(method)
        if fault is None:
            return await self._carry_out(method, call, work)
        if code := _REFUSALS.get(fault.kind):
            raise ApiError(code, fault.text.replace("{resource}", resource()))
        if fault.kind is FaultKind.SLOW_REQUEST:
            await asyncio.sleep(fault.seconds)
        if fault.kind is FaultKind.LOST_REPLY:
            with suppress(ApiError):  # a refusal is lost on the way as well
                await self._carry_out(method, call, work)
            raise ApiError(grpc.StatusCode.UNAVAILABLE, fault.text)
        pause = fault.seconds if fault.kind is FaultKind.SLOW_REPLY else 0.0
        try:
            reply = await self._carry_out(method, replace(call, fault=fault), work)
        except ApiError:
            await asyncio.sleep(pause)
            raise
        await asyncio.sleep(pause)
        return reply

    async def _carry_out(self, method: str, call: Call, work: Callable[[Call], Awaitable[bytes]]) -> bytes:
        if method in _SUBMISSIONS and not self.submissions.accepts():
            raise ApiError(grpc.StatusCode.RESOURCE_EXHAUSTED, TEXTS[FaultKind.RATE_LIMIT])
        return await work(call)
