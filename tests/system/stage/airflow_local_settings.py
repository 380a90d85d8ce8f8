# SPDX-License-Identifier: Apache-2.0
"""
Airflow imports this in each of its processes, and its scheduler does so before it forks the workers.

What every task needs is imported there once: a task begins seconds earlier, and some dozens of them begin.

:var SQLITE: How processes connect to an SQLite database that many of them write to at once: patiently. But the API
    server blocks itself, and with it everybody else, for as long as it is patient: it notes an action in its event
    loop, which waits there for the end of a task's transaction that waits for the event loop. Two seconds are more
    than others have the file for, and what is refused then is asked again.
"""

from __future__ import annotations

import sys

SQLITE = {"timeout": 2 if "api-server" in sys.argv else 60}

if "scheduler" in sys.argv:
    from google.cloud import aiplatform_v1  # noqa: F401
