# SPDX-License-Identifier: Apache-2.0
"""Logs of replicas through the real Cloud Logging client."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from google.api_core import exceptions
from google.cloud.logging_v2.services.logging_service_v2 import LoggingServiceV2Client
from google.cloud.logging_v2.services.logging_service_v2.transports.grpc import LoggingServiceV2GrpcTransport
from google.logging.type.log_severity_pb2 import LogSeverity

if TYPE_CHECKING:
    from google.cloud.aiplatform_v1.types import CustomJob

    from tests.contract.conftest import Cloud

CODE = """
import json, sys
print("plain")
print(json.dumps({"severity": "ERROR", "message": "parsed", "loss": 0.5}))
print("to stderr", file=sys.stderr)
print('{"message": "broken')
"""


@pytest.fixture(scope="module")
def client(cloud: Cloud) -> LoggingServiceV2Client:
    """The real logging client."""
    return LoggingServiceV2Client(transport=LoggingServiceV2GrpcTransport(channel=cloud.channel))


@pytest.fixture(scope="module")
def job(cloud: Cloud) -> CustomJob:
    """A finished job that has logged in four ways."""
    return cloud.run(cloud.pool(CODE))


def entries(client: LoggingServiceV2Client, job: CustomJob, more: str = "", **fields: Any) -> list[Any]:
    """Log entries of a job."""
    wanted = f'resource.type="ml_job" AND resource.labels.job_id="{job.name.split("/")[-1]}"{more}'
    return list(
        client.list_log_entries({"resource_names": ["projects/demo-project"], "filter": wanted, **fields})
    )


def messages(found: list[Any]) -> list[str]:
    """Their texts."""
    return [entry.json_payload["message"] for entry in found]


ONE = ' AND resource.labels.task_name="workerpool0-0"'


def test_lines_become_entries(client: LoggingServiceV2Client, job: CustomJob) -> None:
    """Each line is an entry with time, resource and JSON payload; JSON lines say severity and fields themselves."""
    found = entries(client, job, ONE)
    assert messages(found) == ["plain", "parsed", "to stderr", '{"message": "broken']
    assert dict(found[1].json_payload) == {"message": "parsed", "levelname": "ERROR", "loss": 0.5}
    assert found[1].severity == LogSeverity.Value("ERROR")
    assert found[0].json_payload["levelname"] == "INFO"
    assert found[0].resource.type == "ml_job"
    assert found[0].resource.labels["task_name"] == "workerpool0-0"
    assert found[0].timestamp
    assert len({entry.insert_id for entry in found}) == 4


def test_the_service_has_lines_of_its_own(client: LoggingServiceV2Client, job: CustomJob) -> None:
    """They tell the job's story under the task name "service"."""
    lines = messages(entries(client, job, ' AND resource.labels.task_name="service"'))
    assert lines == [
        "Waiting for job to be provisioned.",
        "Vertex AI is provisioning job running framework...",
        "Vertex AI is setting up this job.",
        "Waiting for training program to start.",
        "Job is preparing.",
        "Job is running.",
        "Task completed. Exit code (0). Exit reason (SUCCEEDED)",
        "Tearing down training program.",
        "Finished tearing down training program.",
        "Job completed successfully.",
    ]


def test_entries_come_in_both_orders(client: LoggingServiceV2Client, job: CustomJob) -> None:
    """Descending is the reverse of ascending."""
    up, down = (entries(client, job, order_by=f"timestamp {order}") for order in ("asc", "desc"))
    assert [entry.insert_id for entry in down] == [entry.insert_id for entry in reversed(up)]
    assert up == sorted(up, key=lambda entry: entry.timestamp)
    with pytest.raises(exceptions.InvalidArgument):
        entries(client, job, order_by="severity")


@pytest.mark.parametrize("order", ["asc", "desc"])
def test_pages_hold_every_entry_once(client: LoggingServiceV2Client, job: CustomJob, order: str) -> None:
    """Small pages give the same entries as one big one."""
    order_by = f"timestamp {order}"
    whole = entries(client, job, order_by=order_by)
    assert len(whole) == 14
    assert entries(client, job, order_by=order_by, page_size=3) == whole


def test_severity_and_time_are_filters(client: LoggingServiceV2Client, job: CustomJob) -> None:
    """Comparisons side by side mean AND, as in Cloud Logging's language."""
    assert messages(entries(client, job, "\nseverity>=WARNING")) == ["parsed"]
    first = entries(client, job)[0].timestamp.isoformat()
    assert len(entries(client, job, f' timestamp>"{first}"')) == 13
    assert entries(client, job, ' timestamp<"2020-01-01T00:00:00Z"') == []


def test_other_projects_see_nothing(client: LoggingServiceV2Client, job: CustomJob) -> None:
    """Another project's name shows none of the lines, the project's number all of them."""
    assert entries(client, job, resource_names=["projects/other-project"]) == []
    assert len(entries(client, job, resource_names=["/".join(job.name.split("/")[:2])])) == 14


def test_paths_are_no_job_ids(client: LoggingServiceV2Client) -> None:
    """A job id that looks like a path finds nothing, whatever lies there."""
    for wanted in ("../logs", "..", "/etc"):
        text = f'resource.labels.job_id="{wanted}"'
        assert (
            list(client.list_log_entries({"resource_names": ["projects/demo-project"], "filter": text})) == []
        )


def test_unknown_fields_are_refused(client: LoggingServiceV2Client, job: CustomJob) -> None:
    """What the emulator does not know is an error, not an empty list."""
    with pytest.raises(exceptions.InvalidArgument, match="jsonPayload"):
        entries(client, job, ' AND jsonPayload.message="x"')
