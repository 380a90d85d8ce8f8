# SPDX-License-Identifier: Apache-2.0
"""
Queue for a GPU machine over night, and hand on the model that comes out of it.

What happens: in the evening a job joins the queue of Flex Start. Vertex AI starts it when a machine with an L4 is
free, up to twelve hours later. Then one small document says which model is the newest.

Why: a GPU that is not to be had in the evening often is at night. The queue waits for it: no worker slot is taken,
nobody has to try again, and nothing of the job is preempted once it runs.

Needs: the connection ``google_cloud_default``, quota for *preemptible* L4 GPUs, and the bucket and the image that the
DAG file names; the image is built from ``trainer/``, which stands for code that uses a GPU.
"""

# [START flex_start_training]
from __future__ import annotations

import json
import logging
from datetime import timedelta

import pendulum
from airflow.sdk import CronTriggerTimetable, RetryAction, RetryRule, dag, task

from airflow_vertex_persistent.exceptions import MaxWaitExceededError
from airflow_vertex_persistent.operators.flex_start import FlexStartTrainingOperator
from airflow_vertex_persistent.retry import TrainingRetryPolicy

logger = logging.getLogger(__name__)

# Yours to edit.
BUCKET = "nightly-models"
IMAGE = "europe-west4-docker.pkg.dev/acme/training/digits:1"

LATEST = "digits/gpu/latest.json"


@dag(
    dag_id="flex_start_training",
    dag_display_name="Queue for a GPU",
    description="Train when a GPU becomes free during the night, and hand on the model.",
    schedule=CronTriggerTimetable("0 18 * * *", timezone=pendulum.timezone("Europe/Berlin")),
    catchup=False,
    # One place in the queue: a night that is late does not meet the next one.
    max_active_runs=1,
    tags=["vertex-ai", "flex-start"],
    doc_md=__doc__,
)
def flex_start_training() -> None:
    """Wire the tasks."""
    train = FlexStartTrainingOperator(
        task_id="train",
        region="europe-west4",
        machine_type="g2-standard-4",
        accelerator_type="NVIDIA_L4",
        accelerator_count=1,
        container_uri=IMAGE,
        args=["--data-date={{ dag_run.run_after | ds }}"],
        base_output_dir=f"gs://{BUCKET}/digits/gpu/{{{{ dag_run.run_after | ts_nodash }}}}",
        max_wait_duration=timedelta(hours=12),
        max_run_duration=timedelta(hours=6),
        deferrable=True,
        retries=2,
        # A retry after the whole night would wait for another one.
        retry_policy=TrainingRetryPolicy(
            first=[RetryRule(MaxWaitExceededError, RetryAction.FAIL, reason="the night is over")]
        ),
    )

    @task
    def hand_on(model_dir: str) -> str:
        """Name the newest model to those who use it."""
        # Imported when the task runs: the DAG processor reads this file every few seconds.
        from airflow.providers.google.cloud.hooks.gcs import GCSHook

        document = json.dumps({"model_dir": model_dir})
        GCSHook().upload(BUCKET, LATEST, data=document, mime_type="application/json")
        logger.info("%s is the newest model", model_dir)
        return model_dir

    hand_on(train.output["model_dir"])


flex_start_training()
# [END flex_start_training]
