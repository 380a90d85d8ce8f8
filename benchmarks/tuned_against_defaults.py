# SPDX-License-Identifier: Apache-2.0
"""
Does tuning pay? The tuned model of the examples' trainer against scikit-learn's defaults, night by night.

For each of five nights fixed beforehand, a tuning job on the local emulator searches the trainer's hyperparameters.
Its trials learn from a part of the night's training images and are compared on the rest of them. A custom job then
trains with the best hyperparameters on all training images. An ``MLPClassifier()`` as scikit-learn makes it learns
from the same images. Both are examined once, on the held-out images, which neither tuning nor training has seen.

Exits with 1 if the tuned model is not strictly more accurate on at least four nights of five.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import time
import warnings
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

from local_emulator import CONNECTION, PROJECT
from rich.console import Console
from rich.table import Table

from airflow_vertex_persistent.emulator import EmulatorSettings, VertexEmulator
from dags_examples.tuning_on_persistent_resource import SEARCH

TRAINER = Path(__file__).parents[1] / "dags_examples" / "trainer"
REGION = "europe-west4"
BUCKET = "nightly-models"
IMAGE = "europe-west4-docker.pkg.dev/acme/training/digits:1"
NIGHTS = {seed: date(2026, 3, seed) for seed in range(1, 6)}
"""The night of each seed, which is that of what is tried next and of the model with defaults."""
NEEDED = 4
TRIALS, AT_ONCE = 20, 2
LIMIT = 300.0
"""Seconds that a job may take."""
ONE_THREAD = {"OMP_NUM_THREADS": "1"}
"""Jobs that run at the same time share this machine's cores, and so small a model learns no faster on several."""
GOALS = {"accuracy": "maximize"}


@dataclass(frozen=True)
class Result:
    """
    One night.

    :param seed: Of the night.
    :param tuned: Accuracy and log loss of the tuned model on the held-out images.
    :param default: The same of the model with defaults.
    :param best: Parameters of the best trial.
    """

    seed: int
    tuned: dict[str, float]
    default: dict[str, float]
    best: dict[str, Any]

    @property
    def won(self) -> bool:
        """Whether the tuned model is strictly more accurate."""
        return self.tuned["accuracy"] > self.default["accuracy"]

    @property
    def row(self) -> list[str]:
        """Cells of the table."""
        scores = [
            f"{model[score]:.4f}"
            for score in ("accuracy", "log_loss")
            for model in (self.tuned, self.default)
        ]
        parameters = " ".join(
            f"{name}={value if isinstance(value, str) else format(value, '.3g')}"
            for name, value in self.best.items()
        )
        return [str(self.seed), str(NIGHTS[self.seed]), *scores, "yes" if self.won else "no", parameters]


def job_body(kind: str, name: str, args: list[Any]) -> dict[str, Any]:
    """Return a job that runs the trainer, as the operators of this provider make it."""
    from airflow_vertex_persistent.specs.checks import Problems
    from airflow_vertex_persistent.specs.custom_job import custom_job
    from airflow_vertex_persistent.specs.tuning_job import (
        COUNT_FIELDS,
        STUDY_FIELDS,
        tuning_body,
        tuning_job,
    )

    wanted: dict[str, Any] = {
        "region": REGION,
        "display_name": name,
        "container_uri": IMAGE,
        "args": args,
        "machine_type": "n1-standard-4",
        "env": ONE_THREAD,
        "base_output_dir": f"gs://{BUCKET}/digits/{name}",
    }
    problems = Problems(name)
    if kind == "customJobs":
        body = custom_job(wanted, problems).job
    else:
        unset = dict.fromkeys((*STUDY_FIELDS, *COUNT_FIELDS))
        counts = {"max_trial_count": TRIALS, "parallel_trial_count": AT_ONCE}
        request = tuning_job({**wanted, **unset, "metrics": GOALS, "parameters": SEARCH, **counts}, problems)
        body = tuning_body(request, request.job)
    problems.raise_if_any()
    return body


