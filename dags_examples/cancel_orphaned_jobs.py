# SPDX-License-Identifier: Apache-2.0
"""
Find training jobs whose task has ended without anybody being there to cancel them, and cancel them.

What happens: once an hour, in each region, the active jobs of this Airflow installation are compared with Airflow's
task instances.

Why: a task that is stopped cancels its job, but not if its own process is gone at that moment: a worker that was
killed in the last attempt, a task that was marked as failed while no triggerer ran. Such a job bills until
somebody sees it.

Needs: the connection ``google_cloud_default``. It begins as a dry run: look at what a few runs report, then
change the default of ``only_report``.
"""

# [START cancel_orphaned_jobs]
from __future__ import annotations

from datetime import timedelta

from airflow.sdk import Param, dag

from airflow_vertex_persistent.operators.orphaned_jobs import CancelOrphanedJobsOperator

# Yours to edit.
REGIONS = ["europe-west4"]


@dag(
    dag_id="cancel_orphaned_jobs",
    dag_display_name="Cancel orphaned jobs",
    description="Cancel training jobs whose task has ended.",
    schedule=timedelta(hours=1),
    catchup=False,
    max_active_runs=1,
    params={
        "only_report": Param(True, type="boolean", title="Only report", description="Cancel nothing."),
    },
    tags=["vertex-ai", "housekeeping"],
)
def cancel_orphaned_jobs() -> None:
    """Sweep each region."""
    CancelOrphanedJobsOperator.partial(
        task_id="cancel",
        only_report="{{ params.only_report }}",
    ).expand(region=REGIONS)


cancel_orphaned_jobs()
# [END cancel_orphaned_jobs]
