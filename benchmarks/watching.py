# SPDX-License-Identifier: Apache-2.0
"""
How cheaply many deferred tasks watch their jobs, beside the Google provider.

Real triggerers of Airflow watch jobs of the emulator, which only pretend to run. Each task has a job of its own
and asks for it every ten seconds. The emulator counts the reads; processor time and memory are those of the
triggerers' processes; the delay is from the end of a job to the moment at which its event is in Airflow's
database. The figures never fail the run: it prints which targets are met.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import platform
import resource
import tempfile
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
from local_airflow import LocalAirflow
from local_emulator import CONNECTION
from processes import free_port
from rich.console import Console
from watching_cases import OURS, SPAN, THEIRS, Case, Outcome
from watching_report import DIFFERENCE, table, targets
from watching_run import Run

if TYPE_CHECKING:
    from collections.abc import Iterator

FULL = ("100", "1000", "5000", "5000x5")
_MOST_OF_THEIRS = 1000
_DRIVERS = ("psycopg2", "asyncpg")


def cases(sizes: list[str], all_ends: list[str]) -> list[Case]:
    """
    Return what to run.

    :param sizes: Like ``1000`` or ``5000x5``: jobs, and triggerers where there are several.
    :param all_ends: Keys of ``SPAN``.
    """
    found = []
    for size in sizes:
        jobs, _, triggerers = size.partition("x")
        for ends in all_ends:
            found.append(Case(int(jobs), int(triggerers or 1), ends, OURS))
            if int(jobs) <= _MOST_OF_THEIRS:
                found.append(Case(int(jobs), int(triggerers or 1), ends, THEIRS))
    return found


def arguments() -> argparse.Namespace:
    """Return the command line; it exits with a sentence when something is missing."""
    parser = argparse.ArgumentParser(description="Compare what watching many jobs costs.")
    parser.add_argument(
        "sizes",
        nargs="*",
        default=["100"],
        help=f"jobs, as 1000, or 5000x5 for five triggerers (default: 100); full: {' '.join(FULL)}",
    )
    parser.add_argument(
        "--database",
        help="SQLAlchemy address of an empty PostgreSQL database for Airflow; needed for several triggerers "
        "(default: SQLite)",
    )
    parser.add_argument(
        "--steady", type=float, default=60, help="seconds to measure before jobs end (default: 60)"
    )
    parser.add_argument(
        "--ends", nargs="+", choices=list(SPAN), default=list(SPAN), help="when the jobs end (default: both)"
    )
    parser.add_argument(
        "--results", type=Path, help="file that keeps each outcome: what is in it already is not run again"
    )
    options = parser.parse_args()
    if options.sizes == ["full"]:
        options.sizes = list(FULL)
    if options.database is None and any("x" in size for size in options.sizes):
        parser.error("several triggerers lock each other out of SQLite: give --database; make bench does so")
    missing = [driver for driver in _DRIVERS if importlib.util.find_spec(driver) is None]
    if options.database is not None and missing:
        parser.error(
            f"{' and '.join(missing)} missing: install apache-airflow[postgres] into this environment"
        )
    return options


def kept(results: Path | None) -> dict[Case, Outcome]:
    """Return the outcomes of earlier runs."""
    if results is None or not results.exists():
        return {}
    pairs = [json.loads(line) for line in results.read_text().splitlines()]
    return {Case(**case): Outcome(**outcome) for case, outcome in pairs}


def keep(results: Path | None, case: Case, outcome: Outcome) -> None:
    """Add an outcome to those of earlier runs."""
    if results is not None:
        with results.open("a") as file:
            file.write(json.dumps([asdict(case), asdict(outcome)]) + "\n")


def run_all(
    wanted: list[Case], folder: Path, database: str | None, steady: float
) -> Iterator[tuple[Case, Outcome]]:
    """Run cases, one after the other."""
    port = free_port(0)
    environment = {
        "VERTEX_AI_EMULATOR_HOST": f"127.0.0.1:{port}",
        "AIRFLOW_CONN_GOOGLE_CLOUD_DEFAULT": json.dumps(CONNECTION),
        # Where the triggerers find the trigger that is compared with.
        "PYTHONPATH": os.pathsep.join(
            [str(Path(__file__).parent), *filter(None, [os.environ.get("PYTHONPATH")])]
        ),
    }
    (folder / "dags").mkdir()
    with LocalAirflow(
        folder / "airflow",
        folder / "dags",
        environment=environment,
        port=0,
        database=database,
        components=["api-server"],
    ) as airflow:
        for number, case in enumerate(wanted):
            print(f"{case} ...", flush=True)
            scratch = folder / f"run-{number}"
            scratch.mkdir()
            yield case, Run(case, airflow, port, scratch, steady).outcome()


def main() -> None:
    """Measure, print the table and which targets are met."""
    options = arguments()
    # A triggerer keeps a log file open for each task.
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    outcomes = kept(options.results)
    asked = cases(options.sizes, options.ends)
    if wanted := [case for case in asked if case not in outcomes]:
        with tempfile.TemporaryDirectory(prefix="watching-") as folder:
            for case, outcome in run_all(wanted, Path(folder), options.database, options.steady):
                outcomes[case] = outcome
                keep(options.results, case, outcome)
    outcomes = {case: outcomes[case] for case in asked}
    console = Console(width=120)
    console.print(table(outcomes))
    console.print(
        f"{psutil.cpu_count()} processors, {psutil.virtual_memory().total / 2**30:.0f} GiB, shared by triggerers, "
        f"emulator and database ({'PostgreSQL' if options.database else 'SQLite'}). "
        f"Python {platform.python_version()}, Airflow {version('apache-airflow')}, Google provider "
        f"{version('apache-airflow-providers-google')}. {DIFFERENCE}"
    )
    for line in targets(outcomes):
        console.print(line)


if __name__ == "__main__":
    main()
