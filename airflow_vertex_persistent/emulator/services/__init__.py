# SPDX-License-Identifier: Apache-2.0
"""The RPCs: protobuf in and out, status codes. One module per service."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from airflow_vertex_persistent.emulator.faults import FaultKind
from airflow_vertex_persistent.emulator.names import Location, parse_parent

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow_vertex_persistent.emulator.faults import Fault

EVERYWHERE_KEY = "vertex-emulator-everywhere"
"""Metadata key with which the emulator's own command line lists all projects and regions at once."""


@dataclass(frozen=True)
class Call:
    """
    What a handler may know of a call besides its request.

    :param metadata: the caller's gRPC metadata.
    :param seconds_left: until the caller's deadline, ``None`` when there is none.
    :param fault: what was ordered for this call, when that is for its handler.
    """

    metadata: Mapping[str, str]
    seconds_left: float | None = None
    fault: Fault | None = None

    @property
    def everywhere(self) -> bool:
        """Whether the caller may look at all projects and regions."""
        return EVERYWHERE_KEY in self.metadata

    @property
    def stockout(self) -> str:
        """Why there are no machines for what this call creates, empty when there are."""
        return self.fault.text if self.fault and self.fault.kind is FaultKind.STOCKOUT else ""

    @property
    def error_delay(self) -> float | None:
        """Seconds between state and error of a job that this call creates, ``None`` for the usual ones."""
        return self.fault.seconds if self.fault and self.fault.kind is FaultKind.LATE_ERROR else None

    def parent(self, text: str) -> Location:
        """Read the parent of a list call."""
        return parse_parent(text, everywhere=self.everywhere)
