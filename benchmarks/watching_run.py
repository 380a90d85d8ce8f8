# SPDX-License-Identifier: Apache-2.0
"""One run of the watching benchmark."""

from __future__ import annotations

import contextlib
import json
import math
import random
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from local_emulator import start_emulator
from processes import Processes
from watching_cases import INTERVAL, SPAN, Case, Outcome
from watching_meter import Meter
from watching_world import Database, Jobs, trigger_of

from airflow_vertex_persistent.emulator.control import EmulatorControl

if TYPE_CHECKING:
    from collections.abc import Callable

    from local_airflow import LocalAirflow
    from watching_meter import Sample

# Guesses, on the safe side, of how long it takes until all is calm: the run lengths of the jobs are set before.
_CREATED_PER_SECOND = 200.0
# A triggerer takes 50 triggers at a time, about once a second; when it has much to do it is slower.
_STARTED_PER_SECOND = 60.0
_START_SECONDS = 30.0
_CALM_AFTER = 2 * INTERVAL
_LATEST_EVENT = 300.0
_ROWS_TIMEOUT = 300.0


class Run:
    """
    A run: an emulator and triggerers of its own, in an Airflow that goes on.

    :param case: What to run.
    :param airflow: Where; it has a database and an API server.
    :param port: Of the emulator, as Airflow's environment says.
    :param folder: Scratch folder.
    :param steady: Seconds of calm to measure before the first job ends.
    """

    def __init__(self, case: Case, airflow: LocalAirflow, port: int, folder: Path, steady: float) -> None:
        self._case = case
        self._airflow = airflow
        self._folder = folder
        self._port = port
        self._steady = steady
        self._run_id = folder.name
        self._triggerers = [f"{self._run_id}-{number}" for number in range(case.triggerers)]

    def outcome(self) -> Outcome:
        """Run, and return what it cost."""
        with contextlib.ExitStack() as stack:
            processes = stack.enter_context(Processes(self._folder / "processes"))
            settings: dict[str, float | str] = {
                "port": self._port,
                "executor": "simulate",
                "provisioning-seconds": 0,
            }
            start_emulator(processes, self._folder / "cloud", images={}, buckets=[], settings=settings)
            address = f"127.0.0.1:{self._port}"
            control = stack.enter_context(EmulatorControl(address))
            database = Database(self._airflow.database, self._run_id)
            stack.callback(database.close)
            jobs = Jobs(address)
            stack.callback(jobs.close)
            first_end, last_end, names = self._create(jobs)
            self._defer(names)
            control.reset_calls()
            self._start_triggerers(stack)
            meter = Meter(control, lambda: self._airflow.processes.ids(*self._triggerers))
            calm = self._watch(meter, database, last_end)
            spent = meter.between(calm, first_end)
            return self._outcome(meter, spent, self._delays(names, jobs.ends(), database.events()))

    def _create(self, jobs: Jobs) -> tuple[float, float, list[str]]:
        """Create the jobs; return when the first and the last will end, and their names."""
        count, triggerers = self._case.jobs, self._case.triggerers
        until_watched = (
            count / _CREATED_PER_SECOND + count / triggerers / _STARTED_PER_SECOND + _START_SECONDS
        )
        first_end = time.time() + until_watched + _CALM_AFTER + self._steady
        span = SPAN[self._case.ends]
        ends = [first_end + span * number / count for number in range(count)]
        random.Random(count).shuffle(ends)  # noqa: S311 - neither the oldest job ends first nor the youngest
        names = [jobs.create(number, end) for number, end in enumerate(ends)]
        return first_end, first_end + span, names

    def _defer(self, names: list[str]) -> None:
        """Write a deferred task for each job."""
        triggers = [trigger_of(self._case.whose, number, name) for number, name in enumerate(names)]
        rows = self._folder / "triggers.json"
        rows.write_text(json.dumps(triggers))
        command = [sys.executable, str(Path(__file__).with_name("deferred_rows.py")), self._run_id, str(rows)]
        processes, name = self._airflow.processes, f"{self._run_id}-rows"
        processes.start(name, command, self._airflow.environment, self._folder)
        processes.finish(name, _ROWS_TIMEOUT)

    def _start_triggerers(self, stack: contextlib.ExitStack) -> None:
        capacity = math.ceil(self._case.jobs / self._case.triggerers)
        for name in self._triggerers:
            self._airflow.start("triggerer", name, "--capacity", str(capacity))
            stack.callback(self._airflow.kill, name)

    def _watch(self, meter: Meter, database: Database, last_end: float) -> float:
        """Measure until every event has come, or none will any more; return from when on all was calm."""

        def measured(condition: Callable[[], bool]) -> bool:
            if not meter.due():
                return False
            meter.take()
            return condition()

        wait_for = self._airflow.processes.wait_for
        wait_for(
            lambda: measured(lambda: database.assigned() == self._case.jobs), "all are watched", _LATEST_EVENT
        )
        calm = time.time() + _CALM_AFTER
        # An event that does not come is a result, not an error.
        given_up = last_end + _LATEST_EVENT
        wait_for(
            lambda: measured(lambda: time.time() > given_up or not database.deferred()),
            "all is over",
            given_up - time.time() + _LATEST_EVENT,
        )
        return calm

    @staticmethod
    def _delays(
        names: list[str], ends: dict[str, float], events: dict[int, tuple[float, str]]
    ) -> list[float]:
        """Return the seconds from the end to the event, of each event that tells of its own job's end."""
        return [
            events[number][0] - ends[name]
            for number, name in enumerate(names)
            if number in events and name in events[number][1] and "JOB_STATE_SUCCEEDED" in events[number][1]
        ]

    def _outcome(self, meter: Meter, spent: tuple[Sample, Sample], delays: list[float]) -> Outcome:
        start, end = spent
        minutes = (end.at - start.at) / 60
        return Outcome(
            steady_reads=(end.reads - start.reads) / minutes,
            most_reads=meter.busiest_minute(),
            cpu=(end.cpu - start.cpu) / minutes,
            mib=meter.peak_mib(),
            delays=delays,
            lost=self._case.jobs - len(delays),
        )
