# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import json
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from google.cloud.aiplatform_v1.types import CustomJob
from google.protobuf.json_format import ParseDict
from hypothesis import given
from hypothesis import strategies as st

if TYPE_CHECKING:
    from collections.abc import Callable

    Ask = Callable[[dict[str, Any]], Any]

IMAGE = "europe-west4-docker.pkg.dev/acme/training/iris:1"
SHORT = {"display_name": "nightly", "container_uri": IMAGE, "machine_type": "n1-standard-4"}
POOL = {
    "machine_spec": {"machine_type": "n1-standard-4"},
    "container_spec": {"image_uri": IMAGE},
}
WRITTEN = {"display_name": "nightly", "worker_pool_specs": [POOL]}


def machine(type_: Any, accelerator: Any = None, count: Any = None) -> dict[str, Any]:
    """Return a machine without the parts that are not given."""
    fields = {"machine_type": type_, "accelerator_type": accelerator, "accelerator_count": count}
    return {name: value for name, value in fields.items() if value is not None}


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
                "strategy": st.sampled_from(["STANDARD", "ON_DEMAND"]),
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
def test_both_spellings_give_the_same_request(request_of: Ask, body: dict[str, Any]) -> None:
    """Snake case and camel case are the same request, and one that the real message takes."""
    snake = request_of({"config": body})
    assert request_of({"config": camel(body)}) == snake
    assert request_of({"config": json.loads(json.dumps(camel(body)))}) == snake


@given(BODIES)
def test_what_was_written_is_what_is_sent(request_of: Ask, body: dict[str, Any]) -> None:
    """Nothing of a good body is lost or changed on the way; counts are always said, disks but on warm machines."""
    sent = CustomJob(ParseDict(request_of({"config": body}), CustomJob.pb()()))
    asked = CustomJob(ParseDict(body, CustomJob.pb()()))
    for one in asked.job_spec.worker_pool_specs:
        one.replica_count = one.replica_count or 1
        if asked.job_spec.persistent_resource_id:
            if not one.disk_spec:
                del one.disk_spec
            continue
        one.disk_spec.boot_disk_type = one.disk_spec.boot_disk_type or "pd-ssd"
        one.disk_spec.boot_disk_size_gb = one.disk_spec.boot_disk_size_gb or 100
    assert sent == asked


@given(SPECS)
def test_the_spec_alone_and_the_pools_alone_give_the_same_request(
    request_of: Ask, spec: dict[str, Any]
) -> None:
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
    request_of: Ask, *, text: list[str], env: dict[str, str], replicas: int, form: type, count: int | None
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


def test_every_parameter_has_its_place(request_of: Ask) -> None:
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


def test_parameters_win_over_the_config(request_of: Ask) -> None:
    """A parameter replaces the same field of the config, in either spelling, and leaves the others."""
    config = {
        "displayName": "from config",
        "labels": {"a": "config", "b": "config"},
        "jobSpec": {
            "workerPoolSpecs": [POOL],
            "persistentResourceId": "from-config",
            "baseOutputDirectory": {"outputUriPrefix": "gs://config/a"},
            "scheduling": {"timeout": "60s", "disableRetries": False, "strategy": "STANDARD"},
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
    assert job["job_spec"]["scheduling"] == {
        "timeout": "120s",
        "disable_retries": True,
        "strategy": "STANDARD",
    }


def test_what_the_user_wrote_is_left_as_it_was(request_of: Ask) -> None:
    """Checking a request does not change the dictionaries of the DAG, which mapped tasks share."""
    config = {"jobSpec": {"workerPoolSpecs": [POOL], "scheduling": {"timeout": "60s"}}, "displayName": "n"}
    wanted = {"config": config, "max_run_duration": 5, "display_name": "other", "disable_retries": True}
    before = json.dumps(wanted, sort_keys=True)
    request_of(wanted)
    assert json.dumps(wanted, sort_keys=True) == before


def test_a_single_mapping_is_one_pool(request_of: Ask) -> None:
    """Gcloud's config files may hold one worker pool without a list."""
    assert request_of({**WRITTEN, "worker_pool_specs": POOL}) == request_of(WRITTEN)


def test_an_empty_mapping_skips_a_pool(request_of: Ask) -> None:
    """A pool that is left out keeps the number of those after it."""
    pools = request_of({**WRITTEN, "worker_pool_specs": [POOL, {}, POOL]})["job_spec"]["worker_pool_specs"]
    assert pools[1] == {}
    assert pools[2]["replica_count"] == 1
