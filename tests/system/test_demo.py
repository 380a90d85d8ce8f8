# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest
from processes import is_alive

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROOT = Path(__file__).parents[2]
# Far more than it takes: a slow machine is no failure.
DEADLINE = 400.0
pytestmark = pytest.mark.timeout(500)


class RunningDemo:
    """The demo as a person starts it, its output in a file, and every process that it ever started."""

    def __init__(self, scratch: Path) -> None:
        self.scratch = scratch / "tmp"
        self.scratch.mkdir()
        self._output = scratch / "output"
        self._seen: set[psutil.Process] = set()
        with self._output.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, ROOT / "scripts" / "demo.py"],
                env={**os.environ, "TMPDIR": str(self.scratch)},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    @property
    def output(self) -> str:
        """What it has printed so far."""
        return self._output.read_text()

    def run_until(self, condition: Callable[[], bool]) -> None:
        """Let it run until something is true, and note which processes it has."""
        deadline = time.monotonic() + DEADLINE
        while not condition():
            assert time.monotonic() < deadline, self.output
            assert self.process.poll() is None, self.output
            self._seen.update(psutil.Process(self.process.pid).children(recursive=True))
            time.sleep(0.2)

    def end(self) -> int:
        """Wait for its end and return its exit code."""
        self.run_until(lambda: self.process.poll() is not None)
        return int(self.process.returncode)

    def left_over(self) -> list[str]:
        """Return the processes that are still there."""
        assert self._seen
        return [str(process) for process in self._seen if is_alive(process)]


def without_figures(text: str) -> str:
    """Leave out what differs from run to run: times, numbers, and how wide they make a column."""
    text = re.sub(r"(\d+ min )?\d+ s", "T", text)
    text = re.sub(r"\d+(\.\d+)?(e-\d+)?", "#", text)
    return re.sub(r" +", " ", re.sub(r"[━─]+", "-", text))


@pytest.fixture
def demo(tmp_path: Path) -> Iterator[RunningDemo]:
    """The demo, just started; if the test fails it is ended."""
    running = RunningDemo(tmp_path)
    yield running
    if running.process.poll() is None:
        running.process.terminate()
        running.process.wait(60)


def test_the_demo_shows_a_night_from_start_to_end(demo: RunningDemo) -> None:
    """It ends well, as the README says, with a model that is really there, and nothing is left."""
    assert demo.end() == 0, demo.output
    assert "a scheduled run" in demo.output
    quoted = re.search(r"\$ make demo\n\.\.\.\n(.*?)\n\n\$", (ROOT / "README.md").read_text(), re.DOTALL)
    assert quoted
    assert without_figures(quoted[1]) in without_figures(demo.output)
    for task in ("create_resource", "tune", "delete_resource", "train", "evaluate", "promote_or_keep"):
        assert re.search(rf"│ {task} +│ success ", demo.output), demo.output
    for task in ("tune", "train", "evaluate"):
        assert re.search(rf"│ {task} +│ success +│ \d+ +│ +\d+ s │ +(\d+ min )?\d+ s │", demo.output)
    assert re.search(r"^Tuning    trial \d is the best of 8, ", demo.output, re.MULTILINE)
    assert "Decision  promoted: first model" in demo.output
    for file in (r" +(/.*model\.joblib)", r"Report +(/.*report\.html)"):
        written = re.search(rf"^{file}$", demo.output, re.MULTILINE)
        assert written
        assert Path(written[1]).stat().st_size > 0
    assert not demo.left_over()
    assert not list(demo.scratch.iterdir())


@pytest.mark.soak  # it takes a demo of its own, a minute
def test_ctrl_c_ends_the_demo_with_everything_it_started(demo: RunningDemo) -> None:
    """While trials run, Ctrl-C ends emulator, Airflow and the trials, and removes what they wrote."""
    demo.run_until(lambda: bool(re.search(r"tune +deferred +job \d+ RUNNING", demo.output)))
    demo.process.send_signal(signal.SIGINT)
    assert demo.end() == 130, demo.output
    assert "Interrupted" in demo.output
    assert not demo.left_over()
    assert not list(demo.scratch.iterdir())
