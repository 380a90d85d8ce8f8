# SPDX-License-Identifier: Apache-2.0
"""The life of a persistent resource."""

from __future__ import annotations

from airflow_vertex_persistent.operators.persistent_resource.base import (
    PersistentResourceOperator,
    WaitingResourceOperator,
)
from airflow_vertex_persistent.operators.persistent_resource.creation import CreatePersistentResourceOperator
from airflow_vertex_persistent.operators.persistent_resource.deletion import DeletePersistentResourceOperator
from airflow_vertex_persistent.operators.persistent_resource.look import (
    GetPersistentResourceOperator,
    ListPersistentResourcesOperator,
)
from airflow_vertex_persistent.operators.persistent_resource.reboot import RebootPersistentResourceOperator

__all__ = [
    "CreatePersistentResourceOperator",
    "DeletePersistentResourceOperator",
    "GetPersistentResourceOperator",
    "ListPersistentResourcesOperator",
    "PersistentResourceOperator",
    "RebootPersistentResourceOperator",
    "WaitingResourceOperator",
]
