# SPDX-License-Identifier: Apache-2.0
"""
Tune and retrain a model every night, and promote it only if it is no worse than yesterday's.

What happens: a persistent resource is created, and a tuning job tries hyperparameters on its warm machines, two
trials at a time. The resource is deleted as soon as that has ended, however it has. With the best hyperparameters the
model is trained on a GPU, which Flex Start queues for; an evaluation compares it with yesterday's, and the better one
becomes or stays the champion.

Why a persistent resource: every trial starts in seconds, because machine and image are already there. And why delete
it before the training: its machines cost money as long as they exist, and a GPU may be hours away.

Needs: the connection ``google_cloud_default``, quota for *preemptible* L4 GPUs, the extra ``report`` of this package,
and the bucket and the image that the DAG file names; the image is built from ``trainer/``. On the local emulator it
runs as it is.
"""

# [START nightly_retraining]
from __future__ import annotations

import json
import logging
from datetime import timedelta
from typing import Any

import pendulum
from airflow.sdk import CronTriggerTimetable, Param, dag, task

from airflow_vertex_persistent.operators.flex_start import FlexStartTrainingOperator
from airflow_vertex_persistent.operators.hyperparameter_tuning import HyperparameterTuningOperator
from airflow_vertex_persistent.operators.persistent_resource import (
    CreatePersistentResourceOperator,
    DeletePersistentResourceOperator,
)
from airflow_vertex_persistent.specs.study import discrete, double
from airflow_vertex_persistent.trial_args import trial_args

logger = logging.getLogger(__name__)

# Yours to edit.
BUCKET = "nightly-models"
IMAGE = "europe-west4-docker.pkg.dev/acme/training/digits:1"

# One small document says which model is in use, so that a promotion is one write: all or nothing.
CHAMPION = "digits/champion.json"
RUN_FOLDER = f"gs://{BUCKET}/digits/runs/{{{{ dag_run.run_after | ts_nodash }}}}"
DATA_DATE = "{{ params.data_date or (dag_run.run_after | ds) }}"
REGION = "{{ params.region }}"
RESOURCE: dict[str, Any] = {"region": REGION, "persistent_resource_id": "nightly-digits"}
# What the trials and the training have in common.
WORK = (f"--data-date={DATA_DATE}", "--max-iter={{ params.max_iter }}")
TRIALS_AT_ONCE = 2
SEARCH = {
    "learning_rate": double("{{ params.least_learning_rate }}", 0.02, scale="log"),
    "hidden_units": discrete([32, 64, 128]),
    "alpha": double(1e-6, 1e-2, scale="log"),
}


@dag(
    dag_id="nightly_retraining",
    dag_display_name="Nightly retraining",
    description="Tune on warm machines, train on a queued GPU, and promote what is no worse than yesterday's model.",
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
            description="Where the machines are.",
            enum=["europe-west2", "europe-west4", "us-central1"],
        ),
        "machine_type": Param(
            "n1-standard-4",
            type="string",
            title="Machine type",
            description="What the trials run on.",
            enum=["n1-standard-4", "n1-standard-8", "n1-highmem-8"],
        ),
        "max_trial_count": Param(
            8,
            type="integer",
            title="Trials",
            description="How many combinations of hyperparameters are tried.",
            # The task takes no fewer than run at the same time.
            minimum=TRIALS_AT_ONCE,
            maximum=100,
        ),
        "least_learning_rate": Param(
            0.001,
            type="number",
            title="Least learning rate",
            description="Where the search for the step size begins; it ends at 0.02.",
            minimum=0.0001,
            maximum=0.02,
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
    tags=["vertex-ai", "persistent-resource", "tuning", "flex-start"],
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
                "replica_count": TRIALS_AT_ONCE,
                "disk_spec": {"boot_disk_type": "pd-ssd", "boot_disk_size_gb": 100},
            }
        ],
    )

    tune = HyperparameterTuningOperator(
        task_id="tune",
        **RESOURCE,
        container_uri=IMAGE,
        # A part of the training images: tuning never sees those of the evaluation.
        args=[*WORK, "--validation-share=0.3"],
        metrics={"log_loss": "minimize"},
        parameters=SEARCH,
        max_trial_count="{{ params.max_trial_count }}",
        parallel_trial_count=TRIALS_AT_ONCE,
        max_failed_trial_count=2,
        base_output_dir=f"{RUN_FOLDER}/tuning",
        save_trials=True,
        save_report=True,
    )

    delete = DeletePersistentResourceOperator(
        task_id="delete_resource",
        **RESOURCE,
        # Machines that nobody deletes cost money all day.
        retries=5,
    )

    train = FlexStartTrainingOperator(
        task_id="train",
        region=REGION,
        machine_type="g2-standard-4",
        accelerator_type="NVIDIA_L4",
        accelerator_count=1,
        container_uri=IMAGE,
        args=trial_args(tune.output["best_trial"], *WORK),
        base_output_dir=RUN_FOLDER,
        max_wait_duration=timedelta(hours=12),
        max_run_duration=timedelta(hours=1),
    )

    evaluate = FlexStartTrainingOperator(
        task_id="evaluate",
        region=REGION,
        # A machine on demand: a minute of work is not worth a place in the queue.
        strategy="standard",
        machine_type="n1-standard-4",
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

    create >> tune >> train >> evaluate >> promote_or_keep(f"{RUN_FOLDER}/evaluation.json")
    # A teardown runs when its setup has, whatever has become of the task in between.
    tune >> delete.as_teardown(setups=create, on_failure_fail_dagrun=True)


nightly_retraining()
# [END nightly_retraining]
