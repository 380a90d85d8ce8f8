# SPDX-License-Identifier: Apache-2.0
"""What the log of a tuning task says while its job runs, and what the event leaves out."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Self

from heard import Heard

from airflow_vertex_persistent.triggers.tuning_job import TuningJobTrigger

if TYPE_CHECKING:
    from airflow_vertex_persistent.names import ResourceName

JOB = "projects/1/locations/europe-west4/hyperparameterTuningJobs/7"


def trial(number: int, state: str, accuracy: float | None = None, reason: str = "") -> dict[str, Any]:
    """Return a trial."""
    return {
        "id": str(number),
        "state": state,
        "parameters": {"layers": number},
        "metrics": {} if accuracy is None else {"accuracy": accuracy},
        "step": None,
        "measurements": [],
        "start_time": "2026-11-26T01:00:00.000+00:00",
        "end_time": "2026-11-26T01:00:30.000+00:00" if state in {"SUCCEEDED", "INFEASIBLE"} else None,
        "custom_job": None,
        "infeasible_reason": reason,
    }


def look(state: str, *trials: dict[str, Any]) -> dict[str, Any]:
    """Return what one look at the job says."""
    ended = state not in {"RUNNING", "PENDING"}
    tuning = {
        "display_name": "search",
        "goals": {"accuracy": "maximize"},
        "max_trial_count": 4,
        "max_failed_trial_count": 0,
        "trials": list(trials),
    }
    return {
        "job": JOB,
        "state": f"JOB_STATE_{state}",
        "persistent_resource_id": None,
        "strategy": None,
        "output_dir": None,
        "max_run_seconds": None,
        "max_wait_seconds": None,
        "create_time": "2026-11-26T01:00:00.000+00:00",
        "start_time": "2026-11-26T01:00:00.000+00:00",
        "end_time": "2026-11-26T01:05:00.000+00:00" if ended else None,
        "error_code": 0,
        "error_message": "",
        "tuning": tuning,
    }


class Service:
    """Answers one look after the other."""

    def __init__(self, *looks: dict[str, Any]) -> None:
        self.looks = list(looks)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close nothing."""

    async def tuning_snapshot(self, name: ResourceName) -> dict[str, Any]:
        """Return what the job is like now."""
        assert str(name) == JOB
        return self.looks.pop(0)


class Trigger(Heard, TuningJobTrigger):
    """The trigger, in a service of the test's."""

    def __init__(self, *looks: dict[str, Any]) -> None:
        super().__init__(
            job=JOB,
            cancel_on_kill=True,
            region="europe-west4",
            gcp_conn_id="google_cloud_default",
            impersonation_chain=None,
            poll_interval=1e-6,
            max_outage=10.0,
        )
        self.service: Any = Service(*looks)

    def hook(self) -> Any:
        """Return the service."""
        return self.service


def test_trials_show_once_each_as_they_end() -> None:
    """A line says how far it is, a table has the trials that are new, and nothing is said again."""
    first = look("RUNNING", trial(1, "SUCCEEDED", 0.9), trial(2, "ACTIVE"))
    second = look(
        "RUNNING",
        trial(1, "SUCCEEDED", 0.9),
        trial(2, "INFEASIBLE", reason="out of memory\nmore"),
        trial(3, "SUCCEEDED", 0.95),
    )
    trigger = Trigger(look("RUNNING"), first, first, second, look("SUCCEEDED", *second["tuning"]["trials"]))
    event = asyncio.run(trigger.watch())
    none, one, three = (line for line in trigger.heard.lines if "trials done" in line)
    assert none == "0 of 4 trials done"
    summary, _, *rows, legend = one.splitlines()
    assert summary == "1 of 4 trials done, 1 running; best: trial 1, accuracy 0.9"
    assert [row.split()[:3] for row in rows] == [["*", "1", "SUCCEEDED"]]
    assert legend == "* the best trial"
    summary, _, *rows, _ = three.splitlines()
    assert summary == "3 of 4 trials done (1 infeasible); best: trial 3, accuracy 0.95"
    assert [row.replace("*", "").split()[0] for row in rows] == ["2", "3"]
    assert rows[0].endswith("out of memory")
    assert event["status"] == "settled"


def test_the_event_has_no_trials() -> None:
    """However many there are: it is written into Airflow's database."""
    trials = [trial(number, "SUCCEEDED", 0.5) for number in range(1, 200)]
    event = asyncio.run(Trigger(look("SUCCEEDED", *trials)).watch())
    assert event["snapshot"] is not None
    assert "tuning" not in event["snapshot"]
    assert len(str(event)) < 1000


def test_a_job_that_was_cancelled_is_told_as_far_as_it_was_seen() -> None:
    """Without a look of its own."""
    seen = look("RUNNING", trial(1, "SUCCEEDED", 0.9))
    event = asyncio.run(Trigger(seen, look("CANCELLED", trial(1, "SUCCEEDED", 0.9))).watch())
    assert event["details"] == {"tuning": "1 of 4 trials done; best: trial 1, accuracy 0.9"}
