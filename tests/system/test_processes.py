# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from processes import ProcessError, Processes, free_port, is_alive

SCRIPTS = Path(__file__).parents[2] / "scripts"
# Deaf to SIGTERM, and with a child in a session of its own that is deaf too.
STUBBORN = """
import signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
if len(sys.argv) == 1:
    subprocess.Popen([sys.executable, __file__, "child"], start_new_session=True)
print("ready", flush=True)
time.sleep(600)
"""


@pytest.fixture
def stubborn(tmp_path: Path) -> Path:
    """A program that does not want to end."""
    program = tmp_path / "stubborn.py"
    program.write_text(STUBBORN)
    return program


def start_stubborn(processes: Processes, program: Path) -> list[psutil.Process]:
    """Start the program and return its two processes."""
    processes.start("stubborn", [sys.executable, str(program)], os.environ, program.parent)
    log = processes.log_path("stubborn")
    processes.wait_for(lambda: log.read_text().count("ready") == 2, "both are ready", 30)
    found = [psutil.Process(process_id) for process_id in processes.ids()]
    assert len(found) == 2
    return found


@pytest.mark.parametrize("error", [ZeroDivisionError, KeyboardInterrupt, SystemExit])
def test_an_error_in_the_block_ends_everything(stubborn: Path, error: type[BaseException]) -> None:
    """Left by an error, the block ends a process that ignores SIGTERM and its child."""
    with contextlib.suppress(error), Processes(stubborn.parent, stop_timeout=0.5) as processes:
        found = start_stubborn(processes, stubborn)
        raise error
    assert [is_alive(process) for process in found] == [False, False]


def test_the_end_of_the_block_ends_everything(stubborn: Path) -> None:
    """Left as usual, it does the same."""
    with Processes(stubborn.parent, stop_timeout=0.5) as processes:
        found = start_stubborn(processes, stubborn)
    assert [is_alive(process) for process in found] == [False, False]


def test_sigterm_ends_everything(stubborn: Path) -> None:
    """Whoever ends the script that started them with SIGTERM ends them too."""
    script = (
        "import os, sys, pathlib, time, processes\n"
        "program = pathlib.Path(sys.argv[1])\n"
        "with processes.Processes(program.parent, 0.5) as group:\n"
        "    group.start('stubborn', [sys.executable, str(program)], os.environ, program.parent)\n"
        "    log = group.log_path('stubborn')\n"
        "    group.wait_for(lambda: log.read_text().count('ready') == 2, 'both are ready', 30)\n"
        "    print(*group.ids(), flush=True)\n"
        "    time.sleep(600)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, stubborn],
        env={**os.environ, "PYTHONPATH": str(SCRIPTS)},
        stdout=subprocess.PIPE,
        text=True,
    ) as parent:
        assert parent.stdout
        found = [psutil.Process(int(process_id)) for process_id in parent.stdout.readline().split()]
        parent.send_signal(signal.SIGTERM)
        assert parent.wait(30) == 128 + signal.SIGTERM
    assert [is_alive(process) for process in found] == [False, False]


def test_kill_ends_one_and_leaves_the_others(stubborn: Path) -> None:
    """A killed process takes what it started with it and nothing else, and its name is free again."""
    with Processes(stubborn.parent) as processes:
        processes.start(
            "other", [sys.executable, "-c", "import time; time.sleep(600)"], os.environ, stubborn.parent
        )
        (other,) = processes.ids()
        processes.start("stubborn", [sys.executable, str(stubborn)], os.environ, stubborn.parent)
        processes.wait_for(lambda: len(processes.ids()) == 3, "the child is there", 30)
        processes.kill("stubborn")
        assert processes.ids() == [other]


def test_a_signal_reaches_what_a_process_started(stubborn: Path) -> None:
    """A process and its child can be stopped and go on together."""
    with Processes(stubborn.parent, stop_timeout=0.5) as processes:
        found = start_stubborn(processes, stubborn)
        for number, stopped in ((signal.SIGSTOP, True), (signal.SIGCONT, False)):
            processes.signal("stubborn", number)
            for process in found:
                processes.wait_for(
                    lambda process=process, stopped=stopped: (  # type: ignore[misc]
                        (process.status() == psutil.STATUS_STOPPED) == stopped
                    ),
                    f"{process} has got {number.name}",
                    30,
                )


def test_an_end_can_be_waited_for(stubborn: Path) -> None:
    """A process that somebody kills is forgotten, so that its end is no error and its name is free."""
    with Processes(stubborn.parent, stop_timeout=0.5) as processes:
        command = [sys.executable, str(stubborn), "child"]
        processes.start("stubborn", command, os.environ, stubborn.parent)
        with pytest.raises(ProcessError, match="stubborn runs still"):
            processes.wait_for_end("stubborn", 0.1)
        (process,) = map(psutil.Process, processes.ids())
        process.kill()
        processes.wait_for_end("stubborn", 30)
        processes.check()
        assert processes.names() == []


def test_a_process_that_fails_is_named_with_its_last_words(tmp_path: Path) -> None:
    """Waiting for a process that has failed ends at once, with the end of its log."""
    with Processes(tmp_path) as processes:
        processes.start(
            "weak", [sys.executable, "-c", "raise SystemExit('no disk left')"], os.environ, tmp_path
        )
        with pytest.raises(ProcessError, match=r"(?s)weak ended with code 1; .*no disk left"):
            processes.wait_for(lambda: False, "never", 30)


def test_waiting_has_an_end(tmp_path: Path) -> None:
    """What does not come true in time is an error that says what it was."""
    began = time.monotonic()
    with Processes(tmp_path) as processes, pytest.raises(ProcessError, match="until the moon is full"):
        processes.wait_for(lambda: False, "the moon is full", 0.3)
    assert time.monotonic() - began >= 0.3


def test_a_port_in_use_is_left_to_its_user() -> None:
    """When the port that one would like is taken, another one is found."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert free_port(port) != port
    assert free_port(port) == port
