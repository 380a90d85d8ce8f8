# SPDX-License-Identifier: Apache-2.0
"""How ``vertex-emulator`` asks the running emulator through the calls that every client of Google Cloud has."""

from __future__ import annotations

from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING

import grpc
from google.api_core.exceptions import DeadlineExceeded, GoogleAPICallError, ServiceUnavailable

from .control import unreachable
from .services import EVERYWHERE_KEY

if TYPE_CHECKING:
    from collections.abc import Iterator

CALL_SECONDS = 10.0
OF_ALL_PROJECTS = ((EVERYWHERE_KEY, "1"),)
"""Metadata of a list call that is for all projects and regions."""


@contextmanager
def emulator_channel(host: str) -> Iterator[grpc.Channel]:
    """
    Open a channel to the emulator.

    :raises OSError: when no emulator answers, or it refuses a call.
    """
    with grpc.insecure_channel(host) as channel:
        try:
            yield channel
        except (ServiceUnavailable, DeadlineExceeded) as error:
            raise unreachable(host) from error
        except GoogleAPICallError as error:
            raise OSError(f"the emulator at {host} answers: {error.message}") from error


def moment(value: object) -> datetime | None:
    """Return a time of an answer, ``None`` if it is not set."""
    return value if isinstance(value, datetime) else None
