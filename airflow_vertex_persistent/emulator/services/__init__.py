# SPDX-License-Identifier: Apache-2.0
"""The RPCs: protobuf in and out, status codes. One module per service."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from airflow_vertex_persistent.emulator.names import Location, parse_parent

if TYPE_CHECKING:
    from collections.abc import Mapping

EVERYWHERE = "vertex-emulator-everywhere"
"""Metadata key with which the emulator's own command line lists all projects and regions at once."""


@dataclass(frozen=True)
class Call:
    """
    What a handler may know of a call besides its request.

    :param metadata: the caller's gRPC metadata.
    :param seconds_left: until the caller's deadline, ``None`` when there is none.
    """

    metadata: Mapping[str, str]
    seconds_left: float | None = None

    @property
    def everywhere(self) -> bool:
        """Whether the caller may look at all projects and regions."""
        return EVERYWHERE in self.metadata

    def parent(self, text: str) -> Location:
        """Read the parent of a list call."""
        return parse_parent(text, everywhere=self.everywhere)
