# SPDX-License-Identifier: Apache-2.0
"""Tasks that share a persistent resource, with a real scheduler and triggerer between them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from airflow_vertex_persistent.emulator.faults import FaultKind

if TYPE_CHECKING:
    from stage import Stage, Training

REGION = "europe-west4"

pytestmark = pytest.mark.timeout(600)


def resource_of(training: Training) -> str:
    """Return the state of the persistent resource that the runs of a DAG share."""
    return training.stage.cloud.resource_state(REGION, training.dag_id.replace("_", "-"))


def deletion(training: Training) -> dict[str, Any]:
    """Wait until a run has succeeded and return what its teardown has returned."""
    api, run = training.stage.airflow.api, (training.dag_id, training.run_id)
    training.stage.wait_for(
        lambda: api.dag_run(*run)["state"] in {"success", "failed"}, f"{training.run_id} has ended"
    )
    assert {task["state"] for task in api.task_instances(*run).values()} == {"success"}
    return dict(api.xcom(*run, "delete"))


def test_the_last_one_out_deletes(stage: Stage, mode: str) -> None:
    """A run that ends before another leaves the resource to it; whoever is last deletes it, also of two at once."""
    first, second = (stage.begin(f"shared_{mode}") for _ in range(2))
    for training in (first, second):
        training.wait_until_watched()
    first.let_end()
    left = deletion(first)
    assert not left["deleted"]
    (job,) = second.jobs()
    assert [text.partition(" (")[0] for text in left["used_by"]] == [f"job {job.name.rpartition('/')[2]}"]
    assert resource_of(second) == "RUNNING"
    third = stage.begin(f"shared_{mode}")
    third.wait_until_watched()
    for training in (second, third):
        training.let_end()
    assert any(deletion(training)["deleted"] for training in (second, third))
    assert resource_of(third) == "is not there"
    assert [training.states() for training in (first, second, third)] == [["SUCCEEDED"]] * 3


def test_machines_that_are_taken_are_waited_for(stage: Stage, mode: str) -> None:
    """A task whose job got no machines tries again after a pause, within the same attempt, and goes on watching."""
    stage.control.clear_faults()
    stage.control.add_fault("CreateCustomJob", FaultKind.STOCKOUT, times=2)
    training = stage.begin(f"queued_{mode}")
    training.let_end()
    training.wait_for_task("success")
    assert training.states() == ["FAILED", "FAILED", "SUCCEEDED"]
    assert training.result()["job"] == training.jobs()[-1].name
    assert training.log().count("Trying again in") == 2
