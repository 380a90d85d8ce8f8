# SPDX-License-Identifier: Apache-2.0
"""
A DAG with the task ``train`` for each way in which a test stops it, one that sweeps up, and those that share a
persistent resource.
"""

from __future__ import annotations

import os
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.sdk import DAG, Asset, task, task_group
from mortal import (
    DiesAmongItsJobs,
    DiesAtItsJobsName,
    DiesBeforeItGoesOn,
    DiesBeforeItReports,
    DiesBeforeItWaits,
    LosesItsTriggerer,
    mortal_operator,
)

from airflow_vertex_persistent.operators.custom_job import PersistentResourceCustomJobOperator
from airflow_vertex_persistent.operators.flex_start import FlexStartTrainingOperator
from airflow_vertex_persistent.operators.hyperparameter_tuning import HyperparameterTuningOperator
from airflow_vertex_persistent.operators.orphaned_jobs import CancelOrphanedJobsOperator
from airflow_vertex_persistent.operators.persistent_resource import (
    CreatePersistentResourceOperator,
    DeletePersistentResourceOperator,
)
from airflow_vertex_persistent.sensors.flex_start import FlexStartSensor
from airflow_vertex_persistent.specs.candidates import candidate
from airflow_vertex_persistent.specs.study import integer

if TYPE_CHECKING:
    from airflow_vertex_persistent.operators.training.base import TrainingOperator

REGION = "europe-west4"
# Long enough to wait for the job before it has passed, also while other tasks start.
EXECUTION_TIMEOUT = timedelta(seconds=30)
ACCELERATORS = {"a2-highgpu-1g": "NVIDIA_TESLA_A100", "a2-ultragpu-1g": "NVIDIA_A100_80GB"}


# The training ends when the file is there that it is told the name of.
TRAINING: dict[str, Any] = {
    "task_id": "train",
    "region": REGION,
    "container_uri": os.environ["STAGE_IMAGE"],
    "args": [os.environ["STAGE_DONE"] + "/{{ dag.dag_id }}-{{ run_id }}"],
    "machine_type": "n1-standard-4",
    "poll_interval": 0.5,
}
# Two trials, both at once, of which the second is the better one.
TUNING: dict[str, Any] = {
    "metrics": {"x": "maximize"},
    "parameters": {"x": integer(1, 2)},
    "algorithm": "grid",
    "max_trial_count": 2,
    "parallel_trial_count": 2,
}


def dag(dag_id: str, death: type[TrainingOperator] | None = None, **options: Any) -> None:
    """
    Make a DAG that trains, or tunes, if its name says so.

    :param death: How its first attempt dies. Default: by somebody else's hand, if at all.
    """
    operator: type[TrainingOperator] = PersistentResourceCustomJobOperator
    if "_tuning_" in dag_id:
        operator = HyperparameterTuningOperator
        options |= TUNING
    if death is not None:
        operator = mortal_operator(death, operator)
    with DAG(dag_id, schedule=None, is_paused_upon_creation=False):
        operator(**TRAINING, persistent_resource_id="nightly", retry_delay=timedelta(0), **options)


def race(
    dag_id: str,
    machine_type: str,
    operator: type[FlexStartTrainingOperator] = FlexStartTrainingOperator,
    **options: Any,
) -> None:
    """
    Make a DAG whose jobs race for machines in three regions.

    :param machine_type: One that no other DAG asks for, if a test lets a job of this one have it.
    """
    with DAG(dag_id, schedule=None, is_paused_upon_creation=False):
        operator(
            **{**TRAINING, "machine_type": machine_type},
            accelerator_type=ACCELERATORS.get(machine_type, "NVIDIA_L4"),
            accelerator_count=1,
            candidates=[candidate(region=region) for region in (REGION, "us-central1", "us-east4")],
            candidate_order="race",
            retry_delay=timedelta(0),
            **options,
        )


def waits_for_machines() -> None:
    """Make a DAG whose sensors begin in the triggerer, and wait for jobs that queue for machines."""
    wait: dict[str, Any] = {"deferrable": True, "start_from_trigger": True, "poll_interval": "{{ 0.5 }}"}
    submits: dict[str, Any] = {key: value for key, value in TRAINING.items() if key != "task_id"}
    submits |= {"accelerator_type": "NVIDIA_L4", "wait_for_completion": False}
    queues: dict[str, Any] = {**submits, "machine_type": "g2-standard-16", "accelerator_count": 1}
    hopeless: dict[str, Any] = {**submits, "machine_type": "g2-standard-24", "accelerator_count": 2}
    with DAG("waits_for_machines", schedule=None, is_paused_upon_creation=False):
        submit = FlexStartTrainingOperator(**queues, task_id="submit")
        name = "{{ ti.xcom_pull(task_ids='submit', key='job', map_indexes=-1) }}"
        whole = FlexStartSensor(task_id="whole_result", job=submit.output, **wait)
        FlexStartSensor(task_id="its_job", job=submit.output["job"], **wait)  # type: ignore[index]
        submit >> FlexStartSensor(task_id="template", job=name, **wait)
        FlexStartSensor(task_id="with_outlet", job=submit.output, outlets=Asset("gpus"), **wait)
        broken = FlexStartSensor(task_id="broken_template", job="{{ 1 // 0 }}", **wait)
        wrong = FlexStartSensor(task_id="wrong_name", job="nope", retries=2, soft_fail=True, **wait)
        mapped = FlexStartSensor.partial(task_id="mapped", **wait).expand(job=[name])
        submit >> [broken, wrong, mapped]

        @task_group
        def group(number: str) -> None:
            queued = FlexStartTrainingOperator(**queues, task_id="submit", env={"NUMBER": number})
            FlexStartSensor(task_id="sense", job=queued.output, **wait)

        group.expand(number=["0", "1"])

        ends = FlexStartTrainingOperator(**hopeless, task_id="submit_in_vain", max_wait_duration=2).output
        in_vain = FlexStartSensor(task_id="in_vain", job=ends, **wait)
        # It looks once, and after that it only waits, for as long as a test may need to see it.
        rarely: dict[str, Any] = {**wait, "poll_interval": 100, "timeout": 100, "trigger_rule": "all_done"}
        in_vain >> FlexStartSensor(task_id="in_vain_silently", job=ends, silent_fail=True, **rarely)

        stays = FlexStartTrainingOperator(**hopeless, task_id="submit_too_long", max_wait_duration=0).output
        FlexStartSensor(task_id="too_long", job=stays, timeout=2, **wait)
        FlexStartSensor(task_id="too_long_softly", job=stays, timeout=2, soft_fail=True, **wait)
        limit: dict[str, Any] = {"execution_timeout": timedelta(seconds=2), "retry_delay": timedelta(0)}
        FlexStartSensor(task_id="too_long_twice", job=stays, retries=1, **limit, **wait)

        @task
        def tell(job: str, queued_seconds: float) -> list[Any]:
            return [job, queued_seconds]

        tell(whole.output["job"], whole.output["queued_seconds"])  # type: ignore[index]


