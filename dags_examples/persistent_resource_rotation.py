# SPDX-License-Identifier: Apache-2.0
"""
Keep warm machines that are always up from growing old.

What happens: once a week a look at the persistent resource that many DAGs train on. One that is older than
three weeks, is in ERROR, or differs from what this file says is deleted and created anew, once no job runs on
it.

Why: a persistent resource gets no updates while it is up, and Google advises to create it anew at least every
30 days. Three weeks and a week until the next look make 28 days.

Needs: the connection ``google_cloud_default``. The resource is billed around the clock: this is for machines
that jobs use all day. A DAG that trains once a night deletes its machines after that, see
``nightly_retraining.py``.
"""

# [START persistent_resource_rotation]
from __future__ import annotations

from datetime import timedelta

import pendulum
from airflow.sdk import CronTriggerTimetable, Param, dag

from airflow_vertex_persistent.operators.persistent_resource import CreatePersistentResourceOperator


@dag(
    dag_id="persistent_resource_rotation",
    dag_display_name="Persistent resource rotation",
    description="Replace the shared warm machines before they are 30 days old.",
    # A quiet hour: jobs that keep coming would put it off until max_wait_duration has passed.
    schedule=CronTriggerTimetable("0 4 * * 0", timezone=pendulum.timezone("Europe/Berlin")),
    catchup=False,
    max_active_runs=1,
    params={
        "max_age_days": Param(
            21,
            type="number",
            title="Oldest age in days",
            description="Replace what is older.",
            exclusiveMinimum=0,
        ),
    },
    tags=["vertex-ai", "persistent-resource", "housekeeping"],
    doc_md=__doc__,
)
def persistent_resource_rotation() -> None:
    """Create the resource, or replace it."""
    CreatePersistentResourceOperator(
        task_id="rotate",
        region="europe-west4",
        persistent_resource_id="always-warm",
        resource_pools=[
            {
                "machine_spec": {"machine_type": "n1-standard-4"},
                # Counts cannot be changed while it is up: an autoscaled pool needs no rotation to grow.
                "autoscaling_spec": {"min_replica_count": 1, "max_replica_count": 4},
                "disk_spec": {"boot_disk_type": "pd-ssd", "boot_disk_size_gb": 100},
            }
        ],
        max_age="{{ params.max_age_days * 86400 }}",
        when_in_use="wait",
        max_wait_duration=timedelta(hours=6),
        retries=2,
        deferrable=True,
    )


persistent_resource_rotation()
# [END persistent_resource_rotation]
