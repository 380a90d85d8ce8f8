# SPDX-License-Identifier: Apache-2.0
"""
Try one region after the other until one of them has the GPUs.

What happens: the job queues for eight H100s in Europe. If it gets none within two hours, the same work queues in the
United States, then in Asia, each time with the image and the bucket of that place. The last task says where it was.

Why: GPUs are short in one region at a time. Image and files lie where the GPUs are, since a machine that reads them
across an ocean waits for them, and each of its hours costs.

Needs: the connection ``google_cloud_default``, quota for *preemptible* H100 GPUs in each region, and the buckets and
images that the DAG file names; the image is built from ``trainer/``, which stands for code that uses GPUs.
"""

# [START gpu_failover_across_regions]
from __future__ import annotations

import logging
from datetime import timedelta

from airflow.sdk import dag, task

from airflow_vertex_persistent.operators.flex_start import FlexStartTrainingOperator
from airflow_vertex_persistent.specs.candidates import candidate

logger = logging.getLogger(__name__)

FOLDER = "digits/failover/{{ dag_run.run_after | ts_nodash }}"


# Yours to edit: in this order.
CANDIDATES = [
    candidate(
        region="europe-west4",
        container_uri="europe-west4-docker.pkg.dev/acme/training/digits:1",
        base_output_dir=f"gs://nightly-models/{FOLDER}",
    ),
    candidate(
        region="us-central1",
        container_uri="us-central1-docker.pkg.dev/acme/training/digits:1",
        base_output_dir=f"gs://nightly-models-us/{FOLDER}",
    ),
    candidate(
        region="asia-southeast1",
        container_uri="asia-southeast1-docker.pkg.dev/acme/training/digits:1",
        base_output_dir=f"gs://nightly-models-asia/{FOLDER}",
        # Nothing comes after it.
        max_wait_duration=timedelta(hours=12),
    ),
]


@dag(
    dag_id="gpu_failover_across_regions",
    dag_display_name="GPUs wherever there are some",
    description="Queue for GPUs in one region after the other.",
    schedule=None,
    catchup=False,
    tags=["vertex-ai", "flex-start"],
    doc_md=__doc__,
)
def gpu_failover_across_regions() -> None:
    """Wire the tasks."""
    train = FlexStartTrainingOperator(
        task_id="train",
        candidates=CANDIDATES,
        # What a candidate does not say is the same for all of them.
        machine_type="a3-highgpu-8g",
        accelerator_type="NVIDIA_H100_80GB",
        accelerator_count=8,
        args=["--data-date={{ dag_run.run_after | ds }}"],
        max_wait_duration=timedelta(hours=2),
        deferrable=True,
    )

    @task
    def say_where(region: str, number: int, queued_seconds: float, model_dir: str) -> str:
        """Tell where the model was trained, and where it is."""
        logger.info(
            "Trained in %s, candidate %d, after %.0f s in its queue: %s",
            region,
            number,
            queued_seconds,
            model_dir,
        )
        return region

    where = train.output
    say_where(where["region"], where["candidate"], where["queued_seconds"], where["model_dir"])


gpu_failover_across_regions()
# [END gpu_failover_across_regions]
