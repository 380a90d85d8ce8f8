# SPDX-License-Identifier: Apache-2.0
"""The two ends of a watch: the emulator's jobs, and Airflow's database."""

from __future__ import annotations

import time
from datetime import UTC
from typing import Any

import grpc
from google.cloud.aiplatform_v1 import JobServiceClient
from google.cloud.aiplatform_v1.types import CustomJob, ListCustomJobsRequest
from google.protobuf.field_mask_pb2 import FieldMask
from local_emulator import PROJECT
from sqlalchemy import DateTime, Integer, String, cast, column, create_engine, func, select, table
from watching_cases import INTERVAL, THEIRS

from airflow_vertex_persistent.names import INSTALLATION_LABEL, KEY_LABEL, ResourceName, location_name

REGION, INSTALLATION, CONNECTION_ID = "europe-west4", "watching", "google_cloud_default"
_RPC_TIMEOUT = 60.0

_TASKS = table(
    "task_instance",
    column("run_id", String),
    column("map_index", Integer),
    column("state", String),
    column("scheduled_dttm", DateTime(timezone=True)),
    column("next_kwargs"),
)
_TRIGGERS = table("trigger", column("triggerer_id", Integer))


class Jobs:
    """The emulator's jobs. Its addresses are on this machine."""

    def __init__(self, address: str) -> None:
        # A proxy that the environment names must not stand before our own machine.
        self._channel = grpc.insecure_channel(address, options=[("grpc.enable_http_proxy", 0)])
        self._client = JobServiceClient(
            transport=JobServiceClient.get_transport_class("grpc")(channel=self._channel)
        )
        self._parent = location_name(PROJECT, REGION)

    def create(self, number: int, end: float) -> str:
        """Create the job of task ``number``, which ends at ``end``, and return its name."""
        seconds = max(end - time.time(), 1.0)
        container = {
            "image_uri": "watched:1",
            "env": [{"name": "EMULATOR_RUN_SECONDS", "value": f"{seconds:.3f}"}],
        }
        job = {
            "display_name": f"watched {number}",
            "labels": {KEY_LABEL: key(number), INSTALLATION_LABEL: INSTALLATION},
            "job_spec": {
                "worker_pool_specs": [
                    {
                        "machine_spec": {"machine_type": "n1-standard-4"},
                        "replica_count": 1,
                        "container_spec": container,
                    }
                ]
            },
        }
        created = self._client.create_custom_job(
            parent=self._parent, custom_job=CustomJob(job), retry=None, timeout=_RPC_TIMEOUT
        )
        return str(created.name)

    def ends(self) -> dict[str, float]:
        """Return when each job ended, by name."""
        request = ListCustomJobsRequest(
            parent=self._parent, page_size=100, read_mask=FieldMask(paths=["name", "end_time"])
        )
        # Any: proto-plus hands out a datetime where its annotation says otherwise.
        listed: Any = self._client.list_custom_jobs(request, retry=None, timeout=_RPC_TIMEOUT)
        return {job.name: job.end_time.timestamp() for job in listed}

    def close(self) -> None:
        """Close the channel."""
        self._channel.close()


def key(number: int) -> str:
    """Return the label of the job of task ``number``."""
    return f"task-{number}"


def trigger_of(whose: str, number: int, job: str) -> tuple[str, dict[str, Any]]:
    """Return what the database stores of a trigger: its class and its parameters."""
    if whose == THEIRS:
        return "google_trigger.EmulatedTrigger", {
            "project_id": PROJECT,
            "location": REGION,
            "custom_job_id": ResourceName.parse(job).id,
            "gcp_conn_id": CONNECTION_ID,
            "impersonation_chain": None,
            "poll_interval": int(INTERVAL),
        }
    return "airflow_vertex_persistent.triggers.training_job.TrainingJobTrigger", {
        "region": REGION,
        "gcp_conn_id": CONNECTION_ID,
        "impersonation_chain": None,
        "poll_interval": INTERVAL,
        "max_outage": 1800.0,
        "job": job,
        "cancel_on_kill": True,
        "execution_key": key(number),
        "installation": INSTALLATION,
    }


class Database:
    """What Airflow's database says of the run."""

    def __init__(self, url: str, run_id: str) -> None:
        self._engine = create_engine(url)
        self._run = _TASKS.c.run_id == run_id

    def assigned(self) -> int:
        """Return how many triggers a triggerer has taken."""
        query = select(func.count()).select_from(_TRIGGERS).where(_TRIGGERS.c.triggerer_id.is_not(None))
        with self._engine.connect() as connection:
            return int(connection.execute(query).scalar_one())

    def deferred(self) -> int:
        """Return how many tasks still wait."""
        query = select(func.count()).select_from(_TASKS).where(self._run, _TASKS.c.state == "deferred")
        with self._engine.connect() as connection:
            return int(connection.execute(query).scalar_one())

    def events(self) -> dict[int, tuple[float, str]]:
        """Return when the triggerer wrote a task's event, and what, by number of the task."""
        columns = (_TASKS.c.map_index, _TASKS.c.scheduled_dttm, cast(_TASKS.c.next_kwargs, String))
        query = select(*columns).where(self._run, _TASKS.c.state == "scheduled")
        with self._engine.connect() as connection:
            # SQLite has no time zones: Airflow's times are UTC.
            return {
                number: ((at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp(), event)
                for number, at, event in connection.execute(query)
            }

    def close(self) -> None:
        """Close the connections."""
        self._engine.dispose()
