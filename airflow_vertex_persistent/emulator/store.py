# SPDX-License-Identifier: Apache-2.0
"""Where jobs, persistent resources and operations are kept."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from google.cloud.aiplatform_v1.types import CustomJob, HyperparameterTuningJob, PersistentResource
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
        self.jobs: JobTable[CustomJob] = JobTable(CustomJob, journal)
        self.tuning_jobs: JobTable[HyperparameterTuningJob] = JobTable(HyperparameterTuningJob, journal)
        self.resources: Table[PersistentResource] = Table(PersistentResource, journal)
        self.operations: Table[Operation] = Table(Operation, journal)
        keys = [key for key, _ in (*self.jobs.newest_first(), *self.tuning_jobs.newest_first())]
        self._last_id = max((int(key.id) for key in keys), default=0)

    def next_job_id(self) -> str:
        """Make an id that no job of any kind has."""
        # Nineteen digits like the service's, and growing, so that the newest job has the largest id.
        self._last_id = max(self._last_id + 1, time.time_ns())
        return str(self._last_id)
