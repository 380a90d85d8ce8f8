# SPDX-License-Identifier: Apache-2.0
"""
Train for several nights at once on the same warm machines; the last run deletes them.

What happens: each run trains for one night. The first creates the persistent resource, those that overlap
with it adopt it, and the last to end deletes it. A run that ends earlier leaves it and says who uses it.

Why: machines that are there already start a job in seconds, and nobody has to know which run will be the last.

Needs: the connection ``google_cloud_default``, and the bucket and the image that the DAG file names; the image is
built from ``trainer/``.
"""

# [START warm_pool_shared]
from __future__ import annotations

import logging
from datetime import timedelta
from typing import Any

import pendulum
from airflow.sdk import CronTriggerTimetable, Param, dag, task

from airflow_vertex_persistent.operators.custom_job import PersistentResourceCustomJobOperator
from airflow_vertex_persistent.operators.persistent_resource import (
    CreatePersistentResourceOperator,
    DeletePersistentResourceOperator,
)

logger = logging.getLogger(__name__)

# Yours to edit.
BUCKET = "nightly-models"
IMAGE = "europe-west4-docker.pkg.dev/acme/training/digits:1"
RUNS_AT_ONCE = 3

RESOURCE: dict[str, Any] = {"region": "europe-west4", "persistent_resource_id": "shared-digits"}
MACHINE: dict[str, Any] = {"machine_type": "n1-standard-4"}
DISK: dict[str, Any] = {"boot_disk_type": "pd-ssd", "boot_disk_size_gb": 100}


@dag(
    dag_id="warm_pool_shared",
    dag_display_name="Shared warm machines",
    description="Runs that overlap share one persistent resource; the last one out deletes it.",
    schedule=CronTriggerTimetable("0 2 * * *", timezone=pendulum.timezone("Europe/Berlin")),
    catchup=False,
    # A machine for each: a job that finds none free waits for one.
    max_active_runs=RUNS_AT_ONCE,
    default_args={"retries": 2, "retry_delay": timedelta(minutes=1), "deferrable": True, "poll_interval": 5},
    params={
        "data_date": Param(
            None,
            type=["null", "string"],
            format="date",
            title="Night",
            description="Whose data to learn from; empty for the night of the run.",
        ),
    },
    tags=["vertex-ai", "persistent-resource"],
    doc_md=__doc__,
)
def warm_pool_shared() -> None:
    """Wire the tasks."""
    create = CreatePersistentResourceOperator(
        task_id="create",
        **RESOURCE,
        resource_pools=[{"machine_spec": MACHINE, "replica_count": RUNS_AT_ONCE, "disk_spec": DISK}],
    )
    train = PersistentResourceCustomJobOperator(
        task_id="train",
        **RESOURCE,
        **MACHINE,
        **DISK,
        container_uri=IMAGE,
        args=["--data-date={{ params.data_date or (dag_run.run_after | ds) }}"],
        base_output_dir=f"gs://{BUCKET}/digits/shared/{{{{ run_id }}}}",
        max_run_duration=timedelta(hours=1),
    )
    delete = DeletePersistentResourceOperator(
        task_id="delete",
        **RESOURCE,
        # Machines that nobody deletes cost money all day.
        retries=5,
    )

    @task
    def announce(model_dir: str) -> None:
        """Say where the model is."""
        logger.info("The model of this run: %s", model_dir)

    # Nothing but a teardown comes after announce: if it did not run, the training has failed, and so has the run.
    announce(train.output["model_dir"])
    create >> train >> delete.as_teardown(setups=create, on_failure_fail_dagrun=True)


warm_pool_shared()
# [END warm_pool_shared]
