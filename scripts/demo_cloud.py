# SPDX-License-Identifier: Apache-2.0
"""What the demo reads from the emulator while tasks wait: through Google's own client, as anybody could."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import grpc
from google.api_core.exceptions import GoogleAPICallError, NotFound
from google.cloud import aiplatform_v1
from google.cloud.aiplatform_v1.services.job_service.transports.grpc import JobServiceGrpcTransport
from google.cloud.aiplatform_v1.services.persistent_resource_service.transports.grpc import (
    PersistentResourceServiceGrpcTransport,
)

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True)
class Job:
    """A job in a few words: its id, its state, and what its first replica, or a tuning job itself, said last."""

    id: str
    state: str
    last_line: str


class Cloud:
    """
    The emulator, seen from outside.

    :param address: Host and port of its API.
    :param project: Project id.
    :param data_dir: Its data folder, where logs and stored files are plain files.
    """

    def __init__(self, address: str, project: str, data_dir: Path) -> None:
        self._channel = channel = grpc.insecure_channel(address)
        self._jobs = aiplatform_v1.JobServiceClient(transport=JobServiceGrpcTransport(channel=channel))
        self._resources = aiplatform_v1.PersistentResourceServiceClient(
            transport=PersistentResourceServiceGrpcTransport(channel=channel)
        )
        self._project = project
        self._data_dir = data_dir

    def close(self) -> None:
        """Close the connection, before the emulator does."""
        self._channel.close()

    def job(self, region: str, display_name: str) -> Job | None:
        """Return the newest job of that name, of whichever kind, or None."""
        request = {
            "parent": f"projects/{self._project}/locations/{region}",
            "filter": f'display_name="{display_name}"',
        }
        lists: dict[str, Any] = {
            "service": self._jobs.list_hyperparameter_tuning_jobs,
            "workerpool0-0": self._jobs.list_custom_jobs,
        }
        try:
            found = [(job, log) for log, listed in lists.items() for job in listed(request, timeout=5)]
        except GoogleAPICallError:
            # The emulator may be what has failed; the task's own error says it better.
            return None
        if not found:
            return None
        job, name = max(found, key=lambda one: str(one[0].create_time))
        job_id = job.name.rpartition("/")[2]
        log = self._data_dir / "logs" / job_id / f"{name}.log"
        lines = log.read_text(errors="replace").splitlines() if log.exists() else []
        return Job(job_id, job.state.name.removeprefix("JOB_STATE_"), lines[-1] if lines else "")

    def resource_state(self, region: str, resource_id: str) -> str:
        """Return the state of a persistent resource in one word."""
        name = f"projects/{self._project}/locations/{region}/persistentResources/{resource_id}"
        try:
            return str(self._resources.get_persistent_resource(name=name, timeout=5).state.name)
        except NotFound:
            return "is not there"
        except GoogleAPICallError:
            return "does not answer"

    def file(self, uri: str) -> Path:
        """Return where the emulator keeps a stored object."""
        return self._data_dir / "storage" / uri.removeprefix("gs://")