def run(kind: str, name: str, args: list[Any]) -> Any:
    """Run a job to its end and return it as it is then."""
    from google.cloud.aiplatform_v1.types import JobState

    from airflow_vertex_persistent.hooks.training_job import TrainingJobHook
    from airflow_vertex_persistent.hooks.values import enum_name
    from airflow_vertex_persistent.names import ResourceName
    from airflow_vertex_persistent.states import JobPhase, job_phase

    hook = TrainingJobHook()
    job = hook.create_job(PROJECT, REGION, kind, job_body(kind, name, args))
    deadline = time.monotonic() + LIMIT
    while not (phase := job_phase(state := enum_name(JobState, job.state))).ended:
        if time.monotonic() > deadline:
            raise TimeoutError(f"{job.name} is {state} after {LIMIT:g} s")
        time.sleep(0.3)
        job = hook.get_job(ResourceName.parse(job.name))
    if phase is not JobPhase.SUCCEEDED:
        raise RuntimeError(f"{job.name} is {state}: {job.error.message}")
    return job


def tune_and_train(seed: int) -> tuple[dict[str, Any], dict[str, float]]:
    """Tune for a night and train the final model; return the best parameters and how the model was examined."""
    from airflow_vertex_persistent.hooks.tuning import tuning_snapshot
    from airflow_vertex_persistent.trial_args import trial_args
    from airflow_vertex_persistent.trials import best_trial_result

    settings = EmulatorSettings(tuning_seed=seed)
    with VertexEmulator(images={IMAGE: TRAINER}, buckets=[BUCKET], settings=settings) as emulator:
        os.environ |= emulator.environment
        night_args = [f"--data-date={NIGHTS[seed]}"]
        tuned = run("hyperparameterTuningJobs", "tuning", [*night_args, "--validation-share=0.3"])
        best = best_trial_result(tuning_snapshot(tuned)["trials"], GOALS, None)
        if best is None:
            raise RuntimeError(f"no trial of {tuned.name} has succeeded")
        run("customJobs", "final", trial_args(best, *night_args))
        # The job has examined its model, on the held-out images and once.
        metrics = emulator.data_dir / "storage" / BUCKET / "digits" / "final" / "model" / "metrics.json"
        return best["parameters"], json.loads(metrics.read_text(encoding="utf-8"))


def examine_defaults(seed: int) -> dict[str, float]:
    """Train scikit-learn's default network on the same images; return how it was examined."""
    import night
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.neural_network import MLPClassifier

    data = night.load(NIGHTS[seed])
    with warnings.catch_warnings():
        # The default number of epochs is a default like others.
        warnings.simplefilter("ignore", ConvergenceWarning)
        return data.examine(MLPClassifier(random_state=seed).fit(data.images, data.labels))


def table_of(results: list[Result]) -> Table:
    """Return the table."""
    table = Table(
        title=f"{TRIALS} trials a night, against MLPClassifier()",
        caption="On 400 held-out images, on which each model was examined once, at the end.",
    )
    columns = (
        "seed",
        "night",
        "accuracy: tuned",
        "default",
        "log loss: tuned",
        "default",
        "won",
        "best trial",
    )
    for column in columns:
        table.add_column(column)
    for result in results:
        table.add_row(*result.row)
    return table


def main() -> int:
    """Compare, print the table and return the exit code."""
    os.environ |= {"AIRFLOW_CONN_GOOGLE_CLOUD_DEFAULT": json.dumps(CONNECTION), **ONE_THREAD}
    logging.disable(logging.WARNING)
    sys.path.insert(0, str(TRAINER))
    console = Console(width=150)
    began, results = time.monotonic(), list[Result]()
    for seed, data_date in NIGHTS.items():
        with console.status(f"Tuning for the night of {data_date}"):
            best, tuned = tune_and_train(seed)
            results.append(Result(seed, tuned, examine_defaults(seed), best))
    wins = sum(result.won for result in results)
    console.print(table_of(results))
    console.print(
        f"The tuned model is more accurate on {wins} of {len(results)} nights; "
        f"{NEEDED} are needed. It took {time.monotonic() - began:.0f} s."
    )
    return 0 if wins >= NEEDED else 1


if __name__ == "__main__":
    sys.exit(main())
