# SPDX-License-Identifier: Apache-2.0
"""
Show a night: the emulator and Airflow start, the scheduler runs the nightly retraining, and all ends.

``python scripts/demo.py`` needs no cloud account and no network. Everything listens on loopback and writes
to a scratch folder. With ``--keep`` Airflow's pages stay up until Ctrl-C.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from demo_view import RunView, closing_table, duration
from local_airflow import PASSWORD, USER, LocalAirflow
from local_emulator import PROJECT, start_emulator
from processes import ProcessError, Processes
from rich.console import Console

if TYPE_CHECKING:
    from collections.abc import Mapping

    from demo_cloud import Cloud

ROOT = Path(__file__).parents[1]
DAGS = ROOT / "dags_examples"
MODEL = ROOT / "build" / "demo"
DAG_ID = "nightly_retraining"
# As the DAG has them.
BUCKET = "nightly-models"
IMAGE = "europe-west4-docker.pkg.dev/acme/training/digits:1"
# Seconds. On Vertex AI a persistent resource takes minutes to come and to go; here one should see both.
DELAYS = {"resource-provisioning-seconds": 8, "warm-start-seconds": 1, "resource-teardown-seconds": 2}
RUN_TIMEOUT = 60.0
ENDED_BY_INTERRUPT = 130
ENDED_BY_SIGTERM = 143


class Demo:
    """
    One showing.

    :param console: Where to show it.
    :param scratch: Folder for everything that is written meanwhile.
    :param keep: Leave Airflow's pages up until Ctrl-C.
    """

    def __init__(self, console: Console, scratch: Path, *, keep: bool) -> None:
        self._console = console
        self._scratch = scratch
        self._keep = keep

    def run(self) -> int:
        """Show it and return the exit code."""
        with contextlib.ExitStack() as stack:
            try:
                return 0 if self._show(stack) else 1
            except KeyboardInterrupt:
                # Said before it is done: it takes seconds.
                self._console.print("Interrupted: ending every process.")
                raise

    def _show(self, stack: contextlib.ExitStack) -> bool:
        processes = stack.enter_context(Processes(self._scratch / "processes"))
        began = time.monotonic()
        with self._console.status("Starting the Vertex AI emulator"):
            environment = start_emulator(
                processes,
                self._scratch / "cloud",
                images={IMAGE: DAGS / "trainer"},
                buckets=[BUCKET],
                settings=DELAYS,
            )
        self._say("Vertex AI emulator", environment["VERTEX_AI_EMULATOR_HOST"], began)
        airflow = LocalAirflow(self._scratch / "airflow", DAGS, environment=environment)
        began = time.monotonic()
        with self._console.status(
            "Starting Airflow: database, API server, DAG processor, scheduler, triggerer"
        ):
            stack.enter_context(airflow)
        self._say("Airflow", airflow.url, began)
        # Imported when Airflow is up: its processes need both cores until then.
        from demo_cloud import Cloud

        cloud = Cloud(environment["VERTEX_AI_EMULATOR_HOST"], PROJECT, self._scratch / "cloud")
        stack.callback(cloud.close)
        succeeded = self._show_run(airflow, cloud, processes)
        if self._keep:
            self._wait_for_ctrl_c(airflow, environment)
        return succeeded

    def _show_run(self, airflow: LocalAirflow, cloud: Cloud, processes: Processes) -> bool:
        api = airflow.api
        run = self._scheduled_run(airflow)
        began = time.monotonic()
        view = RunView(self._console, api, cloud, run)
        for _ in view.looks():
            processes.check()
            airflow.processes.check()
            time.sleep(0.3)
        run_id = run["dag_run_id"]
        results = {task: api.xcom(DAG_ID, run_id, task) for task in view.rows}
        self._console.print()
        self._console.print(closing_table(view.rows, results))
        failed = [task for task, row in view.rows.items() if row.state == "failed"]
        if failed:
            self._show_logs(airflow, run_id, failed)
        else:
            self._show_model(cloud, results)
        self._console.print(f"The run took {duration(time.monotonic() - began)}.")
        return not failed

    def _scheduled_run(self, airflow: LocalAirflow) -> dict[str, Any]:
        """Switch the DAG on and return the run that the scheduler then starts."""
        api = airflow.api
        with self._console.status("Waiting for the scheduler"):
            airflow.processes.wait_for(
                lambda: DAG_ID in api.dags() or bool(api.import_errors()), f"{DAG_ID} is read", RUN_TIMEOUT
            )
            if errors := api.import_errors():
                raise ProcessError("\n".join(errors))
            api.unpause(DAG_ID)
            airflow.processes.wait_for(
                lambda: bool(api.dag_runs(DAG_ID)), f"{DAG_ID} is scheduled", RUN_TIMEOUT
            )
        run = api.dag_runs(DAG_ID)[0]
        self._console.print(
            f"The scheduler has started {DAG_ID}: a {run['run_type']} run for {run['run_after']}"
        )
        self._console.print()
        return run

    def _show_model(self, cloud: Cloud, results: Mapping[str, Any]) -> None:
        tune, train, decision = (results[task] for task in ("tune", "train", "promote_or_keep"))
        MODEL.mkdir(parents=True, exist_ok=True)
        files = [f"{train['model_dir']}/{name}" for name in ("metrics.json", "model.joblib")]
        for uri in (*files, tune["report_uri"]):
            # The scratch folder is about to go; these should be there to look at.
            shutil.copy(cloud.file(uri), MODEL)
        metrics = json.loads((MODEL / "metrics.json").read_text())
        best, trials = tune["best_trial"], tune["trial_counts"]
        chosen = ", ".join(f"{name} {value:.4g}" for name, value in best["parameters"].items())
        self._console.print()
        self._console.print(
            f"Tuning    trial {best['id']} is the best of {trials['total']}, log loss "
            f"{best['metrics']['log_loss']:.4f}: {chosen}"
        )
        self._console.print(f"Decision  {decision['decision']}: {decision['reason']}")
        self._console.print(
            f"Metrics   accuracy {metrics['accuracy']:.4f}, log loss {metrics['log_loss']:.4f} "
            f"on {metrics['held_out_images']} held-out images after {metrics['epochs']} epochs"
        )
        self._console.print(f"Model     {train['model_dir']}/model.joblib")
        self._console.print(f"          {MODEL / 'model.joblib'}")
        self._console.print(f"Report    {MODEL / 'report.html'}")

    def _show_logs(self, airflow: LocalAirflow, run_id: str, failed: list[str]) -> None:
        instances = airflow.api.task_instances(DAG_ID, run_id)
        for task in failed:
            log = airflow.api.log(DAG_ID, run_id, task, instances[task]["try_number"])
            self._console.rule(f"{task} failed; the end of its log")
            self._console.print("\n".join(log.splitlines()[-25:]), markup=False, highlight=False)

    def _wait_for_ctrl_c(self, airflow: LocalAirflow, environment: Mapping[str, str]) -> None:
        self._console.print()
        self._console.print(f"Airflow   {airflow.url}  (user {USER}, password {PASSWORD})")
        address = environment["VERTEX_AI_EMULATOR_HOST"]
        command = os.path.relpath(Path(sys.executable).with_name("vertex-emulator"))
        self._console.print(f"Emulator  {command} jobs --host {address}")
        self._console.print("Both stay up until Ctrl-C.")
        try:
            while True:
                airflow.processes.check()
                time.sleep(1)
        except KeyboardInterrupt:
            self._console.print("Ending every process.")

    def _say(self, what: str, where: str, began: float) -> None:
        self._console.print(f"{what:18}  {where:28}  ready after {duration(time.monotonic() - began)}")


def main() -> int:
    """Run the demo as the command line asks."""
    parser = argparse.ArgumentParser(description="Show a night: emulator, Airflow, a scheduled retraining.")
    parser.add_argument("--keep", action="store_true", help="leave Airflow's pages up until Ctrl-C")
    keep = parser.parse_args().keep
    # A shell that starts us in the background has Ctrl-C ignored; a demo always ends by it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    # A line that is too long may run over the edge: broken in two it could not be copied or searched.
    console = Console(highlight=False, soft_wrap=True)
    scratch = Path(tempfile.mkdtemp(prefix="nightly-retraining-"))
    try:
        code = Demo(console, scratch, keep=keep).run()
    except KeyboardInterrupt:
        code = ENDED_BY_INTERRUPT
    except SystemExit:
        code = ENDED_BY_SIGTERM
    except ProcessError as error:
        console.print(f"The demo failed: {error}", markup=False)
        code = 1
    if keep or code == 1:
        console.print(f"Logs and files of this demo: {scratch}")
    else:
        shutil.rmtree(scratch)
    return code


if __name__ == "__main__":
    sys.exit(main())
