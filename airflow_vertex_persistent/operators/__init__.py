# SPDX-License-Identifier: Apache-2.0
"""What a DAG file names."""

from __future__ import annotations
