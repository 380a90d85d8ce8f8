# SPDX-License-Identifier: Apache-2.0
"""What a tuning task hands on of a search that has found nothing."""

from __future__ import annotations

from typing import Any
from unittest.mock import Mock

from google.cloud.aiplatform_v1.types import HyperparameterTuningJob

from airflow_vertex_persistent.hooks.training_job import job_snapshot
from airflow_vertex_persistent.operators.hyperparameter_tuning import HyperparameterTuningOperator

SEARCH: dict[str, Any] = {
    "name": "projects/1/locations/europe-west4/hyperparameterTuningJobs/9",
    "display_name": "search",
    "state": "JOB_STATE_SUCCEEDED",
    "study_spec": {"metrics": [{"metric_id": "loss", "goal": "MINIMIZE"}], "parameters": []},
    "max_trial_count": 2,
    "trials": [
        {"id": "1", "state": "INFEASIBLE", "infeasible_reason": "out of memory"},
        {
            "id": "2",
            "state": "SUCCEEDED",
            "final_measurement": {"metrics": [{"metric_id": "loss", "value": float("nan")}]},
        },
    ],
}


def test_a_search_without_a_best_trial() -> None:
    """It succeeds, and hands on that there is none."""
    task = HyperparameterTuningOperator(task_id="tune", region="europe-west4")
    job = HyperparameterTuningJob(SEARCH)
    hook: Any = Mock(get_job=Mock(return_value=job))
    task.job_hook = hook
    result = task.result(job_snapshot(job), None)
    assert (result["state"], result["best_trial"], result["model_dir"]) == ("JOB_STATE_SUCCEEDED", None, None)
    assert result["trial_counts"] == {"succeeded": 1, "infeasible": 1, "running": 0, "total": 2}
