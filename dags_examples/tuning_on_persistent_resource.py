# SPDX-License-Identifier: Apache-2.0
"""
Search for the best hyperparameters on warm machines, and train once more with them.

What happens: a persistent resource is created, and a tuning job runs twenty trials on it, two at a time. Each tries a
neural network or support vectors with other hyperparameters, and reports how good it is on images that it has not
learned from. The best ones then train a model on all images, and the resource is deleted.

Why a persistent resource: each trial is a job of its own, and would wait minutes for a machine that here is warm.

Needs: the connection ``google_cloud_default``, and the bucket and the image that the DAG file names; the image is
built from ``trainer/``, which reports with the package ``cloudml-hypertune``.
"""

# [START tuning_on_persistent_resource]
from __future__ import annotations

import logging
from typing import Any

from airflow.sdk import dag, task

from airflow_vertex_persistent.operators.custom_job import PersistentResourceCustomJobOperator
from airflow_vertex_persistent.operators.hyperparameter_tuning import HyperparameterTuningOperator
from airflow_vertex_persistent.operators.persistent_resource import (
    CreatePersistentResourceOperator,
    DeletePersistentResourceOperator,
)
from airflow_vertex_persistent.specs.study import categorical, discrete, double, integer
from airflow_vertex_persistent.trial_args import trial_args

logger = logging.getLogger(__name__)

# Yours to edit.
BUCKET = "nightly-models"
IMAGE = "europe-west4-docker.pkg.dev/acme/training/digits:1"
TRIALS_AT_ONCE = 2

RESOURCE: dict[str, Any] = {"region": "europe-west4", "persistent_resource_id": "tuning-digits"}
RUN_FOLDER = f"gs://{BUCKET}/digits/tuned/{{{{ dag_run.run_after | ts_nodash }}}}"
DATA_DATE = "--data-date={{ dag_run.run_after | ds }}"
SEARCH = {
    "model": categorical(
        ["mlp", "svm"],
        children={
            "learning_rate": double(3e-4, 3e-2, scale="log", parent_values=["mlp"]),
            "hidden_units": integer(32, 256, scale="log", parent_values=["mlp"]),
            "alpha": double(1e-5, 1.0, scale="log", parent_values=["mlp"]),
            "batch_size": discrete([32, 64, 128, 200], parent_values=["mlp"]),
            "C": double(0.1, 1000.0, scale="log", parent_values=["svm"]),
            "gamma": double(1e-3, 1.0, scale="log", parent_values=["svm"]),
        },
    ),
}


@dag(
    dag_id="tuning_on_persistent_resource",
    dag_display_name="Tune on warm machines",
    description="Search for the best hyperparameters on warm machines, and train with them.",
    schedule=None,
    default_args={"retries": 2, "deferrable": True, "poll_interval": 5},
    tags=["vertex-ai", "persistent-resource", "tuning"],
    doc_md=__doc__,
)
def tuning_on_persistent_resource() -> None:
    """Wire the tasks."""
    create = CreatePersistentResourceOperator(
        task_id="create_resource",
        **RESOURCE,
        resource_pools=[
            {
                "machine_spec": {"machine_type": "n1-standard-4"},
                "replica_count": TRIALS_AT_ONCE,
                "disk_spec": {"boot_disk_type": "pd-ssd", "boot_disk_size_gb": 100},
            }
        ],
    )

    tune = HyperparameterTuningOperator(
        task_id="tune",
        **RESOURCE,
        container_uri=IMAGE,
        args=[DATA_DATE, "--validation-share=0.3"],
        metrics={"accuracy": "maximize"},
        parameters=SEARCH,
        max_trial_count=20,
        parallel_trial_count=TRIALS_AT_ONCE,
        # Without a number, the service may give up when the first trial fails.
        max_failed_trial_count=3,
        base_output_dir=f"{RUN_FOLDER}/tuning",
        save_trials=True,
        save_report=True,
    )

    train = PersistentResourceCustomJobOperator(
        task_id="train",
        **RESOURCE,
        container_uri=IMAGE,
        # --model=svm, --C=12.5 and so on come after these.
        args=trial_args(tune.output["best_trial"], DATA_DATE),
        base_output_dir=RUN_FOLDER,
    )

    @task
    def tell(best_trial: dict[str, Any], model_dir: str) -> None:
        """Say what was found."""
        logger.info("%s with %s: %s", model_dir, best_trial["parameters"], best_trial["metrics"])

    delete = DeletePersistentResourceOperator(task_id="delete_resource", **RESOURCE, retries=5)

    create >> tune >> train
    train >> delete.as_teardown(setups=create, on_failure_fail_dagrun=True)
    tell(tune.output["best_trial"], train.output["model_dir"])


tuning_on_persistent_resource()
# [END tuning_on_persistent_resource]
