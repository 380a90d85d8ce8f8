# SPDX-License-Identifier: Apache-2.0
"""The ways in which Google's pages write custom jobs, and our short form: all of them are the same job."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from airflow.sdk import yaml
from google.cloud.aiplatform_v1.types import CustomJob, JobState
from google.protobuf.json_format import MessageToDict

from airflow_vertex_persistent.hooks.persistent_resource import PersistentResourceHook, resource_body
from airflow_vertex_persistent.hooks.training_job import TrainingJobHook
from airflow_vertex_persistent.names import CUSTOM_JOBS, persistent_resource_name
from airflow_vertex_persistent.specs.checks import Problems
from airflow_vertex_persistent.specs.custom_job import custom_job
from airflow_vertex_persistent.specs.pool_matching import fit_to_pools

if TYPE_CHECKING:
    from tests.contract.conftest import Cloud

IMAGE = "europe-west4-docker.pkg.dev/acme/training/emulator-test:1"

# As the REST reference writes one: a whole CustomJob, 64-bit numbers as texts.
REST = """
{
  "displayName": "nightly",
  "labels": {"team": "ranking"},
  "jobSpec": {
    "workerPoolSpecs": [
      {
        "machineSpec": {"machineType": "n1-standard-4"},
        "replicaCount": "1",
        "diskSpec": {"bootDiskType": "pd-ssd", "bootDiskSizeGb": 100},
        "containerSpec": {
          "imageUri": "europe-west4-docker.pkg.dev/acme/training/emulator-test:1",
          "args": ["--epochs", "3"],
          "env": [{"name": "LOG_LEVEL", "value": "debug"}]
        }
      }
    ],
    "scheduling": {"timeout": "3600s", "disableRetries": true},
    "baseOutputDirectory": {"outputUriPrefix": "gs://emulator-bucket/nightly"},
    "persistentResourceId": "nightly"
  }
}
"""
# As `gcloud ai custom-jobs create --config` reads one: a CustomJobSpec; one pool needs no list.
GCLOUD = """
workerPoolSpecs:
  machineSpec:
    machineType: n1-standard-4
  replicaCount: 1
  diskSpec:
    bootDiskType: pd-ssd
    bootDiskSizeGb: 100
  containerSpec:
    imageUri: europe-west4-docker.pkg.dev/acme/training/emulator-test:1
    args:
    - --epochs
    - 3
    env:
    - name: LOG_LEVEL
      value: debug
scheduling:
  timeout: 3600s
  disableRetries: true
baseOutputDirectory:
  outputUriPrefix: gs://emulator-bucket/nightly