def shared(dag_id: str, *, deferrable: bool) -> None:
    """Make a DAG whose runs train on a persistent resource that the last one out deletes."""
    common: dict[str, Any] = {"persistent_resource_id": dag_id.replace("_", "-"), "deferrable": deferrable}
    resource: dict[str, Any] = {**common, "region": REGION, "poll_interval": 0.5, "retry_delay": timedelta(0)}
    pool = {"machine_spec": {"machine_type": "n1-standard-4"}, "replica_count": 3}
    with DAG(dag_id, schedule=None, is_paused_upon_creation=False):
        create = CreatePersistentResourceOperator(
            task_id="create", resource_pools=[pool], retries=2, **resource
        )
        train = PersistentResourceCustomJobOperator(**TRAINING, **common)
        delete = DeletePersistentResourceOperator(task_id="delete", retries=2, **resource)
        create >> train >> delete.as_teardown(setups=create)


for mode in ("blocking", "deferrable"):
    deferrable = mode == "deferrable"
    dag(f"queued_{mode}", deferrable=deferrable, when_busy="queue")
    shared(f"shared_{mode}", deferrable=deferrable)

for mode in ("blocking", "deferrable", "tuning_blocking", "tuning_deferrable"):
    deferrable = mode.endswith("deferrable")
    retried: dict[str, Any] = {"deferrable": deferrable, "retries": 1}
    dag(f"create_not_there_yet_{mode}", **retried)
    dag(f"create_without_reply_{mode}", **retried)
    dag(f"name_not_kept_{mode}", DiesAtItsJobsName, kept=False, **retried)
    dag(f"name_kept_{mode}", DiesAtItsJobsName, kept=True, **retried)
    dag(f"not_waiting_yet_{mode}", DiesBeforeItWaits, **retried)
    dag(f"result_not_reported_{mode}", DiesBeforeItReports, **retried)
    dag(f"marked_as_failed_{mode}", deferrable=deferrable)
    dag(f"cleared_{mode}", deferrable=deferrable)
    dag(f"execution_timeout_{mode}", deferrable=deferrable, execution_timeout=EXECUTION_TIMEOUT)
    if deferrable:
        dag(f"event_not_handled_{mode}", DiesBeforeItGoesOn, **retried)
    else:
        dag(f"process_killed_{mode}", **retried)
        dag(f"worker_lost_{mode}", **retried)
        dag(f"worker_told_to_stop_{mode}", **retried)
        dag(f"killed_in_the_last_attempt_{mode}", deferrable=False)

dag("bystander_deferrable", deferrable=True)
dag("marked_without_triggerer_deferrable", deferrable=True)
dag("killed_while_waiting_deferrable", deferrable=True)
dag("killed_at_the_end_deferrable", LosesItsTriggerer, deferrable=True)
dag("killed_beside_another_deferrable", deferrable=True)
dag("silent_for_a_while_deferrable", deferrable=True)

race("race_loses_its_process_blocking", "g2-standard-4", deferrable=False, retries=1)
race("race_loses_its_process_at_the_start_blocking", "g2-standard-8", deferrable=False, retries=1)
race("race_loses_its_triggerer_deferrable", "g2-standard-12", deferrable=True, retries=1)
race("race_cleared_blocking", "g2-standard-16", deferrable=False)
race("race_cleared_deferrable", "g2-standard-32", deferrable=True)
for mode in ("blocking", "deferrable"):
    deferrable = mode == "deferrable"
    race(f"race_marked_as_failed_{mode}", "a2-highgpu-1g", deferrable=deferrable)
    race(f"race_timeout_{mode}", "a2-highgpu-1g", deferrable=deferrable, execution_timeout=EXECUTION_TIMEOUT)
# Machines for all of these come at once. They wait where waiting takes no place from others.
MORTAL_RACE: dict[str, Any] = {"machine_type": "a2-ultragpu-1g", "deferrable": True, "retries": 1}
for name, number, kept in (
    ("first_name_not_kept", 1, False),
    ("first_name_kept", 1, True),
    ("last_name_not_kept", 3, False),
    ("last_name_kept", 3, True),
):
    race(f"race_{name}_deferrable", operator=DiesAmongItsJobs, number=number, kept=kept, **MORTAL_RACE)
race("race_create_without_reply_deferrable", **MORTAL_RACE)

waits_for_machines()

with DAG("sweep", schedule=None, is_paused_upon_creation=False):
    CancelOrphanedJobsOperator(task_id="sweep", region=REGION, only_report=False)
