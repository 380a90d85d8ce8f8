# SPDX-License-Identifier: Apache-2.0
"""The best trial of a tuning job against one that is computed from the metric files of its jobs alone."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from google.cloud.aiplatform_v1.types import JobState

from airflow_vertex_persistent.hooks.tuning import tuning_snapshot
from airflow_vertex_persistent.trials import best_trial

if TYPE_CHECKING:
    from collections.abc import Callable

    from google.cloud.aiplatform_v1.types import CustomJob

    from tests.contract.conftest import Tuning

TRIALS = 8
# Coarse values, so that trials tie; some reports are no number, some trials fail or say nothing.
CODE = """
import os, random, sys
print(os.environ["CLOUD_ML_HP_METRIC_FILE"], flush=True)
chance = random.Random({seed} * 1000 + int(os.environ["CLOUD_ML_TRIAL_ID"]))
if chance.random() < 0.2:
    sys.exit("no luck")
from hypertune import HyperTune
tune = HyperTune()
for step in range(1, chance.choice([1, 1, 4, 6])):
    for metric in ("loss", "accuracy"):
        value = chance.choice([0.1, 0.2, 0.3, 0.5, float("nan")])
        tune.report_hyperparameter_tuning_metric(metric, value, global_step=step)
"""


def reports_of(tuning: Tuning, job: CustomJob) -> dict[str, list[float]]:
    """Read the numbers that a trial's job has reported of each metric, in their order."""
    path = Path(tuning.cloud.log(job)[0])
    lines = path.read_text().splitlines() if path.exists() else []
    found: dict[str, list[float]] = {"loss": [], "accuracy": []}
    for report in map(json.loads, lines):
        for metric, values in found.items():
            if metric in report and not math.isnan(float(report[metric])):
                values.append(float(report[metric]))
    return found


@pytest.mark.parametrize(
    ("metric", "goal", "selection"),
    [("loss", "minimize", "LAST_MEASUREMENT"), ("accuracy", "maximize", "BEST_MEASUREMENT")],
)
@pytest.mark.parametrize("seed", range(5))
def test_the_best_trial_is_that_of_the_files(
    tuning_with: Callable[..., Tuning], seed: int, metric: str, goal: str, selection: str
) -> None:
    """Over seeds, goals, failures, ties and reports that are no number."""
    tuning = tuning_with(tuning_seed=seed)
    job = tuning.run(
        CODE.format(seed=seed),
        metrics=[{"metric_id": metric, "goal": goal.upper()}],
        max_trial_count=TRIALS,
        parallel_trial_count=4,
        max_failed_trial_count=TRIALS,
        measurement_selection_type=selection,
    )
    sign = 1 if goal == "minimize" else -1
    expected: dict[str, Any] = {}
    for number, run in enumerate(tuning.jobs_of(job), start=1):
        values = reports_of(tuning, run)[metric]
        if run.state == JobState.JOB_STATE_SUCCEEDED and values:
            counts = min(values, key=lambda value: sign * value)
            expected[str(number)] = counts if selection == "BEST_MEASUREMENT" else values[-1]
    assert (job.state == JobState.JOB_STATE_SUCCEEDED) == bool(expected)
    snapshot = tuning_snapshot(job)
    assert snapshot["goals"] == {metric: goal}
    best = best_trial(snapshot["trials"], snapshot["goals"])
    if not expected:
        assert best is None
        return
    first = min(expected, key=lambda trial: (sign * expected[trial], int(trial)))
    assert best is not None
    assert (best["id"], best["metrics"]) == (first, {metric: expected[first]})
