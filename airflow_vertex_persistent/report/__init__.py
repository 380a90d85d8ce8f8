# SPDX-License-Identifier: Apache-2.0
"""Shows the trials of a tuning job: a table and a line for the task's log, and a page with charts."""

from __future__ import annotations

from airflow_vertex_persistent.report.page import report_html
from airflow_vertex_persistent.report.table import progress_line, trial_table

__all__ = ["progress_line", "report_html", "trial_table"]
