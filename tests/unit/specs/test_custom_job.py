# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest
from google.cloud.aiplatform_v1.types import CustomJob
from google.protobuf.json_format import ParseDict
from hypothesis import given
from hypothesis import strategies as st

from airflow_vertex_persistent.exceptions import InvalidRequestError
from airflow_vertex_persistent.specs.checks import Problems
from airflow_vertex_persistent.specs.custom_job import custom_job

IMAGE = "europe-west4-docker.pkg.dev/acme/training/iris:1"
SHORT = {"display_name": "nightly", "container_uri": IMAGE, "machine_type": "n1-standard-4"}
POOL = {
    "machine_spec": {"machine_type": "n1-standard-4"},
    "container_spec": {"image_uri": IMAGE},
}
WRITTEN = {"display_name": "nightly", "worker_pool_specs": [POOL]}
SECRET = "h1dden-v4lue"


def request_of(wanted: dict[str, Any]) -> dict[str, Any]:
    """Return the request for what is wanted, which must be good."""
    problems = Problems("custom job")
    job = custom_job(wanted, problems)
    problems.raise_if_any()
    ParseDict(job, CustomJob.pb()())
    return job


def problems_of(wanted: dict[str, Any]) -> tuple[str, ...]:
    """Return what is wrong with what is wanted, which must not be good."""
    problems = Problems("custom job")
    custom_job(wanted, problems)
    with pytest.raises(InvalidRequestError) as caught:
        problems.raise_if_any()
    return caught.value.problems


def pool(**changes: Any) -> dict[str, Any]:
    """Return a good worker pool with some fields changed."""
    return {**POOL, **changes}


def machine(type_: Any, accelerator: Any = None, count: Any = None) -> dict[str, Any]:
    """Return a machine without the parts that are not given."""
    fields = {"machine_type": type_, "accelerator_type": accelerator, "accelerator_count": count}
    return {name: value for name, value in fields.items() if value is not None}


# --- good input ---------------------------------------------------------------------------------------------

NAMES = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), min_size=1, max_size=20)
TEXTS = st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), max_size=30)
MACHINES = st.sampled_from(
    [
        machine("n1-standard-4"),
        machine("e2-highmem-8"),
        machine("n1-highmem-16", "NVIDIA_TESLA_T4", 4),
        machine("n1-standard-8", "NVIDIA_TESLA_V100", "8"),
        machine("g2-standard-24", "NVIDIA_L4", 2),
        machine("a2-ultragpu-4g", "NVIDIA_A100_80GB", 4),
        machine("a3-megagpu-8g", "NVIDIA_H100_MEGA_80GB", 8),
        machine("cloud-tpu", "TPU_V3", 8),
        machine("x9-of-next-year-8g"),
    ]
)
CONTAINERS = st.fixed_dictionaries(
    {"image_uri": NAMES},
    optional={
        "command": st.lists(TEXTS, max_size=3),
        "args": st.lists(TEXTS, max_size=5),
        "env": st.lists(st.fixed_dictionaries({"name": NAMES, "value": TEXTS}), max_size=4),
    },
)
PACKAGES = st.fixed_dictionaries(
    {
        "executor_image_uri": NAMES,
        "package_uris": st.lists(NAMES, min_size=1, max_size=3),
        "python_module": NAMES,
    },
    optional={"args": st.lists(TEXTS, max_size=5)},
)
DISKS = st.fixed_dictionaries(
    {},
    optional={
        "boot_disk_type": st.sampled_from(["pd-ssd", "pd-standard", "hyperdisk-balanced"]),
        "boot_disk_size_gb": st.integers(100, 64_000),
    },
)


