# SPDX-License-Identifier: Apache-2.0
"""What waits in the triggerer."""

from __future__ import annotations
