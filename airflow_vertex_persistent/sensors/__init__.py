# SPDX-License-Identifier: Apache-2.0
"""What tasks wait for."""

from __future__ import annotations
