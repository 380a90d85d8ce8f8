# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from unittest.mock import Mock

import pytest
from airflow.sdk.exceptions import AirflowRuntimeError, ErrorType
from airflow.sdk.execution_time.comms import ErrorResponse

from airflow_vertex_persistent import links
from airflow_vertex_persistent.operators.custom_job import PersistentResourceCustomJobOperator
from airflow_vertex_persistent.operators.persistent_resource import (
    CreatePersistentResourceOperator,
    DeletePersistentResourceOperator,
)

if TYPE_CHECKING:
    from airflow_vertex_persistent.operators.base import VertexOperator


def test_each_button_has_its_own_name_and_key() -> None:
    """Two buttons of one task never share a label or an XCom key, or one would show the other's address."""
    buttons = [links.TrainingJobLink(), links.TrainingLogsLink(), links.PersistentResourcesLink()]
    assert [button.name for button in buttons] == ["Vertex AI job", "Vertex AI logs", "Persistent resources"]
    assert len({button.xcom_key for button in buttons}) == len(buttons)


@pytest.mark.parametrize(
    ("operator", "buttons"),
    [
        (PersistentResourceCustomJobOperator, ["Vertex AI job", "Vertex AI logs", "Persistent resources"]),
        (CreatePersistentResourceOperator, ["Persistent resources"]),
        (DeletePersistentResourceOperator, ["Persistent resources"]),
    ],
)
def test_which_task_has_which_buttons(operator: type[VertexOperator], buttons: list[str]) -> None:
    """Every operator shows the buttons of what it works on."""
    assert [link.name for link in operator.operator_extra_links] == buttons


@pytest.mark.parametrize("refused", [0, 1, 2])
def test_no_task_fails_for_a_button(refused: int) -> None:
    """A push that Airflow refuses is tried once more, and then said in the log."""
    error = AirflowRuntimeError(ErrorResponse(error=ErrorType.API_SERVER_ERROR, detail={"status_code": 409}))
    push = Mock(side_effect=[error] * refused + [None])
    context: Any = {"ti": Mock(xcom_push=push), "task": Mock()}
    links.TrainingJobLink().persist(context, "https://example.org/job")
    assert push.call_count == min(refused + 1, 2)
    assert context["task"].log.warning.call_count == (refused == 2)
