# SPDX-License-Identifier: Apache-2.0
"""What a running job needs of the emulator, what is planned for it, and how it ends."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from google.cloud.aiplatform_v1.types import JobState
from google.rpc.status_pb2 import Status

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping
    from datetime import datetime
    from pathlib import Path

    from .capacity import Capacity
    from .executors import Executor
    from .logs import LogBook
    from .machine_pools import MachinePools
    from .names import Key
    from .quota import Quota
    from .settings import EmulatorSettings
    from .store import Store


@dataclass(frozen=True)
class World:
    """
    What a running job needs of the emulator.

    :param pools: machines of persistent resources.
    :param capacity: machines outside them.
    :param adopt_files: makes files that replicas wrote below ``/gcs`` known to the storage emulator; its
        argument is the time of the job's start.
    :param metrics: folder of the metric files of trials.
    """

    store: Store
    pools: MachinePools
    capacity: Capacity
    quota: Quota
    executor: Executor
    logs: LogBook
    settings: EmulatorSettings
    clock: Callable[[], datetime]
    adopt_files: Callable[[datetime], Awaitable[None]]
    metrics: Path

    def metric_file(self, job_id: str, task: str) -> Path:
        """
        Where a replica of a trial reports its metrics.

        :param job_id: of the trial's custom job.
        :param task: name of the replica.
        """
        return self.metrics / job_id / task / "output.metrics"


@dataclass(frozen=True)
class JobPlan:
    """
    Where a job is to run, and what is to go wrong with it.

    :param resource: its persistent resource; ``None`` runs it on demand.
    :param needs: machines by pool of the resource.
    :param stockout: why no machines are found for it, with ``{region}`` to be filled in; empty when they are.
    :param error_delay: seconds between its state FAILED and its error; ``None`` for those of the settings.
    :param trial: id of the trial that it is, empty for a job of its own.
    """

    resource: Key | None = None
    needs: Mapping[str, int] = field(default_factory=dict)
    stockout: str = ""
    error_delay: float | None = None
    trial: str = ""


@dataclass(frozen=True)
class Outcome:
    """How a job ended."""

    state: int
    error: Status | None = None


class JobEndedError(Exception):
    """The job cannot go on, and ends so."""

    def __init__(self, outcome: Outcome) -> None:
        super().__init__(outcome)
        self.outcome = outcome


def failed(code: int, text: str) -> JobEndedError:
    """The job has failed, with this status code and text."""
    return JobEndedError(Outcome(JobState.JOB_STATE_FAILED, Status(code=code, message=text)))
