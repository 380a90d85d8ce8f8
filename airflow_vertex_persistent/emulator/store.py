# SPDX-License-Identifier: Apache-2.0
"""Where jobs, persistent resources and operations are kept."""

from __future__ import annotations

from typing import TYPE_CHECKING

from google.cloud.aiplatform_v1.types import PersistentResource
from google.longrunning.operations_pb2 import Operation

from .job_table import JobTable
from .table import Table

if TYPE_CHECKING:
    from .journal import Journal


class Store:
    """
    All that the emulated service knows.

    :param journal: keeps it for the next start.
    """

    def __init__(self, journal: Journal) -> None:
        self.jobs = JobTable(journal)
        self.resources: Table[PersistentResource] = Table(PersistentResource, journal)
        self.operations: Table[Operation] = Table(Operation, journal)
