# SPDX-License-Identifier: Apache-2.0
"""A task that was written for the Google provider's tuning operator sends what it has always sent."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from google.auth.credentials import AnonymousCredentials
from google.cloud import aiplatform
from google.cloud.aiplatform import hyperparameter_tuning as hpt
from google.cloud.aiplatform_v1.types import (
    ContainerSpec,
    HyperparameterTuningJob,
    MachineSpec,
    Scheduling,
    WorkerPoolSpec,
)

from airflow_vertex_persistent.operators.hyperparameter_tuning import HyperparameterTuningOperator

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow.sdk import DAG

    from tests.integration.conftest import Cloud
    from tests.integration.operators.conftest import Run

PROJECT, REGION, BUCKET = "demo-project", "europe-west4", "gs://nightly-models"
PARENT = f"projects/{PROJECT}/locations/{REGION}"
IMAGE = "europe-west4-docker.pkg.dev/acme/training/small:1"
POOL = {
    "machine_spec": {
        "machine_type": "n1-standard-4",
        "accelerator_type": "ACCELERATOR_TYPE_UNSPECIFIED",
        "accelerator_count": 0,
    },
    "replica_count": 1,
    "container_spec": {"image_uri": IMAGE, "args": ["tune"], "env": [{"name": "EPOCHS", "value": "3"}]},
}
MESSAGE = WorkerPoolSpec(
    machine_spec=MachineSpec(machine_type="n1-standard-4"),
    replica_count=1,
    container_spec=ContainerSpec(image_uri=IMAGE, args=["tune"], env=[{"name": "EPOCHS", "value": "3"}]),
)
KEYS = f"projects/{PROJECT}/locations/{REGION}/keyRings/ml/cryptoKeys"
DISK = {"boot_disk_type": "pd-ssd", "boot_disk_size_gb": 100}
LEAST: dict[str, Any] = {
    "project_id": PROJECT,
    "region": REGION,
    "display_name": "digits",
    "metric_spec": {"loss": "minimize"},
    "parameter_spec": {"x": hpt.IntegerParameterSpec(min=1, max=8, scale="linear")},
    "max_trial_count": 2,
    "parallel_trial_count": 2,
    "worker_pool_specs": [POOL],
    "staging_bucket": BUCKET,
}
MUCH: dict[str, Any] = {
    **LEAST,
    "metric_spec": {"loss": "minimize", "accuracy": "maximize"},
    "parameter_spec": {
        "x": hpt.DoubleParameterSpec(min=1.0, max=8.0, scale="log"),
        "batch": hpt.DiscreteParameterSpec(values=[16, 32], scale="linear"),
        "model": hpt.CategoricalParameterSpec(
            values=["tree", "net"],
            conditional_parameter_spec={
                "depth": hpt.IntegerParameterSpec(min=1, max=3, scale="linear", parent_values=["tree"])
            },
        ),
    },
    "worker_pool_specs": [MESSAGE],
    "base_output_dir": f"{BUCKET}/tuning",
    "custom_job_labels": {"kind": "trial"},
    "custom_job_encryption_spec_key_name": f"{KEYS}/trials",
    "max_failed_trial_count": 1,
    "search_algorithm": "random",
    "measurement_selection": "last",
    "hyperparameter_tuning_job_labels": {"team": "ml"},
    "hyperparameter_tuning_job_encryption_spec_key_name": f"{KEYS}/tuning",
    "timeout": 3600,
    "restart_job_on_worker_restart": True,
    "enable_web_access": True,
    "service_account": "trainer@demo-project.iam.gserviceaccount.com",
    "network": "projects/123/global/networks/training",
    "tensorboard": f"projects/123/locations/{REGION}/tensorboards/4",
}


def sent_by_google(given: dict[str, Any]) -> HyperparameterTuningJob:
    """
    Return the tuning job that Google's SDK makes of the arguments of Google's operator.

    As its hook does, up to the last step, ``HyperparameterTuningJob._run``: that sets what is set here and sends it.
    """
    credentials = AnonymousCredentials()
    custom_job = aiplatform.CustomJob(
        display_name=given["display_name"],
        worker_pool_specs=given["worker_pool_specs"],
        base_output_dir=given.get("base_output_dir"),
        labels=given.get("custom_job_labels"),
        encryption_spec_key_name=given.get("custom_job_encryption_spec_key_name"),
        staging_bucket=given["staging_bucket"],
        project=PROJECT,
        location=REGION,
        credentials=credentials,
    )
    made = aiplatform.HyperparameterTuningJob(
        display_name=given["display_name"],
        custom_job=custom_job,
        metric_spec=given["metric_spec"],
        parameter_spec=given["parameter_spec"],
        max_trial_count=given["max_trial_count"],
        parallel_trial_count=given["parallel_trial_count"],
        max_failed_trial_count=given.get("max_failed_trial_count", 0),
        search_algorithm=given.get("search_algorithm"),
        measurement_selection=given.get("measurement_selection", "best"),
        labels=given.get("hyperparameter_tuning_job_labels"),
        encryption_spec_key_name=given.get("hyperparameter_tuning_job_encryption_spec_key_name"),
        project=PROJECT,
        location=REGION,
        credentials=credentials,
    )
    job: HyperparameterTuningJob = made._gca_resource
    spec = job.trial_job_spec
    for field in ("service_account", "network", "tensorboard", "enable_web_access"):
        if given.get(field):
            setattr(spec, field, given[field])
    if given.get("timeout") or given.get("restart_job_on_worker_restart"):
        seconds = given.get("timeout")
        spec.scheduling = Scheduling(
            timeout=f"{seconds}s" if seconds else None,
            restart_job_on_worker_restart=given.get("restart_job_on_worker_restart", False),
        )
    return job


@pytest.fixture
def arrived(empty_cloud: Cloud, dag: DAG, run_dag: Callable[[], Run]) -> Callable[..., list[Any]]:
    """Send a job in both ways with the same arguments, and return what has arrived: Google's job, and ours."""

    def run(given: dict[str, Any], **settings: Any) -> list[Any]:
        theirs = sent_by_google(given)
        empty_cloud.jobs.create_hyperparameter_tuning_job(parent=PARENT, hyperparameter_tuning_job=theirs)
        HyperparameterTuningOperator(task_id="train", dag=dag, **given, **settings)
        assert run_dag().result()["kind"] == "hyperparameterTuningJobs"
        return empty_cloud.tuning_jobs()

    return run


