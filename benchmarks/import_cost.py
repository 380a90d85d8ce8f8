# SPDX-License-Identifier: Apache-2.0
"""
What it costs to import this provider in a DAG file, beside ``airflow.sdk`` and the Google provider.

The last rows are what a worker imports to tune hyperparameters: there the hooks and Google's client come in as well.
Each candidate is imported in fresh processes of its own, in turns, so that a slow minute of the machine hits
all of them. The table shows medians. Time is that of the import statements alone, without starting Python;
memory is how much the process's resident set grew by them; modules are entries of ``sys.modules``.
The figures never fail the run: it prints whether the target is met.
"""

from __future__ import annotations

import argparse
import json
import pkgutil
import platform
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from importlib.metadata import version
from statistics import median

from rich.console import Console
from rich.table import Table

import airflow_vertex_persistent

PACKAGE = airflow_vertex_persistent.__name__
ROOMS = ("operators", "sensors", "triggers", "links")
GOOGLE = "airflow.providers.google.cloud"

TARGET_SECONDS = 0.1
TARGET_MIB = 8.0

# Runs in the fresh process. psutil is imported first: Airflow uses it as well, so it is in no difference.
MEASURE = """
import importlib, json, sys, time
import psutil
process = psutil.Process()
memory, modules, start = process.memory_info().rss, len(sys.modules), time.perf_counter()
for name in sys.argv[1:]:
    importlib.import_module(name)
seconds = time.perf_counter() - start
print(json.dumps([seconds, (process.memory_info().rss - memory) / 2**20, len(sys.modules) - modules]))
"""


@dataclass(frozen=True)
class Cost:
    """Medians of what one candidate's import costs."""

    seconds: float
    mib: float
    modules: float


def our_modules() -> list[str]:
    """Return every module of ours that a DAG file may import, found without importing it."""
    (root,) = airflow_vertex_persistent.__path__
    names = []
    for room in pkgutil.iter_modules([root]):
        if room.name in ROOMS:
            inside = pkgutil.iter_modules([f"{root}/{room.name}"])
            names += [f"{PACKAGE}.{room.name}"]
            names += [f"{PACKAGE}.{room.name}.{module.name}" for module in inside]
    return names


def our_tuning_hooks() -> list[str]:
    """Return the hooks that a task of ours imports to tune, to watch that, and to write all trials."""
    names = ("training_job", "persistent_resource", "tuning", "storage")
    return [f"{PACKAGE}.hooks.{name}" for name in names]


def measure(modules: list[str], home: str) -> Cost:
    """Import some modules in a fresh process and return what that took."""
    finished = subprocess.run(
        [sys.executable, "-c", MEASURE, *modules],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
        env={"AIRFLOW_HOME": home, "PATH": ""},
    )
    return Cost(*json.loads(finished.stdout.splitlines()[-1]))


def measure_all(candidates: dict[str, list[str]], repeats: int) -> dict[str, Cost]:
    """Measure every candidate in turns and return the medians; a first, unmeasured turn warms the disk."""
    samples: dict[str, list[Cost]] = {name: [] for name in candidates}
    with tempfile.TemporaryDirectory() as home:
        for turn in range(repeats + 1):
            for name, modules in candidates.items():
                cost = measure(modules, home)
                if turn:
                    samples[name].append(cost)
    return {
        name: Cost(
            median(cost.seconds for cost in costs),
            median(cost.mib for cost in costs),
            median(cost.modules for cost in costs),
        )
        for name, costs in samples.items()
    }


def table(costs: dict[str, Cost], baseline: Cost, repeats: int) -> Table:
    """Return the comparison, with what each candidate adds to the baseline."""
    result = Table(title=f"Import cost, median of {repeats} fresh processes each")
    result.add_column("imported")
    for column in ("seconds", "MiB resident", "modules", "adds s", "adds MiB", "adds modules", "time"):
        result.add_column(column, justify="right")
    for name, cost in costs.items():
        result.add_row(
            name,
            f"{cost.seconds:.2f}",
            f"{cost.mib:.1f}",
            f"{cost.modules:.0f}",
            f"{cost.seconds - baseline.seconds:+.2f}",
            f"{cost.mib - baseline.mib:+.1f}",
            f"{cost.modules - baseline.modules:+.0f}",
            f"x {cost.seconds / baseline.seconds:.2f}",
        )
    return result


def main() -> None:
    """Measure, print the table and whether the target is met."""
    parser = argparse.ArgumentParser(description="Compare what importing costs.")
    parser.add_argument("--repeats", type=int, default=7, help="fresh processes per candidate (default: 7)")
    repeats = parser.parse_args().repeats

    alone, ours, theirs, our_tuning, their_tuning = (
        "airflow.sdk alone",
        "this provider, all of it",
        "Google provider, Vertex AI training",
        "worker: our tuning operator",
        "worker: Google's tuning operator",
    )
    candidates = {
        alone: ["airflow.sdk"],
        ours: ["airflow.sdk", *our_modules()],
        theirs: [
            "airflow.sdk",
            f"{GOOGLE}.operators.vertex_ai.custom_job",
            f"{GOOGLE}.operators.vertex_ai.hyperparameter_tuning_job",
            f"{GOOGLE}.triggers.vertex_ai",
        ],
        our_tuning: ["airflow.sdk", f"{PACKAGE}.operators.hyperparameter_tuning", *our_tuning_hooks()],
        their_tuning: ["airflow.sdk", f"{GOOGLE}.operators.vertex_ai.hyperparameter_tuning_job"],
    }
    costs = measure_all(candidates, repeats)

    console = Console(width=120)
    console.print(table(costs, costs[alone], repeats))
    console.print(
        f"Python {platform.python_version()}, Airflow {version('apache-airflow')}, Google provider "
        f"{version('apache-airflow-providers-google')}. Of this provider: every operator, sensor, trigger and link."
    )
    seconds = costs[ours].seconds - costs[alone].seconds
    mib = costs[ours].mib - costs[alone].mib
    verdict = "met" if seconds <= TARGET_SECONDS and mib <= TARGET_MIB else "NOT met"
    console.print(
        f"Target {verdict}: at most {TARGET_SECONDS} s and {TARGET_MIB:.0f} MiB more than airflow.sdk alone; "
        f"it is {seconds:+.2f} s and {mib:+.1f} MiB."
    )
    our, their = costs[our_tuning], costs[their_tuning]
    seconds = (our.seconds - costs[alone].seconds) / (their.seconds - costs[alone].seconds)
    mib = (our.mib - costs[alone].mib) / (their.mib - costs[alone].mib)
    console.print(
        f"What a worker imports to tune adds {seconds:.2f} times the time and {mib:.2f} times the memory of Google's."
    )


if __name__ == "__main__":
    main()
