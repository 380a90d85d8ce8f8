# SPDX-License-Identifier: Apache-2.0
"""
Retrain a model every night on warm machines, and promote it only if it is no worse than yesterday's.

What happens: a persistent resource is created, two jobs run on it one after the other (training, then an
evaluation against yesterday's model), the resource is deleted, also when a job has failed, and the better model
becomes or stays the champion.

Why a persistent resource: the second job starts in seconds, because machine and image are already there.
And why delete it: its machines cost money as long as they exist, whether jobs run or not.

Needs: the connection ``google_cloud_default``, and the bucket and the image that the DAG file names; the image is
built from ``trainer/``. On the local emulator it runs as it is.
"""

# [START nightly_retraining]
from __future__ import annotations

import json
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

# One small document says which model is in use, so that a promotion is one write: all or nothing.
CHAMPION = "digits/champion.json"
RUN_FOLDER = f"gs://{BUCKET}/digits/runs/{{{{ dag_run.run_after | ts_nodash }}}}"
DATA_DATE = "{{ params.data_date or (dag_run.run_after | ds) }}"
RESOURCE: dict[str, Any] = {"region": "{{ params.region }}", "persistent_resource_id": "nightly-digits"}
# Jobs on a persistent resource must ask for exactly the machine and disk of its pool.
DISK = {"boot_disk_type": "pd-ssd", "boot_disk_size_gb": 100}
MACHINE: dict[str, Any] = {"machine_type": "{{ params.machine_type }}", **DISK}


@dag(
    dag_id="nightly_retraining",
    dag_display_name="Nightly retraining",
    description="Train on warm machines every night and promote what is no worse than yesterday's model.",
    schedule=CronTriggerTimetable(
        "0 2 * * *",
        timezone=pendulum.timezone("Europe/Berlin"),
        # Whoever switches the DAG on sees last night's run at once instead of waiting for the next.
        run_immediately=True,
    ),
    catchup=False,
    # Each night competes with the champion of the night before.
    max_active_runs=1,
    default_args={
        "retries": 2,
        "retry_delay": timedelta(minutes=1),
        "deferrable": True,
        # A job on warm machines starts in seconds; the default of 30 s would cost more than the start.
        "poll_interval": 5,
    },
    params={
        "region": Param(
            "europe-west4",
            type="string",
            title="Region",
            description="Where the machines are created.",
            enum=["europe-west1", "europe-west4", "us-central1"],
        ),
        "machine_type": Param(
            "n1-standard-4",
            type="string",
            title="Machine type",
            description="What both jobs run on.",
            enum=["n1-standard-4", "n1-standard-8", "n1-highmem-8"],
        ),
        "learning_rate": Param(
            0.005,
            type="number",
            title="Learning rate",
            description="Step size of the training.",
            exclusiveMinimum=0,
            maximum=1,
        ),
        "max_iter": Param(
            40,
            type="integer",
            title="Epochs",
            description="How often the training sees every image.",
            minimum=1,
            maximum=500,
        ),
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
def nightly_retraining() -> None:
    """Wire the tasks."""
    create = CreatePersistentResourceOperator(
        task_id="create_resource",
        **RESOURCE,
        resource_pools=[
            {
                "machine_spec": {"machine_type": "{{ params.machine_type }}"},
                "replica_count": 1,
                "disk_spec": DISK,
            }
        ],
    )

    train = PersistentResourceCustomJobOperator(
        task_id="train",
        **RESOURCE,
        **MACHINE,
        container_uri=IMAGE,
        args=[
            f"--data-date={DATA_DATE}",
            "--learning-rate={{ params.learning_rate }}",
            "--max-iter={{ params.max_iter }}",
        ],
        base_output_dir=RUN_FOLDER,
        max_run_duration=timedelta(hours=1),
    )

    evaluate = PersistentResourceCustomJobOperator(
        task_id="evaluate",
        **RESOURCE,
        **MACHINE,
        container_uri=IMAGE,
        command=["python", "evaluate.py"],
        args=[
            f"--data-date={DATA_DATE}",
            "--candidate",
            train.output["model_dir"],
            f"--champion=gs://{BUCKET}/{CHAMPION}",
            f"--output={RUN_FOLDER}/evaluation.json",
        ],
        max_run_duration=timedelta(minutes=15),
    )

    @task
    def promote_or_keep(evaluation_uri: str) -> dict[str, Any]:
        """Make tonight's model the champion, or leave yesterday's in place."""
        # Imported when the task runs: the DAG processor reads this file every few seconds.
        from airflow.providers.google.cloud.hooks.gcs import GCSHook, parse_json_from_gcs

        evaluation = parse_json_from_gcs("google_cloud_default", evaluation_uri)
        chosen = evaluation["candidate" if evaluation["promote"] else "champion"]
        if evaluation["promote"]:
            GCSHook().upload(BUCKET, CHAMPION, data=json.dumps(chosen), mime_type="application/json")
        decision = "promoted" if evaluation["promote"] else "kept"
        logger.info("%s %s (%s)", decision, chosen["model_dir"], evaluation["reason"])
        return {"decision": decision, "reason": evaluation["reason"], "champion": chosen}

    delete = DeletePersistentResourceOperator(
        task_id="delete_resource",
        **RESOURCE,
        # Machines that nobody deletes cost money all day.
        retries=5,
    )

    create >> train >> evaluate >> promote_or_keep(f"{RUN_FOLDER}/evaluation.json")
    # A teardown runs when its setup has, whatever became of the tasks in between. Nothing but a teardown comes after
    # promote_or_keep: if it did not run, the night has failed, and so has the run.
    evaluate >> delete.as_teardown(setups=create, on_failure_fail_dagrun=True)


nightly_retraining()
# [END nightly_retraining]
