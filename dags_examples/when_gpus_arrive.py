# SPDX-License-Identifier: Apache-2.0
"""
Do something at the moment when a job gets its GPUs.

What happens: a job for eight H100s joins the queue of Flex Start, and its task ends at once. A sensor waits in the
triggerer until the job runs, and begins and ends there: all night long no worker has anything to do with it. Then the
people who watch its first epochs are told, with the address of the job's page.

Why: nobody knows beforehand at which hour of which night the GPUs come, and from then on they cost money. Whatever
is only of use beside a running job starts at that moment, and not with the DAG.

Needs: the connection ``google_cloud_default``, quota for *preemptible* H100 GPUs, and the bucket and the image that
the DAG file names; the image is built from ``trainer/``, which stands for code that uses GPUs.

The DAG ends when the job has begun. The job is its own master from then on: no task waits for its end, none cancels
it, and a training that fails leaves this run green.
"""

# [START when_gpus_arrive]
from __future__ import annotations

import logging
from datetime import timedelta

from airflow.sdk import dag, task

from airflow_vertex_persistent.operators.flex_start import FlexStartTrainingOperator
from airflow_vertex_persistent.sensors.flex_start import FlexStartSensor

logger = logging.getLogger(__name__)

# Yours to edit.
BUCKET = "nightly-models"
IMAGE = "europe-west4-docker.pkg.dev/acme/training/digits:1"


@dag(
    dag_id="when_gpus_arrive",
    dag_display_name="When the GPUs arrive",
    description="Tell people the moment a job gets its GPUs.",
    schedule=None,
    catchup=False,
    tags=["vertex-ai", "flex-start"],
    doc_md=__doc__,
)
def when_gpus_arrive() -> None:
    """Wire the tasks."""
    submit = FlexStartTrainingOperator(
        task_id="submit",
        region="europe-west4",
        machine_type="a3-highgpu-8g",
        accelerator_type="NVIDIA_H100_80GB",
        accelerator_count=8,
        container_uri=IMAGE,
        args=["--data-date={{ dag_run.run_after | ds }}"],
        base_output_dir=f"gs://{BUCKET}/digits/watched/{{{{ dag_run.run_after | ts_nodash }}}}",
        max_wait_duration=timedelta(days=2),
        max_run_duration=timedelta(days=1),
        wait_for_completion=False,
    )
    gpus_are_there = FlexStartSensor(
        task_id="gpus_are_there",
        job=submit.output["job"],
        deferrable=True,
        start_from_trigger=True,
        # The job's own limit comes first, and its error says more.
        timeout=timedelta(days=3),
    )

    @task
    def tell(console_url: str, queued_seconds: float) -> str:
        """Say that the GPUs are there; a message to a channel, or the start of another DAG, has its place here."""
        logger.info("The GPUs are there after %.0f s: %s", queued_seconds, console_url)
        return console_url

    tell(gpus_are_there.output["console_url"], gpus_are_there.output["queued_seconds"])


when_gpus_arrive()
# [END when_gpus_arrive]
