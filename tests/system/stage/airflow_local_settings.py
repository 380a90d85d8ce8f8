# SPDX-License-Identifier: Apache-2.0
"""
Airflow imports this in each of its processes, and its scheduler does so before it forks the workers.

What every task needs is imported there once: a task begins seconds earlier, and some dozens of them begin.

:var SQLITE: How processes connect to an SQLite database that many of them write to at once: patiently.
"""

from __future__ import annotations

import sys

SQLITE = {"timeout": 60}

if "scheduler" in sys.argv:
    from google.cloud import aiplatform_v1  # noqa: F401
