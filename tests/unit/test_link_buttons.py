# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

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
