# SPDX-License-Identifier: Apache-2.0
"""
Train on warm machines if they are free, and on demand if others have them.

What happens: the job goes to the persistent resource. If its machines are taken, or another job is quicker, the same
job runs on machines of the same kind that are provisioned for it alone.

Why: a model that is due in the morning should neither wait for another team's night, nor keep machines of its own
warm for that. On demand it starts some minutes later and costs extra, so the last task says which it was.

Needs: the connection ``google_cloud_default``, a persistent resource that is up and has one kind of machine, as
``persistent_resource_rotation.py`` keeps it, and the bucket and the image that the DAG file names; the image is built
from ``trainer/``.
"""

# [START busy_fallback]
from __future__ import annotations

import logging
from datetime import timedelta

from airflow.sdk import dag, task

from airflow_vertex_persistent.operators.custom_job import PersistentResourceCustomJobOperator
from airflow_vertex_persistent.retry import TrainingRetryPolicy

logger = logging.getLogger(__name__)

# Yours to edit.
BUCKET = "nightly-models"
IMAGE = "europe-west4-docker.pkg.dev/acme/training/digits:1"


@dag(
    dag_id="busy_fallback",
    dag_display_name="On demand if busy",
    description="Train on warm machines if they are free, else on demand.",
    schedule=None,
    catchup=False,
    tags=["vertex-ai", "persistent-resource"],
    doc_md=__doc__,
)
def busy_fallback() -> None:
    """Wire the tasks."""
    train = PersistentResourceCustomJobOperator(
        task_id="train",
        region="europe-west4",
        persistent_resource_id="always-warm",
        # Machine and disk are those of the resource's only pool, on demand too.
        container_uri=IMAGE,
        args=["--data-date={{ dag_run.run_after | ds }}", "--max-iter=40"],
        base_output_dir=f"gs://{BUCKET}/digits/urgent/{{{{ dag_run.run_after | ts_nodash }}}}",
        when_busy="on_demand",
        # A job that finds the machines free and loses them to another may wait so long for them.
        max_wait_duration=timedelta(minutes=3),
        deferrable=True,
        poll_interval=5,
        retries=3,
        retry_policy=TrainingRetryPolicy(),
    )

    @task
    def say_where(fallback: str | None, queued_seconds: float) -> str:
        """Tell where the model was trained."""
        where = "on demand" if fallback else "on warm machines"
        logger.info("Trained %s; its job waited for machines for %.0f seconds", where, queued_seconds)
        return where

    say_where(train.output["fallback"], train.output["queued_seconds"])


busy_fallback()
# [END busy_fallback]