persistentResourceId: nightly
"""
# As the Python SDK's samples write worker pools.
SDK: list[dict[str, Any]] = [
    {
        "machine_spec": {"machine_type": "n1-standard-4"},
        "replica_count": 1,
        "disk_spec": {"boot_disk_type": "pd-ssd", "boot_disk_size_gb": 100},
        "container_spec": {
            "image_uri": IMAGE,
            "args": ["--epochs", "3"],
            "env": [{"name": "LOG_LEVEL", "value": "debug"}],
        },
    }
]
BESIDE_THE_POOLS: dict[str, Any] = {
    "base_output_dir": "gs://emulator-bucket/nightly",
    "max_run_duration": 3600,
    "disable_retries": True,
}
NAMED: dict[str, Any] = {"display_name": "nightly", "labels": {"team": "ranking"}}
WAYS: dict[str, dict[str, Any]] = {
    "rest": {"config": json.loads(REST)},
    "gcloud": {"config": yaml.safe_load(GCLOUD), **NAMED},
    "sdk": {"worker_pool_specs": SDK, **BESIDE_THE_POOLS, **NAMED},
    "short": {
        "container_uri": IMAGE,
        "args": ["--epochs", 3],
        "env": {"LOG_LEVEL": "debug"},
        "machine_type": "n1-standard-4",
        **BESIDE_THE_POOLS,
        **NAMED,
    },
}


def request_of(**work: Any) -> dict[str, Any]:
    """Return the job that is sent, which must be good and fit the persistent resource."""
    problems = Problems("custom job")
    wanted = {"persistent_resource_id": "nightly", **work}
    request = custom_job(wanted, problems, default_display_name="default-name")
    problems.raise_if_any()
    live = PersistentResourceHook().get(persistent_resource_name("demo-project", "europe-west4", "nightly"))
    assert live is not None
    place = {"project_id": "demo-project", "region": "europe-west4"}
    needs = fit_to_pools(request, resource_body(live), problems, **place)
    problems.raise_if_any()
    return needs.job


@pytest.fixture(autouse=True)
def connection(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    """Connect the hooks to the emulator."""
    extra = {"project": "demo-project", "is_anonymous": True}
    value = json.dumps({"conn_type": "google_cloud_platform", "extra": extra})
    monkeypatch.setenv("AIRFLOW_CONN_GOOGLE_CLOUD_DEFAULT", value)
    monkeypatch.setenv("VERTEX_AI_EMULATOR_HOST", cloud.emulator.address)


@pytest.fixture(scope="module", autouse=True)
def resource(cloud: Cloud) -> None:
    """The persistent resource that the jobs name."""
    cloud.resource("nightly", {"machine_spec": {"machine_type": "n1-standard-4"}, "replica_count": 4})


def accepted(request: dict[str, Any]) -> dict[str, Any]:
    """Send a request to the emulator and return what it made of it, without what differs from job to job."""
    job = TrainingJobHook().create_job("demo-project", "europe-west4", CUSTOM_JOBS, request)
    body: dict[str, Any] = MessageToDict(CustomJob.pb(job))
    for field in ("name", "createTime", "updateTime", "state"):
        body.pop(field, None)
    return body


@pytest.mark.parametrize("way", WAYS)
def test_each_way_is_the_same_job(way: str) -> None:
    """However a job is written, the service is sent, takes and keeps the same."""
    rest = json.loads(REST)
    rest["jobSpec"]["workerPoolSpecs"][0]["replicaCount"] = "1"
    assert accepted(request_of(**WAYS[way])) == rest


def test_all_ways_make_one_request() -> None:
    """The requests themselves are equal, not only what the service makes of them."""
    requests = [request_of(**work) for work in WAYS.values()]
    assert requests == [requests[0]] * len(WAYS)


@pytest.mark.parametrize("way", WAYS)
def test_each_way_runs(cloud: Cloud, way: str) -> None:
    """The job runs with the arguments that were written."""
    job = TrainingJobHook().create_job("demo-project", "europe-west4", CUSTOM_JOBS, request_of(**WAYS[way]))
    ended = cloud.ended(job)
    assert ended.state == JobState.JOB_STATE_SUCCEEDED, ended.error
    assert any("arguments: --epochs 3" in line for line in cloud.log(ended))


def test_a_name_that_the_config_has_stays() -> None:
    """The default display name only fills a request that has none."""
    assert request_of(config=json.loads(REST))["display_name"] == "nightly"
    assert request_of(config=yaml.safe_load(GCLOUD))["display_name"] == "default-name"


def test_a_distributed_job_with_a_pool_left_out(cloud: Cloud) -> None:
    """An empty pool, as the SDK pads them, keeps the numbers of the others on the service."""
    pools = [SDK[0], {}, SDK[0]]
    job = TrainingJobHook().create_job(
        "demo-project", "europe-west4", CUSTOM_JOBS, request_of(worker_pool_specs=pools, **NAMED)
    )
    sent = job.job_spec.worker_pool_specs
    assert [bool(pool.machine_spec.machine_type) for pool in sent] == [True, False, True]
    assert cloud.ended(job).state == JobState.JOB_STATE_SUCCEEDED
