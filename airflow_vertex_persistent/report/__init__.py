# SPDX-License-Identifier: Apache-2.0
"""Shows the trials of a tuning job: a table and a line for the task's log, and a page with charts."""

from __future__ import annotations
