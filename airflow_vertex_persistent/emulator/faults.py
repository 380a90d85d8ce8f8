# SPDX-License-Identifier: Apache-2.0
"""
Faults that a test orders: which calls fail, wait or lose their reply, and how. Pure: a plan is asked, the
gate acts.

The faults of one method are a script. The first that is not used up decides on the next call: it lets ``skip``
calls pass, hits ``times`` calls, and then it is the next one's turn.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from .settings import QUOTA_LIMITS, STOCKOUT

if TYPE_CHECKING:
    from collections.abc import Iterable

_CREATE_JOB = ("CreateCustomJob", "CreateHyperparameterTuningJob")
_NEEDS_MACHINES = (*_CREATE_JOB, "CreatePersistentResource", "RebootPersistentResource")
_VERB = re.compile(r"([A-Z][a-z]+)([A-Z]\w*)")
_PERMISSIONS = {
    "RebootPersistentResource": "aiplatform.persistentResources.update",
    "ListLogEntries": "logging.logEntries.list",
}


class FaultKind(StrEnum):
    """What happens to a call."""

    UNAVAILABLE = "unavailable"
    """The call is refused with UNAVAILABLE."""
    DEADLINE_EXCEEDED = "deadline_exceeded"
    """The call is refused with DEADLINE_EXCEEDED."""
    INTERNAL = "internal"
    """The call is refused with INTERNAL."""
    RATE_LIMIT = "rate_limit"
    """The call is refused with RESOURCE_EXHAUSTED: too many in this minute."""
    QUOTA = "quota"
    """The call is refused with RESOURCE_EXHAUSTED: more than the project may have."""
    PERMISSION_DENIED = "permission_denied"
    """The call is refused with PERMISSION_DENIED."""
    SLOW_REQUEST = "slow_request"
    """The call waits before it is handled; it never happens when its caller has gone by then."""
    SLOW_REPLY = "slow_reply"
    """The call happens at once and its reply waits; it has happened whatever becomes of its caller."""
    LOST_REPLY = "lost_reply"
    """The call happens, but its caller gets UNAVAILABLE."""
    STOCKOUT = "stockout"
    """What is created or rebooted ends FAILED, or in ERROR, since there are no machines for it."""
    LATE_ERROR = "late_error"
    """The job that is created, if it fails, has its error filled some time after its state."""


TEXTS = {
    FaultKind.UNAVAILABLE: "The service is currently unavailable.",
    FaultKind.DEADLINE_EXCEEDED: "Deadline expired before operation could complete.",
    FaultKind.INTERNAL: "Internal error encountered.",
    FaultKind.RATE_LIMIT: (
        "Quota exceeded for quota metric 'Resource management (CRUD) requests' and limit 'Resource management "
        "(CRUD) requests per minute per region' of service 'aiplatform.googleapis.com'"
    ),
    FaultKind.QUOTA: QUOTA_LIMITS.format(
        metrics="aiplatform.googleapis.com/custom_model_training_nvidia_t4_gpus"
    ),
    FaultKind.PERMISSION_DENIED: (
        "Permission '{permission}' denied on resource '//{service}.googleapis.com/{resource}' "
        "(or it may not exist)."
    ),
    FaultKind.LOST_REPLY: "Connection reset by peer",
    FaultKind.STOCKOUT: STOCKOUT,
}
"""What a kind says when nobody gives another text; the kinds that are not here say nothing."""

_ONLY_FOR = {
    FaultKind.STOCKOUT: _NEEDS_MACHINES,
    FaultKind.LATE_ERROR: _CREATE_JOB,
}
_WITH_SECONDS = {FaultKind.SLOW_REQUEST, FaultKind.SLOW_REPLY, FaultKind.LATE_ERROR}


@dataclass
class Fault:
    """
    One line of a method's script.

    :param method: short name of the RPC, e.g. ``CreateCustomJob``.
    :param kind: what happens.
    :param times: calls that it hits.
    :param skip: calls that it lets pass before the first hit.
    :param seconds: how long a call, a reply or an error waits; 0 for kinds that do not wait.
    :param text: what the caller, or the reader of the job's error, is told; empty for kinds that say nothing.
        In a refusal, ``{resource}`` is the name of what the call is about, in a stockout ``{region}`` where.
    :param passed: calls that it has let pass.
    :param used: calls that it has hit.
    """

    method: str
    kind: FaultKind
    times: int = 1
    skip: int = 0
    seconds: float = 0.0
    text: str = ""
    passed: int = 0
    used: int = 0


class FaultPlan:
    """
    All faults that were ordered, in order.

    :param methods: short names of the RPCs that can have faults.
    """

    def __init__(self, methods: Iterable[str]) -> None:
        self.methods = sorted(methods)
        self.faults: list[Fault] = []

    def add(
        self,
        method: str,
        kind: str,
        *,
        times: int = 1,
        skip: int = 0,
        seconds: float | None = None,
        text: str | None = None,
    ) -> Fault:
        """
        Order a fault; see :class:`Fault`.

        :raises ValueError: for an unknown method or kind, and for numbers and texts that make no sense with it.
        """
        if method not in self.methods:
            raise ValueError(f"method {method!r} is not one of {', '.join(self.methods)}")
        if kind not in set(FaultKind):
            raise ValueError(f"kind {kind!r} is not one of {', '.join(FaultKind)}")
        known = FaultKind(kind)
        if method not in _ONLY_FOR.get(known, (method,)):
            raise ValueError(f"{kind} is no fault of {method}, only of {', '.join(_ONLY_FOR[known])}")
        if times < 1 or skip < 0:
            raise ValueError(f"times={times}, skip={skip}: use 1 or more times and skip 0 or more calls")
        if (seconds is None) == (known in _WITH_SECONDS):
            raise ValueError(f"{kind} {'needs' if seconds is None else 'has no'} seconds")
        if seconds is not None and not 0 < seconds < math.inf:
            raise ValueError(f"seconds={seconds}: use more than 0")
        if text is not None and known not in TEXTS:
            raise ValueError(f"{kind} has no text")
        said = _default_text(known, method) if text is None else text
        fault = Fault(method, known, times, skip, seconds or 0.0, said)
        self.faults.append(fault)
        return fault

    def next(self, method: str) -> Fault | None:
        """Take the fault of a call that has come in, ``None`` when it is to go well."""
        fault = next((one for one in self.faults if one.method == method and one.used < one.times), None)
        if fault is None:
            return None
        if fault.passed < fault.skip:
            fault.passed += 1
            return None
        fault.used += 1
        return fault

    def clear(self) -> None:
        """Forget all faults; what they have done already stays."""
        self.faults.clear()


def _default_text(kind: FaultKind, method: str) -> str:
    text = TEXTS.get(kind, "")
    if kind is not FaultKind.PERMISSION_DENIED:
        return text
    permission = _permission(method)
    service = permission.partition(".")[0]
    return text.format(permission=permission, service=service, resource="{resource}")


def _permission(method: str) -> str:
    """Name the permission that a method needs: its own verb, except where the service has another."""
    words = _VERB.fullmatch(method)
    if method in _PERMISSIONS or words is None:
        return _PERMISSIONS.get(method, f"aiplatform.{method}")
    verb, noun = words.groups()
    return f"aiplatform.{noun[0].lower()}{noun[1:].removesuffix('s')}s.{verb.lower()}"
