# SPDX-License-Identifier: Apache-2.0
"""
Train on Spot machines, which are cheap and may be taken away at any time.

What happens: the training code writes a checkpoint every few epochs, and begins with the newest one that it finds.
When its machine is preempted, Vertex AI runs the job again, up to six times; after that a retry of the task creates
another job. All of them have the same folder, so each goes on where the one before was.

Why: Spot is worth its price only if a preemption costs minutes and not the whole night.

Needs: the connection ``google_cloud_default``, quota for *preemptible* L4 GPUs, and the bucket and the image that the
DAG file names; the image is built from ``trainer/``, which stands for code that uses a GPU.
"""

# [START spot_with_checkpoints]
from __future__ import annotations

import logging

from airflow.sdk import dag, task

from airflow_vertex_persistent.operators.flex_start import FlexStartTrainingOperator
from airflow_vertex_persistent.retry import TrainingRetryPolicy

logger = logging.getLogger(__name__)

# Yours to edit.
BUCKET = "nightly-models"
IMAGE = "europe-west4-docker.pkg.dev/acme/training/digits:1"


@dag(
    dag_id="spot_with_checkpoints",
    dag_display_name="Spot with checkpoints",
    description="Train on preemptible machines, and lose little when they are taken away.",
    schedule=None,
    catchup=False,
    tags=["vertex-ai", "spot"],
    doc_md=__doc__,
)
def spot_with_checkpoints() -> None:
    """Wire the tasks."""
    train = FlexStartTrainingOperator(
        task_id="train",
        region="europe-west4",
        strategy="spot",
        machine_type="g2-standard-4",
        accelerator_type="NVIDIA_L4",
        accelerator_count=1,
        container_uri=IMAGE,
        args=["--data-date={{ dag_run.run_after | ds }}", "--max-iter=200", "--checkpoint-every=10"],
        # Checkpoints lie below it: one folder for each run, the same in all its attempts.
        base_output_dir=f"gs://{BUCKET}/digits/spot/{{{{ dag_run.run_after | ts_nodash }}}}",
        deferrable=True,
        retries=5,
        # No machines, or preempted too often: ten minutes later another job goes on.
        retry_policy=TrainingRetryPolicy(),
    )

    @task
    def say_how(model_dir: str) -> int:
        """Tell from which epoch on the last machine has trained."""
        # Imported when the task runs: the DAG processor reads this file every few seconds.
        from airflow.providers.google.cloud.hooks.gcs import parse_json_from_gcs

        metrics = parse_json_from_gcs("google_cloud_default", f"{model_dir}/metrics.json")
        resumed_at, epochs = metrics["resumed_at_epoch"], metrics["epochs"]
        logger.info("The last machine went on from epoch %d of %d", resumed_at, epochs)
        return int(resumed_at)

    say_how(train.output["model_dir"])


spot_with_checkpoints()
# [END spot_with_checkpoints]
