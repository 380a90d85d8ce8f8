# SPDX-License-Identifier: Apache-2.0
"""What a user writes, turned into a checked request: plain dictionaries, no calls."""

from __future__ import annotations
