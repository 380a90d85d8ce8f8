# SPDX-License-Identifier: Apache-2.0
"""What the replicas of a job printed, from Cloud Logging."""

from __future__ import annotations

from contextlib import aclosing
from typing import TYPE_CHECKING, Any

from google.api_core.retry import AsyncRetry
from google.cloud.logging_v2.services.logging_service_v2 import LoggingServiceV2AsyncClient
from google.cloud.logging_v2.types import ListLogEntriesRequest

from airflow_vertex_persistent.call_problems import is_transient

if TYPE_CHECKING:
    from google.cloud.logging_v2.types import LogEntry

    from airflow_vertex_persistent.hooks.client import VertexAsyncHook
    from airflow_vertex_persistent.names import ResourceName

_LINES = 20
_LONGEST_LINE = 500
_TIMEOUT = 10.0
# Cloud Logging takes some 60 reads a minute; when many jobs fail at once, some wait and the last do without.
_RETRY = AsyncRetry(predicate=is_transient, initial=1.0, maximum=15.0, multiplier=2.0, timeout=30.0)


async def last_lines(
    hook: VertexAsyncHook, job: ResourceName, replica: str | None, since: str | None
) -> list[str]:
    """
    Return the last lines of a job's log, the oldest first: at most 20, each cut to 500 characters.

    Gives up after 30 seconds.

    :param hook: Whose connection to use.
    :param replica: Lines of this replica only, such as ``workerpool0-0``; ``None``: of all, the service too.
    :param since: Time in RFC 3339 before which there can be none; it spares Cloud Logging a search.
    """
    conditions = ['resource.type="ml_job"', f'resource.labels.job_id="{job.id}"']
    if replica is not None:
        conditions.append(f'resource.labels.task_name="{replica}"')
    if since is not None:
        conditions.append(f'timestamp>="{since}"')
    project = f"projects/{job.project}"
    request = ListLogEntriesRequest(
        resource_names=[project],
        filter=" AND ".join(conditions),
        order_by="timestamp desc",
        page_size=_LINES,
    )
    client = await hook.client(LoggingServiceV2AsyncClient, None)
    async with hook.calling("ListLogEntries", project):
        pager = await client.list_log_entries(request, retry=_RETRY, timeout=_TIMEOUT)
        pages_of: Any = pager.pages  # an async generator, which its annotation does not say
        async with aclosing(pages_of) as pages:
            async for page in pages:
                if page.entries:  # Cloud Logging may answer an empty page while it still searches
                    return [_text(entry)[:_LONGEST_LINE] for entry in reversed(page.entries)]
    return []


def _text(entry: LogEntry) -> str:
    payload = entry.json_payload
    if payload and "message" in payload:
        return str(payload["message"]).rstrip()
    return str(entry.text_payload).rstrip()
