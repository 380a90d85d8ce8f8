# SPDX-License-Identifier: Apache-2.0
"""What a tuning task writes beside the folders of its trials: all of them as lines of JSON, and a picture."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_vertex_persistent.call_problems import call_problem
from airflow_vertex_persistent.trials import json_lines

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow.sdk.types import Logger

    from airflow_vertex_persistent.hooks.storage import StorageHook
    from airflow_vertex_persistent.states import JobSnapshot
    from airflow_vertex_persistent.trials import TuningSnapshot

_CONTENT_TYPES = {"trials.jsonl": "application/jsonl", "report.html": "text/html"}


def write_trials(hook: StorageHook, job: JobSnapshot, search: TuningSnapshot, log: Logger) -> str | None:
    """Write all trials as lines of JSON, and return where; ``None`` if that failed, which the log says."""
    return _write(hook, job, "trials.jsonl", lambda: json_lines(search["trials"]), log)


def write_report(hook: StorageHook, job: JobSnapshot, search: TuningSnapshot, log: Logger) -> str | None:
    """Write a picture of the search, and return where; ``None`` if that failed, which the log says."""

    def picture() -> str:
        # Imported here: a DAG file should not pay for it.
        from airflow_vertex_persistent.report.page import report_html

        return report_html(search["display_name"], search["trials"], search["goals"])

    return _write(hook, job, "report.html", picture, log)


def _write(
    hook: StorageHook, job: JobSnapshot, name: str, content: Callable[[], str], log: Logger
) -> str | None:
    uri = f"{str(job['output_dir']).rstrip('/')}/{name}"
    try:
        hook.write(uri, content(), _CONTENT_TYPES[name])
    except Exception as error:
        ours = call_problem(error) is None
        log.warning(
            "%s could not be written, which takes nothing from the result: %s", uri, error, exc_info=ours
        )
        return None
    log.info("Wrote %s", uri)
    return uri
