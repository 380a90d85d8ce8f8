# SPDX-License-Identifier: Apache-2.0
"""What the Google provider's tuning operator hands to the tasks after it, of a job of the emulator."""

from __future__ import annotations

import asyncio
import os
from functools import cached_property
from typing import TYPE_CHECKING, Any

import grpc
from airflow.providers.google.cloud.hooks.vertex_ai.hyperparameter_tuning_job import (
    HyperparameterTuningJobAsyncHook,
)
from airflow.providers.google.cloud.operators.vertex_ai.hyperparameter_tuning_job import (
    CreateHyperparameterTuningJobOperator,
)
from airflow.providers.google.cloud.triggers.vertex_ai import CreateHyperparameterTuningJobTrigger
from google.cloud.aiplatform_v1 import JobServiceAsyncClient

if TYPE_CHECKING:
    from collections.abc import Mapping


class EmulatedHook(HyperparameterTuningJobAsyncHook):
    """Asks as its parent does, on another channel."""

    async def get_job_service_client(self, region: str | None = None) -> JobServiceAsyncClient:
        """Return a client of the emulator."""
        address = os.environ["VERTEX_AI_EMULATOR_HOST"]
        channel = grpc.aio.insecure_channel(address, options=[("grpc.enable_http_proxy", 0)])
        transport = JobServiceAsyncClient.get_transport_class("grpc_asyncio")(channel=channel)
        return JobServiceAsyncClient(transport=transport)


class EmulatedTrigger(CreateHyperparameterTuningJobTrigger):
    """Waits for one tuning job."""

    @cached_property
    def async_hook(self) -> HyperparameterTuningJobAsyncHook:
        """The hook of the emulator."""
        return EmulatedHook(gcp_conn_id=self.conn_id, impersonation_chain=self.impersonation_chain)


def google_result(job: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """
    Return the result of Google's deferred operator, of a job that has ended.

    :param job: Full name.
    :param arguments: The task's, by Google's names.
    """
    _, project, _, region, _, number = job.split("/")
    trigger = EmulatedTrigger(
        conn_id="google_cloud_default", project_id=project, location=region, job_id=number, poll_interval=1
    )

    async def event() -> dict[str, Any]:
        return dict((await anext(aiter(trigger.run()))).payload)

    google = CreateHyperparameterTuningJobOperator(task_id="google", deferrable=True, **arguments)
    return dict(google.execute_complete({}, asyncio.run(event())))
