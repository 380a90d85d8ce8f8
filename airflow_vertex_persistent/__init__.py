# SPDX-License-Identifier: Apache-2.0
"""Train models on Vertex AI from Apache Airflow: persistent resources, Flex Start, hyperparameter tuning."""

from __future__ import annotations

__version__ = "0.1.0"