def said(message: Any) -> dict[str, Any]:
    """Return what a message says, without what has its default value."""
    told: dict[str, Any] = type(message).to_dict(
        message, use_integers_for_enums=False, always_print_fields_with_no_presence=False
    )
    return told


def trials_of(job: HyperparameterTuningJob) -> dict[str, Any]:
    """Return what each trial is, without the disk of the service's default, which ours says and Google's does not."""
    told = said(job.trial_job_spec)
    for pool in told["worker_pool_specs"]:
        assert pool.pop("disk_spec", DISK) == DISK
    return told


def test_the_least_a_task_says_is_sent_as_by_google(arrived: Callable[..., list[Any]], dag: DAG) -> None:
    """Study and counts are the same, the default of the measurement too; the folder has another name."""
    theirs, ours = arrived(LEAST, poll_interval=0.05)
    assert ours.study_spec.measurement_selection_type.name == "BEST_MEASUREMENT"
    assert said(ours.study_spec) == said(theirs.study_spec)
    for field in ("max_trial_count", "parallel_trial_count", "max_failed_trial_count", "display_name"):
        assert getattr(ours, field) == getattr(theirs, field)
    trials = [trials_of(job) for job in (theirs, ours)]
    prefixes = [spec.pop("base_output_directory")["output_uri_prefix"] for spec in trials]
    assert trials[0] == trials[1]
    assert all(prefix.startswith(f"{BUCKET}/aiplatform-custom-job") for prefix in prefixes)
    assert f"/{dag.dag_id}/train/" in prefixes[1]


def test_all_that_a_task_may_say_is_sent_as_by_google(arrived: Callable[..., list[Any]]) -> None:
    """Worker pools written as messages, children of parameters, scheduling: equal, but for labels of ours on top."""
    theirs, ours = arrived(MUCH, wait_for_completion=False)
    assert said(ours.study_spec) == said(theirs.study_spec)
    assert trials_of(ours) == trials_of(theirs)
    for field in ("max_trial_count", "parallel_trial_count", "max_failed_trial_count", "display_name"):
        assert getattr(ours, field) == getattr(theirs, field)
    assert dict(theirs.labels).items() <= dict(ours.labels).items()
    added = set(ours.labels) - set(theirs.labels)
    assert all(name.startswith("airflow_") for name in added)
    assert ours.encryption_spec.kms_key_name == theirs.encryption_spec.kms_key_name == f"{KEYS}/tuning"