@st.composite
def worker_pools(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Draw one to four worker pools as the API wants them."""
    pools = []
    for index in range(draw(st.integers(1, 4))):
        one: dict[str, Any] = {"machine_spec": draw(MACHINES)}
        if draw(st.booleans()):
            one["container_spec"] = draw(CONTAINERS)
        else:
            one["python_package_spec"] = draw(PACKAGES)
        if draw(st.booleans()):
            one["disk_spec"] = draw(DISKS)
        if draw(st.booleans()):
            one["replica_count"] = 1 if index == 0 else draw(st.integers(1, 1000))
        pools.append(one)
    return pools


SPECS = st.fixed_dictionaries(
    {"worker_pool_specs": worker_pools()},
    optional={
        "scheduling": st.fixed_dictionaries(
            {},
            optional={
                "timeout": st.integers(1, 604_800).map("{}s".format),
                "max_wait_duration": st.integers(0, 604_800).map("{}s".format),
                "strategy": st.sampled_from(["STANDARD", "SPOT", "FLEX_START"]),
                "restart_job_on_worker_restart": st.booleans(),
                "disable_retries": st.booleans(),
            },
        ),
        "service_account": st.just("trainer@acme.iam.gserviceaccount.com"),
        "network": st.just("projects/123/global/networks/training"),
        "reserved_ip_ranges": st.lists(NAMES, max_size=2),
        "base_output_directory": st.just({"output_uri_prefix": "gs://models/iris"}),
        "enable_web_access": st.booleans(),
        "persistent_resource_id": st.from_regex(r"[a-z]([a-z0-9-]{0,61}[a-z0-9])?", fullmatch=True),
    },
)
BODIES = st.fixed_dictionaries(
    {"display_name": NAMES, "job_spec": SPECS},
    optional={
        "labels": st.dictionaries(
            st.from_regex(r"[a-z_][a-z0-9_-]{0,10}", fullmatch=True),
            st.from_regex(r"[a-z0-9_-]{0,10}", fullmatch=True),
            max_size=3,
        ),
        "encryption_spec": st.just({"kms_key_name": "projects/p/locations/r/keyRings/k/cryptoKeys/c"}),
    },
)


def camel(value: Any, *, keys: bool = True) -> Any:
    """Return a body with its field names in camel case; the keys of labels are no field names."""
    if isinstance(value, list):
        return [camel(part) for part in value]
    if not isinstance(value, dict):
        return value
    return {
        _camel_word(key) if keys else key: camel(part, keys=key != "labels") for key, part in value.items()
    }


def _camel_word(name: str) -> str:
    head, *rest = name.split("_")
    return head + "".join(part.capitalize() for part in rest)


@given(BODIES)
def test_both_spellings_give_the_same_request(body: dict[str, Any]) -> None:
    """Snake case and camel case are the same request, and one that the real message takes."""
    snake = request_of({"config": body})
    assert request_of({"config": camel(body)}) == snake
    assert request_of({"config": json.loads(json.dumps(camel(body)))}) == snake


@given(BODIES)
def test_what_was_written_is_what_is_sent(body: dict[str, Any]) -> None:
    """Nothing of a good body is lost or changed on the way, and disk and counts are always said."""
    sent = CustomJob(ParseDict(request_of({"config": body}), CustomJob.pb()()))
    asked = CustomJob(ParseDict(body, CustomJob.pb()()))
    for one in asked.job_spec.worker_pool_specs:
        one.replica_count = one.replica_count or 1
        one.disk_spec.boot_disk_type = one.disk_spec.boot_disk_type or "pd-ssd"
        one.disk_spec.boot_disk_size_gb = one.disk_spec.boot_disk_size_gb or 100
    assert sent == asked


@given(SPECS)
def test_the_spec_alone_and_the_pools_alone_give_the_same_request(spec: dict[str, Any]) -> None:
    """A spec without a body, and worker pools as a parameter, are the body with that spec."""
    whole = request_of({"config": {"display_name": "nightly", "job_spec": spec}})
    assert request_of({"display_name": "nightly", "config": spec}) == whole
    rest = {key: value for key, value in spec.items() if key != "worker_pool_specs"}
    parts = {"display_name": "nightly", "config": rest, "worker_pool_specs": spec["worker_pool_specs"]}
    assert request_of(parts) == whole


@given(
    text=st.lists(TEXTS, max_size=4),
    env=st.dictionaries(NAMES, TEXTS, max_size=4),
    replicas=st.integers(1, 20),
    form=st.sampled_from([str, int]),
    count=st.sampled_from([None, 1, 2, 4]),
)
def test_the_short_form_is_the_long_form(
    *, text: list[str], env: dict[str, str], replicas: int, form: type, count: int | None
) -> None:
    """One container on one kind of machine gives the pools one would write, numbers as texts or not."""
    gpu = {} if count is None else {"accelerator_type": "NVIDIA_TESLA_T4", "accelerator_count": form(count)}
    short = {
        **SHORT,
        **gpu,
        "command": text,
        "args": text,
        "env": env,
        "replica_count": form(replicas),
        "boot_disk_type": "pd-standard",
        "boot_disk_size_gb": form(200),
    }
    one = {
        "machine_spec": {
            "machine_type": "n1-standard-4",
            **({} if count is None else {**gpu, "accelerator_count": count}),
        },
        "disk_spec": {"boot_disk_type": "pd-standard", "boot_disk_size_gb": 200},
        "container_spec": {
            "image_uri": IMAGE,
            "command": text,
            "args": text,
            "env": [{"name": name, "value": value} for name, value in env.items()],
        },
    }
    pools = [{**one, "replica_count": 1}, {**one, "replica_count": replicas - 1}]
    assert request_of(short)["job_spec"]["worker_pool_specs"] == pools[: min(replicas, 2)]


def test_every_parameter_has_its_place() -> None:
    """Each parameter becomes the field of the API that it is named after."""
    job = request_of(
        {
            **SHORT,
            "labels": {"team": "ranking"},
            "persistent_resource_id": "nightly",
            "base_output_dir": "gs://models/iris",
            "service_account": "trainer@acme.iam.gserviceaccount.com",
            "network": "projects/123/global/networks/training",
            "psc_interface_config": {"networkAttachment": "attachment"},
            "reserved_ip_ranges": ["range"],
            "tensorboard": "projects/p/locations/r/tensorboards/1",
            "experiment": "projects/p/locations/r/metadataStores/default/contexts/e",
            "experiment_run": "projects/p/locations/r/metadataStores/default/contexts/r",
            "encryption_spec_key_name": "projects/p/locations/r/keyRings/k/cryptoKeys/c",
            "enable_web_access": "True",
            "enable_dashboard_access": False,
            "max_run_duration": timedelta(hours=2),
            "restart_job_on_worker_restart": "false",
            "disable_retries": True,
        }
    )
    spec = job["job_spec"]
    assert spec.pop("worker_pool_specs")
    assert job == {
        "display_name": "nightly",
        "labels": {"team": "ranking"},
        "encryption_spec": {"kms_key_name": "projects/p/locations/r/keyRings/k/cryptoKeys/c"},
        "job_spec": {
            "persistent_resource_id": "nightly",
            "base_output_directory": {"output_uri_prefix": "gs://models/iris"},
            "service_account": "trainer@acme.iam.gserviceaccount.com",
            "network": "projects/123/global/networks/training",
            "psc_interface_config": {"network_attachment": "attachment"},
            "reserved_ip_ranges": ["range"],
            "tensorboard": "projects/p/locations/r/tensorboards/1",
            "experiment": "projects/p/locations/r/metadataStores/default/contexts/e",
            "experiment_run": "projects/p/locations/r/metadataStores/default/contexts/r",
            "enable_web_access": True,
            "enable_dashboard_access": False,
            "scheduling": {
                "timeout": "7200s",
                "restart_job_on_worker_restart": False,
                "disable_retries": True,
            },
        },
    }


def test_parameters_win_over_the_config() -> None:
    """A parameter replaces the same field of the config, in either spelling, and leaves the others."""
    config = {
        "displayName": "from config",
        "labels": {"a": "config", "b": "config"},
        "jobSpec": {
            "workerPoolSpecs": [POOL],
            "persistentResourceId": "from-config",
            "baseOutputDirectory": {"outputUriPrefix": "gs://config/a"},
            "scheduling": {"timeout": "60s", "disableRetries": False, "strategy": "SPOT"},
        },
    }
    job = request_of(
        {
            "config": config,
            "display_name": "nightly",
            "labels": {"b": "parameter"},
            "persistent_resource_id": "nightly",
            "base_output_dir": "gs://parameter/a",
            "max_run_duration": "120s",
            "disable_retries": True,
        }
    )
    assert job["display_name"] == "nightly"
    assert job["labels"] == {"a": "config", "b": "parameter"}
    assert job["job_spec"]["persistent_resource_id"] == "nightly"
    assert job["job_spec"]["base_output_directory"] == {"output_uri_prefix": "gs://parameter/a"}
    assert job["job_spec"]["scheduling"] == {"timeout": "120s", "disable_retries": True, "strategy": "SPOT"}


def test_what_the_user_wrote_is_left_as_it_was() -> None:
    """Checking a request does not change the dictionaries of the DAG, which mapped tasks share."""
    config = {"jobSpec": {"workerPoolSpecs": [POOL], "scheduling": {"timeout": "60s"}}, "displayName": "n"}
    wanted = {"config": config, "max_run_duration": 5, "display_name": "other", "disable_retries": True}
    before = json.dumps(wanted, sort_keys=True)
    request_of(wanted)
    assert json.dumps(wanted, sort_keys=True) == before


def test_a_single_mapping_is_one_pool() -> None:
    """Gcloud's config files may hold one worker pool without a list."""
    assert request_of({**WRITTEN, "worker_pool_specs": POOL}) == request_of(WRITTEN)


def test_an_empty_mapping_skips_a_pool() -> None:
    """A pool that is left out keeps the number of those after it."""
    pools = request_of({**WRITTEN, "worker_pool_specs": [POOL, {}, POOL]})["job_spec"]["worker_pool_specs"]
    assert pools[1] == {}
    assert pools[2]["replica_count"] == 1


# --- bad input ----------------------------------------------------------------------------------------------

ONE_KIND = "give exactly one of container_uri, worker_pool_specs and a config with workerPoolSpecs"


@pytest.mark.parametrize(
    ("wanted", "line"),
    [
        ({"display_name": "n"}, f"work = None: {ONE_KIND}"),
        ({**SHORT, **WRITTEN}, f"work = 'container_uri and worker_pool_specs': {ONE_KIND}"),
        (
            {**WRITTEN, "config": {"workerPoolSpecs": [POOL]}},
            f"work = 'worker_pool_specs and config': {ONE_KIND}",
        ),
        (
            {**WRITTEN, "args": ["--epochs"]},
            "args: goes with container_uri; with worker_pool_specs, write it into the worker pool",
        ),
        (
            {"display_name": "n", "config": {"workerPoolSpecs": [POOL]}, "machine_type": "n1-standard-4"},
            "machine_type: goes with container_uri; with config, write it into the worker pool",
        ),
        ({**SHORT, "display_name": ""}, "display_name = '': write 1 to 128 characters"),
        ({**SHORT, "labels": {"Team": "a"}}, "labels['Team']: a key has 1 to 64 of"),
        ({**SHORT, "labels": "team"}, "labels"),
        ({**SHORT, "labels": ["team"]}, "labels"),
        ({**SHORT, "persistent_resource_id": "Nightly"}, "persistent_resource_id = 'Nightly': 1 to 63 "),
        ({**SHORT, "persistent_resource_id": ""}, "persistent_resource_id = '': 1 to 63 "),
        ({**SHORT, "base_output_dir": "models/iris"}, "base_output_dir = 'models/iris': write a Cloud Sto"),
        ({**SHORT, "network": "default"}, "network = 'default': write 'projects/PROJECT_NUMBER/"),
        ({**SHORT, "service_account": "trainer"}, "service_account = 'trainer': write its e-mail"),
        ({**SHORT, "tensorboard": "tb"}, "tensorboard = 'tb': needs a service_account"),
        ({**SHORT, "enable_web_access": "yes"}, "enable_web_access = 'yes': write True or False"),
        ({**SHORT, "disable_retries": 1}, "scheduling.disable_retries = 1: write True or False"),
        ({**SHORT, "max_run_duration": 0}, "max_run_duration = 0: must be more than 0"),
        ({**SHORT, "max_run_duration": "-1s"}, "max_run_duration = '-1s': write a timedelta"),
        ({**SHORT, "replica_count": 0}, "replica_count = 0: write a whole number, 1 or more"),
        ({**SHORT, "replica_count": -2}, "replica_count = -2: write a whole number, 1 or more"),
        ({**SHORT, "replica_count": "many"}, "replica_count = 'many': write a whole number, 1 or more"),
        ({**SHORT, "replica_count": 1.5}, "replica_count = 1.5: write a whole number, 1 or more"),
        ({**SHORT, "replica_count": True}, "replica_count = True: write a whole number, 1 or more"),
        ({**SHORT, "container_uri": ""}, "container_uri: is required"),
        ({**SHORT, "machine_type": ""}, "machine_type: say a machine type, like 'n1-standard-8'"),
        ({**SHORT, "args": "--epochs 5"}, "args"),
        ({**SHORT, "command": "python"}, "command"),
        ({**SHORT, "env": "A=1"}, "env: write a mapping of texts"),
        ({**SHORT, "boot_disk_size_gb": 99}, "boot_disk_size_gb = 99: must be 100 to 64000"),
        ({**SHORT, "boot_disk_size_gb": "64001"}, "boot_disk_size_gb = 64001: must be 100 to 64000"),
        ({**SHORT, "boot_disk_size_gb": "big"}, "boot_disk_size_gb = 'big': write a whole number"),
        ({**SHORT, "accelerator_type": "NVIDIA_TESLA_T4"}, "accelerator_count = None: say how many"),
        ({**SHORT, "accelerator_count": 1}, "accelerator_type = None: say which accelerator"),
        (
            {**SHORT, "accelerator_type": "NVIDIA_TESLA_T4", "accelerator_count": 0},
            "accelerator_count = 0: say how many NVIDIA_TESLA_T4, 1 or more",
        ),
        (
            {**SHORT, "accelerator_type": "NVIDIA_TESLA_T4", "accelerator_count": 3},
            "accelerator_count = 3: a machine can have 1, 2, 4 NVIDIA_TESLA_T4",
        ),
        (
            {**SHORT, "accelerator_type": "NVIDIA_TESLA_T5", "accelerator_count": 1},
            "accelerator_type = 'NVIDIA_TESLA_T5': is no AcceleratorType; did you mean NVIDIA_TESLA_T4",
        ),
        (
            {**SHORT, "accelerator_type": "nvidia-tesla-t4", "accelerator_count": 1},
            "accelerator_type = 'nvidia-tesla-t4': is no AcceleratorType; did you mean NVIDIA_TESLA_T4",
        ),
        (
            {**SHORT, "accelerator_type": "NVIDIA_L4", "accelerator_count": 1},
            "machine_type = 'n1-standard-4': NVIDIA_L4 ",
        ),
        (
            {
                **WRITTEN,
                "worker_pool_specs": [pool(machine_spec=machine("e2-standard-4", "NVIDIA_TESLA_T4", 1))],
            },
            "worker_pool_specs[0].machine_spec.machine_type = 'e2-standard-4': NVIDIA_TESLA_T4 goes with a ma",
        ),
        (
            {**WRITTEN, "worker_pool_specs": [pool(machine_spec=machine("g2-standard-24", "NVIDIA_L4", 1))]},
            (
                "worker_pool_specs[0].machine_spec.machine_type = 'g2-standard-24': has accelerator_type 'NVIDIA_L4' and "
                "accelerator_count 2; write both"
            ),
        ),
        ({**WRITTEN, "worker_pool_specs": []}, "worker_pool_specs: write a list of worker pools"),
        ({**WRITTEN, "worker_pool_specs": "[{}]"}, "worker_pool_specs: write a list of worker pools"),
        (
            {**WRITTEN, "worker_pool_specs": [POOL] * 5},
            "worker_pool_specs = '5 pools': at most 4 are allowed",
        ),
        ({**WRITTEN, "worker_pool_specs": ["POOL"]}, "worker_pool_specs[0]: write a mapping"),
        (
            {**WRITTEN, "worker_pool_specs": [pool(replica_count=2)]},
            "worker_pool_specs[0].replica_count = 2: the first pool holds the one primary replica: write 1",
        ),
        (
            {**WRITTEN, "worker_pool_specs": [POOL, pool(replica_count=0)]},
            "worker_pool_specs[1].replica_count = 0: must be 1 or more",
        ),
        (
            {**WRITTEN, "worker_pool_specs": [POOL, pool(replica_count="two")]},
            "worker_pool_specs[1].replica_count = 'two': write a whole number",
        ),
        (
            {**WRITTEN, "worker_pool_specs": [pool(replica_count="one")]},
            "worker_pool_specs[0].replica_count = 'one': write a whole number",
        ),
        (
            {**WRITTEN, "worker_pool_specs": [pool(replicaCont=1)]},
            "worker_pool_specs[0].replicaCont: WorkerPoolSpec has no such field; did you mean 'replica_count'?",
        ),
        (
            {**WRITTEN, "worker_pool_specs": [pool(colour=1)]},
            "worker_pool_specs[0].colour: WorkerPoolSpec has no such field; it has ",
        ),
        (
            {**WRITTEN, "worker_pool_specs": [pool(replicaCount=1, replica_count=1)]},
            "worker_pool_specs[0].replica_count: is given twice, as 'replica_count' and 'replicaCount'",
        ),
        (
            {**WRITTEN, "worker_pool_specs": [pool(machine_spec={})]},
            "worker_pool_specs[0].machine_spec.machine_type: say a machine type",
        ),
        (
            {**WRITTEN, "worker_pool_specs": [{"machine_spec": POOL["machine_spec"]}]},
            "worker_pool_specs[0]: write one of container_spec and python_package_spec",
        ),
        (
            {**WRITTEN, "worker_pool_specs": [pool(container_spec={})]},
            "worker_pool_specs[0].container_spec.image_uri: is required",
        ),
        (
            {
                **WRITTEN,
                "worker_pool_specs": [
                    {
                        "machine_spec": POOL["machine_spec"],
                        "python_package_spec": {"executor_image_uri": IMAGE, "python_module": "trainer.task"},
                    }
                ],
            },
            "worker_pool_specs[0].python_package_spec.package_uris: is required",
        ),
        (
            {**WRITTEN, "worker_pool_specs": [pool(container_spec={"image_uri": IMAGE, "args": "--epochs"})]},
            "worker_pool_specs[0].container_spec.args: write a list",
        ),
        (
            {
                **WRITTEN,
                "worker_pool_specs": [
                    pool(container_spec={"image_uri": IMAGE, "env": [{"name": f"N{i}"} for i in range(101)]})
                ],
            },
            "worker_pool_specs[0].container_spec.env = '101 entries': at most 100 are allowed",
        ),
        (
            {**SHORT, "args": ["x" * 100_001]},
            "args = '100001 characters': at most 100000 are allowed; pass a gs:// address instead",
        ),
        ({"config": ["a"]}, "config: write a mapping, or the path"),
        ({**SHORT, "config": {"scheduling": "fast"}}, "scheduling"),
        (
            {**SHORT, "config": {"scheduling": {"timeout": "0s"}}},
            "scheduling.timeout = '0s': must be more than 0",
        ),
        ({**SHORT, "config": {"scheduling": {"timeout": -5}}}, "scheduling.timeout = -5: must be "),
        (
            {**SHORT, "config": {"scheduling": {"strategy": "FLEXSTART"}}},
            "scheduling.strategy = 'FLEXSTART': is no Strategy; did you mean FLEX_START",
        ),
        (
            {**SHORT, "config": {"schedulling": {}}},
            "schedulling: CustomJobSpec has no such field; did you mean",
        ),
        ({"config": {"displayName": "n", "jobSpec": [POOL]}}, "job_spec"),
        (
            {**SHORT, "config": {"displayName": "n", "jobSpec": {}, "labels": ["a"]}, "labels": {"a": "b"}},
            "labels",
        ),
        ({**SHORT, "accelerator_type": "NVIDIA_L4", "accelerator_count": 2**40}, "accelerator_count"),
    ],
)
def test_each_wrong_thing_is_told(wanted: dict[str, Any], line: str) -> None:
    """The message names the field, the value that was written and the fix."""
    told = problems_of(wanted)
    assert [problem for problem in told if problem.startswith(line)], told


@pytest.mark.parametrize(
    "wanted",
    [
        {**SHORT, "replica_count": "many"},
        {**SHORT, "boot_disk_size_gb": "big"},
        {**SHORT, "labels": "team"},
        {**SHORT, "labels": {"Team": "a"}},
        {**SHORT, "display_name": ["nightly"]},
        {**SHORT, "persistent_resource_id": ["nightly"]},
        {**SHORT, "base_output_dir": ["gs://models"]},
        {**SHORT, "base_output_dir": "models"},
        {**SHORT, "network": ["default"]},
        {**SHORT, "container_uri": [IMAGE]},
        {**SHORT, "machine_type": ["n1-standard-4"]},
        {**SHORT, "accelerator_type": "NVIDIA_TESLA_T5", "accelerator_count": 1},
        {**SHORT, "accelerator_type": "NVIDIA_TESLA_T4", "accelerator_count": "two"},
        {**SHORT, "max_run_duration": "2h"},
        {**SHORT, "config": {"scheduling": "fast"}},
        {**WRITTEN, "worker_pool_specs": [pool(replica_count="one")]},
        {**WRITTEN, "worker_pool_specs": [POOL, pool(replica_count="two")]},
        {**WRITTEN, "worker_pool_specs": [pool(disk_spec=["pd-ssd"])]},
        {**WRITTEN, "worker_pool_specs": [pool(container_spec=[IMAGE])]},
        {**WRITTEN, "worker_pool_specs": [pool(machine_spec="n1-standard-4")]},
        {**WRITTEN, "worker_pool_specs": ["POOL"]},
    ],
)
def test_one_mistake_is_told_once(wanted: dict[str, Any]) -> None:
    """A mistake does not drag along problems with values that the user never wrote."""
    assert len(problems_of(wanted)) == 1


def test_all_problems_of_a_request_come_at_once() -> None:
    """One message lists every problem, whichever part of the request it is in."""
    told = problems_of(
        {
            "display_name": "n" * 129,
            "labels": {"Team": "A"},
            "worker_pool_specs": [
                pool(machine_spec=machine("n1-standard-4", "NVIDIA_TESLA_T4", 3), imageUri=IMAGE),
                pool(replica_count=0, disk_spec={"boot_disk_size_gb": 5}),
            ],
            "persistent_resource_id": "Nightly",
            "base_output_dir": "models",
            "network": "default",
            "service_account": "trainer",
            "max_run_duration": -1,
        }
    )
    fields = {line.split(" = ")[0].split(": ")[0] for line in told}
    assert fields == {
        "display_name",
        "labels['Team']",
        "worker_pool_specs[0].machine_spec.accelerator_count",
        "worker_pool_specs[0].imageUri",
        "worker_pool_specs[1].replica_count",
        "worker_pool_specs[1].disk_spec.boot_disk_size_gb",
        "persistent_resource_id",
        "base_output_dir",
        "network",
        "service_account",
        "max_run_duration",
    }


# --- secrets ------------------------------------------------------------------------------------------------

ENVIRONMENTS = st.sampled_from(
    [
        {"A": SECRET},
        {"A": {"B": SECRET}},
        {"A": [SECRET]},
        {1: SECRET},
        [{"name": "A", "value": SECRET}],
        [{"name": "A", "values": SECRET}],
        [{"name": "A", "value": [SECRET]}],
        [{"name": "A", "value": {"secret": SECRET}}],
        [{"A": SECRET}],
        [["A", SECRET]],
        [f"A={SECRET}"],
        [{"name": ["A"], "value": SECRET}],
        (("A", SECRET),),
        f"A={SECRET}",
        SECRET.encode(),
        {f"A={SECRET}"},
        json.dumps({"A": SECRET}),
    ]
)
# Somewhere a problem must be, or nothing would be told.
WRONG = {"persistent_resource_id": "Nightly"}


def shapes(env: Any) -> list[dict[str, Any]]:
    """Return requests, each wrong in its own way, that hold an environment."""
    container = {"image_uri": IMAGE, "env": env}
    one = pool(container_spec=container)
    package = {"executor_image_uri": IMAGE, "python_module": "m", "package_uris": "p", "env": env}
    as_text = json.dumps({"env": str(env)})
    return [
        {**SHORT, "env": env},
        {**SHORT, "env": [env]},
        {**SHORT, "env": {"A": env}},
        {**WRITTEN, "env": env},
        {**WRITTEN, "worker_pool_specs": one},
        {**WRITTEN, "worker_pool_specs": [one]},
        {**WRITTEN, "worker_pool_specs": [[one]]},
        {**WRITTEN, "worker_pool_specs": {"0": one}},
        {**WRITTEN, "worker_pool_specs": [pool(env=env)]},
        {**WRITTEN, "worker_pool_specs": [pool(container_spec=[container])]},
        {**WRITTEN, "worker_pool_specs": [pool(container_spec=as_text)]},
        {**WRITTEN, "worker_pool_specs": [as_text]},
        {**WRITTEN, "worker_pool_specs": as_text},
        {**WRITTEN, "worker_pool_specs": [pool(python_package_spec=package)]},
        {**WRITTEN, "worker_pool_specs": [pool(machine_spec={"machine_type": "n1-standard-4", "env": env})]},
        {"config": {"workerPoolSpecs": [one], "env": env}},
        {"config": {"displayName": "n", "jobSpec": one}},
        {"config": {"displayName": "n", "jobSpec": [one]}},
        {"config": {"displayName": "n", "jobSpec": as_text}},
        {"config": [one]},
        {"config": {"jobSpec": {"workerPoolSpecs": one}, "scheduling": one}},
    ]


@given(env=ENVIRONMENTS, which=st.integers(0, len(shapes({})) - 1))
def test_values_of_the_environment_are_never_told(env: Any, which: int) -> None:
    """However an environment is mistyped or misplaced, no error shows a value of it."""
    told = problems_of({**shapes(env)[which], **WRONG})
    assert SECRET not in "\n".join(told)


# Every field of a job and of its first worker pool that could get the lines that belong to `env`.
SCALARS = (
    "display_name",
    "labels",
    "machine_type",
    "accelerator_type",
    "accelerator_count",
    "replica_count",
    "boot_disk_size_gb",
    "base_output_dir",
    "service_account",
    "network",
    "tensorboard",
    "reserved_ip_ranges",
    "psc_interface_config",
    "enable_web_access",
    "max_run_duration",
    "disable_retries",
)
MISPLACED = [
    *({**SHORT, field: "ENV"} for field in SCALARS),
    {**WRITTEN, "worker_pool_specs": [pool(replica_count="ENV")]},
    {**WRITTEN, "worker_pool_specs": [pool(disk_spec={"boot_disk_size_gb": "ENV"})]},
    {**WRITTEN, "worker_pool_specs": [pool(machine_spec={"accelerator_type": "ENV"})]},
    {**SHORT, "config": {"scheduling": {"timeout": "ENV"}}},
    {**SHORT, "config": {"scheduling": {"disableRetries": "ENV"}}},
]


@pytest.mark.parametrize("wanted", MISPLACED)
@pytest.mark.parametrize("env", [{"A": SECRET}, [{"name": "A", "value": SECRET}]])
def test_an_environment_in_a_field_of_another_kind_is_not_told(wanted: dict[str, Any], env: Any) -> None:
    """A wrong indentation can put the environment under any field: structures are never shown."""

    def filled(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: filled(part) for key, part in value.items()}
        if isinstance(value, list):
            return [filled(part) for part in value]
        return env if value == "ENV" else value

    told = problems_of({**filled(wanted), **WRONG})
    assert SECRET not in "\n".join(told)
