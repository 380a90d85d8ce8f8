# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from google.api_core.exceptions import ResourceExhausted

from airflow_vertex_persistent.names import TUNING_JOBS
from airflow_vertex_persistent.operators.training.execution import Execution
from airflow_vertex_persistent.operators.training.machines import NoMachinesError
from airflow_vertex_persistent.operators.training.own_machines import OwnMachines, Place


@pytest.mark.parametrize(
    ("strategy", "told"),
    [
        ("FLEX_START", "or with fewer or other machines, or let each trial wait longer (max_wait_duration)."),
        ("SPOT", "or with fewer or other machines."),
        ("STANDARD", "or with fewer or other machines."),
    ],
)
def test_advice_without_machines(strategy: str, told: str) -> None:
    """Nothing that a tuning task does not have, such as candidates."""
    place = Place("europe-west4", "g2-standard-4", strategy, None)
    machines = OwnMachines((place,), next_on_quota=False, kind=TUNING_JOBS)
    request: Any = SimpleNamespace(job={"job_spec": {"scheduling": {"strategy": strategy}}})
    execution = Execution.new(0, "demo-project", "europe-west4", kind=TUNING_JOBS)
    with pytest.raises(NoMachinesError) as caught:
        machines.check_refusal(ResourceExhausted("Resources are insufficient in region."), request, execution)
    text = str(caught.value.error)
    assert text.startswith("Vertex AI has not created the tuning job: ")
    assert text.endswith(told)
