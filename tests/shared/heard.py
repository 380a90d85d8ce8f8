# SPDX-License-Identifier: Apache-2.0
"""Keeps what a trigger logs, for tests of all kinds."""

from __future__ import annotations

import logging
from functools import cached_property
from typing import Any


class Lines(logging.Handler):
    """Keeps what is logged."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep one line."""
        self.lines.append(record.getMessage())


class Heard:
    """A trigger of which somebody keeps what it logs."""

    @cached_property
    def heard(self) -> Lines:
        """What it has logged."""
        return Lines()

    @cached_property
    def log(self) -> Any:
        """Its log."""
        log = logging.Logger("heard")  # noqa: LOG001 - nobody else hears it
        log.addHandler(self.heard)
        return log
