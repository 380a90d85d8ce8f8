# SPDX-License-Identifier: Apache-2.0
"""
What a tuning task leaves in Airflow's database for the tasks after it, beside the Google provider's operator.

One tuning job really runs, on an emulator: many trials, each with some reports of its loss, and an environment
variable that nobody else should read. Our operator waits for it. The Google provider's own trigger and operator are
then given the same job, with the same arguments. Both results are measured as the JSON that Airflow stores.
The figures never fail the run.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

from google.cloud.aiplatform import hyperparameter_tuning
from google_tuning import google_result
from local_emulator import CONNECTION, PROJECT
from only_attempt import context
from rich.console import Console
from rich.table import Table

from airflow_vertex_persistent.emulator import EmulatorSettings, VertexEmulator
from airflow_vertex_persistent.operators.hyperparameter_tuning import HyperparameterTuningOperator

REGION, IMAGE, BUCKET = "europe-west4", "bench/image:1", "gs://bench"
SECRET = "hf_bench_9f2c"  # noqa: S105 - opens nothing
DOCKERFILE = """\
FROM python:3.11-slim
WORKDIR /app
COPY . .
ENTRYPOINT ["python", "/app/task.py"]
"""
TASK = """\
import sys
from hypertune import HyperTune

flags = dict(flag.removeprefix("--").split("=") for flag in sys.argv[1:])
tune = HyperTune()
for step in range(1, int(flags["reports"]) + 1):
    tune.report_hyperparameter_tuning_metric("loss", (float(flags["x"]) - 3) ** 2 + 1 / step, global_step=step)
"""


def arguments(trials: int, reports: int, at_once: int) -> dict[str, Any]:
    """Return the arguments of Google's operator, which ours takes as they are."""
    container = {
        "image_uri": IMAGE,
        "args": [f"--reports={reports}"],
        "env": [{"name": "HF_TOKEN", "value": SECRET}],
    }
    return {
        "project_id": PROJECT,
        "region": REGION,
        "display_name": "bench",
        "metric_spec": {"loss": "minimize"},
        "parameter_spec": {
            "x": hyperparameter_tuning.DoubleParameterSpec(min=0.0, max=8.0, scale="linear"),
        },
        "worker_pool_specs": [
            {
                "machine_spec": {"machine_type": "n1-standard-4"},
                "replica_count": 1,
                "container_spec": container,
            }
        ],
        "max_trial_count": trials,
        "parallel_trial_count": at_once,
        "search_algorithm": "random",
        "base_output_dir": f"{BUCKET}/tuning",
        "staging_bucket": BUCKET,
    }


def row(name: str, result: dict[str, Any], measurements: int) -> list[str]:
    """Return a line of the table."""
    text = json.dumps(result)
    return [
        name,
        f"{len(text.encode()):,}",
        str(len(result.get("trials", []))),
        str(measurements),
        "yes" if "best_trial" in result else "no",
        "YES" if SECRET in text else "no",
    ]


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description="Compare what a tuning task leaves behind.")
    parser.add_argument("--trials", type=int, default=100, help="of the job (default: 100)")
    parser.add_argument("--reports", type=int, default=20, help="of each trial (default: 20)")
    parser.add_argument("--at-once", type=int, default=10, help="trials at the same time (default: 10)")
    options = parser.parse_args()
    logging.disable(logging.ERROR)
    os.environ["AIRFLOW_CONN_GOOGLE_CLOUD_DEFAULT"] = json.dumps(CONNECTION)
    given = arguments(options.trials, options.reports, options.at_once)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "Dockerfile").write_text(DOCKERFILE)
        (folder / "task.py").write_text(TASK)
        settings = EmulatorSettings(provisioning_seconds=0.0)
        with VertexEmulator(
            images={IMAGE: folder}, buckets=[BUCKET.removeprefix("gs://")], settings=settings
        ) as cloud:
            os.environ |= cloud.environment
            began = time.monotonic()
            tune = HyperparameterTuningOperator(
                task_id="tune", poll_interval=1, deferrable=False, save_trials=True, **given
            )
            ours = tune.execute(context("tune", "bench"))
            seconds = time.monotonic() - began
            theirs = google_result(ours["job"], given)

    told = [len(trial["measurements"]) for trial in theirs["trials"]]
    table = Table(
        title=f"Result of a tuning task: {len(told)} trials, {sum(told):,} measurements",
        caption=(
            "Bytes of JSON, in the XCom return_value; Google's deferred task has them in its trigger's event as well. "
            "The variable is an environment variable of the training container."
        ),
        caption_justify="left",
    )
    table.add_column("operator")
    for column in ("bytes", "trials in it", "measurements", "names the best", "has the variable"):
        table.add_column(column, justify="right")
    table.add_row(*row("HyperparameterTuningOperator", ours, 0))
    table.add_row(*row("CreateHyperparameterTuningJobOperator", theirs, sum(told)))
    ratio = len(json.dumps(theirs)) / len(json.dumps(ours))
    Console(width=120).print(
        table,
        f"Google's is {ratio:.0f} times as large. The trials took {seconds:.0f} s. Google provider "
        f"{version('apache-airflow-providers-google')}. All trials of ours are in {ours['trials_uri']}.",
        sep="\n",
    )


if __name__ == "__main__":
    main()
