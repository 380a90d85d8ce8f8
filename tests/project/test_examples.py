# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "dags_examples"

# Reads the file the way Airflow's dag processor does.
LOAD = """
import json, sys
from airflow.dag_processing.dagbag import DagBag
bag = DagBag(sys.argv[1])
print(json.dumps([list(bag.dags), bag.import_errors]))
"""

LAST = """
import json, sys
from airflow.dag_processing.dagbag import DagBag
(dag,) = DagBag(sys.argv[1]).dags.values()
print(json.dumps({task.task_id: task.is_teardown for task in dag.tasks if not task.downstream_list}))
"""


@pytest.fixture(params=sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.name)
def example(request: pytest.FixtureRequest) -> Path:
    """Return one example DAG file."""
    path = request.param
    assert isinstance(path, Path)
    return path


def test_there_are_examples() -> None:
    """The folder is where the other tests look for it."""
    assert list(EXAMPLES.glob("*.py"))


def test_an_example_defines_a_dag(example: Path, tmp_path: Path) -> None:
    """A file in the DAG folder imports without a warning and gives one DAG, named like the file."""
    finished = subprocess.run(
        [sys.executable, "-W", "error", "-c", LOAD, example],
        check=False,
        capture_output=True,
        text=True,
        env={**os.environ, "AIRFLOW_HOME": str(tmp_path)},
    )
    assert finished.returncode == 0, finished.stderr
    dags, errors = json.loads(finished.stdout.splitlines()[-1])
    assert errors == {}
    assert dags == [example.stem]


def test_a_failed_run_is_red(example: Path, tmp_path: Path) -> None:
    """A DAG that deletes something at its end has other tasks at its end too: they decide whether its run failed."""
    finished = subprocess.run(
        [sys.executable, "-c", LAST, example],
        check=True,
        capture_output=True,
        text=True,
        env={**os.environ, "AIRFLOW_HOME": str(tmp_path)},
    )
    last = json.loads(finished.stdout.splitlines()[-1])
    assert False in last.values(), f"only teardowns at the end: {last}"


def test_an_example_is_shown_in_the_docs(example: Path, root: Path) -> None:
    """The docs include each example from its file, so that what they show is what runs."""
    pages = list((root / "docs").rglob("*.rst"))
    assert pages
    pattern = re.compile(rf"^\.\. literalinclude:: (\.\./)+dags_examples/{example.name}$", re.MULTILINE)
    assert any(pattern.search(page.read_text()) for page in pages)
