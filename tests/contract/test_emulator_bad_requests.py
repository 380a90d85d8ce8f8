# SPDX-License-Identifier: Apache-2.0
"""Malformed requests get the documented status code, all problems at once, and never end the emulator."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import grpc
import pytest
from google.api_core import exceptions
from google.cloud.aiplatform_v1.types import CreateCustomJobRequest, JobState
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

if TYPE_CHECKING:
    from tests.contract.conftest import Cloud

CREATE = "/google.cloud.aiplatform.v1.JobService/CreateCustomJob"
METHODS = [
    CREATE,
    "/google.cloud.aiplatform.v1.JobService/GetCustomJob",
    "/google.cloud.aiplatform.v1.JobService/ListCustomJobs",
    "/google.cloud.aiplatform.v1.JobService/CancelCustomJob",
    "/google.cloud.aiplatform.v1.JobService/DeleteCustomJob",
    "/google.cloud.aiplatform.v1.PersistentResourceService/CreatePersistentResource",
    "/google.cloud.aiplatform.v1.PersistentResourceService/GetPersistentResource",
    "/google.cloud.aiplatform.v1.PersistentResourceService/ListPersistentResources",
    "/google.cloud.aiplatform.v1.PersistentResourceService/UpdatePersistentResource",
    "/google.cloud.aiplatform.v1.PersistentResourceService/RebootPersistentResource",
    "/google.cloud.aiplatform.v1.PersistentResourceService/DeletePersistentResource",
    "/google.longrunning.Operations/GetOperation",
    "/google.longrunning.Operations/WaitOperation",
    "/google.longrunning.Operations/ListOperations",
    "/google.longrunning.Operations/CancelOperation",
    "/google.longrunning.Operations/DeleteOperation",
    "/google.logging.v2.LoggingServiceV2/ListLogEntries",
]


def raw(cloud: Cloud, method: str, data: bytes) -> grpc.StatusCode:
    """Send bytes and give back the status code."""
    call = cloud.channel.unary_unary(method, request_serializer=None, response_deserializer=None)
    try:
        call(data, timeout=20)
    except grpc.RpcError as error:
        code: grpc.StatusCode = error.code()
        return code
    return grpc.StatusCode.OK


def works(cloud: Cloud) -> bool:
    """Whether the emulator still runs jobs."""
    return cloud.run(cloud.pool("")).state == JobState.JOB_STATE_SUCCEEDED


@pytest.mark.parametrize("method", METHODS)
def test_bytes_that_are_no_request_are_refused(cloud: Cloud, method: str) -> None:
    """Neither broken protobuf nor an empty request is more than INVALID_ARGUMENT."""
    assert raw(cloud, method, b"\xff\xff\xff") == grpc.StatusCode.INVALID_ARGUMENT
    assert raw(cloud, method, b"") == grpc.StatusCode.INVALID_ARGUMENT


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(method=st.sampled_from(METHODS), data=st.binary(max_size=200))
def test_no_bytes_are_an_internal_error(cloud: Cloud, method: str, data: bytes) -> None:
    """Whatever bytes arrive, the answer is not an error of the emulator itself."""
    assert raw(cloud, method, data) not in {grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN}


@pytest.mark.parametrize(
    "method",
    [
        "/google.cloud.aiplatform.v1.JobService/CreateBatchPredictionJob",
        "/google.cloud.aiplatform.v1.PipelineService/CreateTrainingPipeline",
        "/google.cloud.aiplatform.v1.JobService/NoSuchMethod",
        "/nonsense",
    ],
)
def test_unknown_calls_are_unimplemented(cloud: Cloud, method: str) -> None:
    """What is not in the table answers UNIMPLEMENTED."""
    assert raw(cloud, method, b"") == grpc.StatusCode.UNIMPLEMENTED


POOL: dict[str, Any] = {
    "machine_spec": {"machine_type": "n1-standard-4"},
    "replica_count": 1,
    "container_spec": {"image_uri": "image"},
}


def job(**fields: Any) -> dict[str, Any]:
    """A job whose spec has some other fields."""
    return {"display_name": "job", "job_spec": {"worker_pool_specs": [POOL], **fields}}


def pools(*changes: dict[str, Any]) -> dict[str, Any]:
    """A job whose worker pools differ from a good one."""
    return job(worker_pool_specs=[{**POOL, **change} for change in changes])


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({}, "display_name; Message: Required field is not set"),
        ({**job(), "display_name": "x" * 129}, "display_name"),
        (job(worker_pool_specs=[]), "worker_pool_specs; Message: Required"),
        (job(worker_pool_specs=[{}, POOL]), r"worker_pool_specs\[0\].replica_count"),
        (pools({"replica_count": 2}), "must have exactly 1 replica, not 2"),
        (pools({}, {"replica_count": 0}), r"worker_pool_specs\[1\].replica_count"),
        (pools({}, {"replica_count": -1}), r"worker_pool_specs\[1\].replica_count"),
        (pools({}, {}, {}, {}, {}), "at most 4"),
        (pools({"machine_spec": {}}), 'Machine type "" is not supported'),
        (pools({"machine_spec": {"machine_type": "n1-standard-4", "accelerator_count": 1}}), "cannot have 1"),
        (
            pools(
                {
                    "machine_spec": {
                        "machine_type": "e2-standard-4",
                        "accelerator_type": 5,
                        "accelerator_count": 1,
                    }
                }
            ),
            "cannot have accelerators",
        ),
        (
            pools(
                {
                    "machine_spec": {
                        "machine_type": "n1-standard-4",
                        "accelerator_type": 99,
                        "accelerator_count": 1,
                    }
                }
            ),
            "accelerator type 99",
        ),
        (pools({"disk_spec": {"boot_disk_size_gb": 64001}}), "boot_disk_size_gb"),
        (pools({"container_spec": {}}), "image_uri"),
        (
            pools({"container_spec": {"image_uri": "i", "env": [{"name": f"V{n}"} for n in range(101)]}}),
            "101 variables",
        ),
        (pools({"container_spec": {"image_uri": "i", "env": [{"name": "1=2", "value": "x"}]}}), r"env\[0\]"),
        (pools({"container_spec": {"image_uri": "i", "args": ["x" * 60_000] * 2}}), "100000 characters"),
        (pools({"container_spec": {"image_uri": "i", "args": ["a\0b"]}}), "zero bytes"),
        (job(base_output_directory={"output_uri_prefix": "/tmp/x"}), "gs://BUCKET"),
        (job(network="default"), "projects/PROJECT_NUMBER/global/networks"),
        (job(persistent_resource_id="Not Valid"), "persistent_resource_id"),
        (job(tensorboard="projects/1/locations/us-east1/tensorboards/2"), "service_account"),
        (job(scheduling={"timeout": "-5s"}), "scheduling.timeout"),
        (job(scheduling={"strategy": 5}), "strategy"),
        ({**job(), "labels": {"Upper": "x"}}, "labels"),
        ({**job(), "labels": {"key": "x" * 65}}, "labels"),
        ({**job(), "labels": {"": "x"}}, "labels"),
        ({**job(), "labels": {f"k{n}": "" for n in range(65)}}, "65 labels"),
    ],
)
def test_wrong_jobs_are_refused(cloud: Cloud, body: dict[str, Any], words: str) -> None:
    """Every rule on jobs is checked, and the answer names field and value."""
    with pytest.raises(exceptions.InvalidArgument, match=words):
        cloud.create(body)


def test_all_problems_come_in_one_answer(cloud: Cloud) -> None:
    """Two mistakes are told at once."""
    with pytest.raises(exceptions.InvalidArgument, match=r"1\.Field: .*timeout.*2\.Field: .*gs://"):
        cloud.create(job(scheduling={"timeout": "-5s"}, base_output_directory={"output_uri_prefix": "x"}))


@pytest.mark.parametrize("timeout", [{"seconds": 10**15}, {"nanos": -1}, {"seconds": 1, "nanos": 2 * 10**9}])
def test_durations_beyond_the_calendar_are_refused(cloud: Cloud, timeout: dict[str, int]) -> None:
    """Durations that Python could not hold are INVALID_ARGUMENT too."""
    request = CreateCustomJobRequest.pb(CreateCustomJobRequest(parent=cloud.PARENT, custom_job=job()))
    for name, value in timeout.items():
        setattr(request.custom_job.job_spec.scheduling.timeout, name, value)
    assert raw(cloud, CREATE, request.SerializeToString()) == grpc.StatusCode.INVALID_ARGUMENT


@pytest.mark.parametrize(
    "parent",
    [
        "",
        "projects/demo-project",
        "projects/demo-project/locations/global",
        "projects/demo-project/locations/",
        "projects/Bad_Project/locations/us-east1",
        "projects/demo-project/locations/us-east1/customJobs/1",
        "folders/demo-project/locations/us-east1",
    ],
)
def test_wrong_parents_are_refused(cloud: Cloud, parent: str) -> None:
    """A parent must be a project and a region."""
    for method, field in ((CREATE, CreateCustomJobRequest(parent=parent, custom_job=job())),):
        data = CreateCustomJobRequest.serialize(field)
        assert raw(cloud, method, data) == grpc.StatusCode.INVALID_ARGUMENT


def test_the_emulator_survives_it_all(cloud: Cloud) -> None:
    """After a wrong request of each kind, jobs still run."""
    for method in METHODS:
        raw(cloud, method, b"\xff")
    assert works(cloud)
