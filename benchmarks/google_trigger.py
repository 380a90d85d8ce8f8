# SPDX-License-Identifier: Apache-2.0
"""The Google provider's trigger for custom jobs, pointed at the emulator."""

from __future__ import annotations

import os
from functools import cached_property
from typing import Any

import grpc
from airflow.providers.google.cloud.hooks.vertex_ai.custom_job import CustomJobAsyncHook
from airflow.providers.google.cloud.triggers.vertex_ai import CustomJobTrigger
from google.cloud.aiplatform_v1 import JobServiceAsyncClient


class EmulatedHook(CustomJobAsyncHook):
    """Reads the connection and makes a client for each trigger, as its parent does, of another channel."""

    async def get_job_service_client(self, region: str | None = None) -> JobServiceAsyncClient:
        """Return a client of the emulator."""
        hook: Any = await self.get_sync_hook()
        hook.get_credentials()
        channel = grpc.aio.insecure_channel(os.environ["VERTEX_AI_EMULATOR_HOST"])
        transport = JobServiceAsyncClient.get_transport_class("grpc_asyncio")(channel=channel)
        return JobServiceAsyncClient(transport=transport)


class EmulatedTrigger(CustomJobTrigger):
    """Polls one custom job with one read after the other."""

    @cached_property
    def async_hook(self) -> CustomJobAsyncHook:
        """The hook of the emulator."""
        return EmulatedHook(gcp_conn_id=self.gcp_conn_id, impersonation_chain=self.impersonation_chain)
