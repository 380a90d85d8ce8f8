# SPDX-License-Identifier: Apache-2.0
"""A local Vertex AI training service that the real Google clients talk to and that really runs the code."""

from __future__ import annotations

from .control import EmulatorControl
from .local import VertexEmulator
from .settings import EmulatorSettings

__all__ = ["EmulatorControl", "EmulatorSettings", "VertexEmulator"]
