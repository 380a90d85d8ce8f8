# SPDX-License-Identifier: Apache-2.0
"""Train models on Vertex AI from Apache Airflow, on persistent resources, with a local emulator."""

from __future__ import annotations

__version__ = "0.1.0"
