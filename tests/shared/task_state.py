# SPDX-License-Identifier: Apache-2.0
"""A task state store in memory."""

from __future__ import annotations

from typing import Any


class Store(dict[str, Any]):
    """What a task keeps, by key."""

    def set(self, key: str, value: Any) -> None:
        """Keep a value."""
        self[key] = value
