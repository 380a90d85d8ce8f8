# SPDX-License-Identifier: Apache-2.0
"""The clients of Vertex AI: one method per call."""

from __future__ import annotations
