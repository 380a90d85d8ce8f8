# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest
from google.cloud.aiplatform_v1.types import PersistentResource
from google.protobuf.json_format import ParseDict
from hypothesis import given
from hypothesis import strategies as st

from airflow_vertex_persistent.exceptions import InvalidRequestError
from airflow_vertex_persistent.hooks.persistent_resource import resource_body
from airflow_vertex_persistent.specs.checks import Problems
from airflow_vertex_persistent.specs.persistent_resource import differences, persistent_resource

POOL = {"machine_spec": {"machine_type": "n1-standard-4"}, "replica_count": 2}
GPU_POOL = {
    "id": "gpus",
    "machine_spec": {
        "machine_type": "n1-highmem-8",
        "accelerator_type": "NVIDIA_TESLA_T4",
        "accelerator_count": 2,
    },
    "disk_spec": {"boot_disk_type": "pd-standard", "boot_disk_size_gb": 200},
    "autoscaling_spec": {"min_replica_count": 1, "max_replica_count": 4},
}
GOOD: dict[str, Any] = {"persistent_resource_id": "nightly", "resource_pools": [POOL, GPU_POOL]}
FULL: dict[str, Any] = {
    **GOOD,
    "network": "projects/123/global/networks/training",
    "psc_interface_config": {"network_attachment": "attachment"},
    "reserved_ip_ranges": ["range"],
    "encryption_spec_key_name": "projects/p/locations/r/keyRings/k/cryptoKeys/c",
    "enable_custom_service_account": True,
    "service_account": "trainer@acme.iam.gserviceaccount.com",
}


def request_of(wanted: dict[str, Any]) -> dict[str, Any]:
    """Return the request for what is wanted, which must be good."""
    problems = Problems("persistent resource")
    resource = persistent_resource(wanted, problems)
    problems.raise_if_any()
    return resource


def problems_of(wanted: dict[str, Any]) -> tuple[str, ...]:
    """Return what is wrong with what is wanted, which must not be good."""
    problems = Problems("persistent resource")
    persistent_resource(wanted, problems)
    with pytest.raises(InvalidRequestError) as caught:
        problems.raise_if_any()
    return caught.value.problems


def live(wanted: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """Return what the service answers about a resource that was created so, with all that it adds."""
    resource: Any = PersistentResource(ParseDict(request_of(wanted), PersistentResource.pb()()))
    resource.name = "projects/123/locations/europe-west4/persistentResources/nightly"
    resource.display_name = resource.display_name or "nightly"
    resource.state = PersistentResource.State.RUNNING
    resource.create_time = resource.start_time = resource.update_time = "2026-11-22T02:00:00Z"
    resource.error = {"code": 0}
    for number, pool in enumerate(resource.resource_pools):
        pool.id = pool.id or f"{pool.machine_spec.machine_type}-{number}"
        pool.replica_count = pool.replica_count or 1
        pool.used_replica_count = 1
    return {**resource_body(resource), **changes}


REPLICAS = st.fixed_dictionaries({"replica_count": st.integers(1, 1000)})
SCALING = st.builds(
    lambda least, more: {"autoscaling_spec": {"min_replica_count": least, "max_replica_count": least + more}},
    st.integers(1, 500),
    st.integers(1, 500),
)
POOLS = st.builds(
    lambda base, size, disk: {**base, **size, **disk},
    st.sampled_from([{"machine_spec": POOL["machine_spec"]}, {"machine_spec": GPU_POOL["machine_spec"]}]),
    REPLICAS | SCALING,
    st.sampled_from([{}, {"disk_spec": {}}, {"disk_spec": {"boot_disk_type": "pd-standard"}}]),
)


@given(st.lists(POOLS, min_size=1, max_size=4))
def test_a_resource_equals_what_the_service_makes_of_it(pools: list[dict[str, Any]]) -> None:
    """Generated ids, counts as texts, times, states and used machines are no difference."""
    wanted = {"persistent_resource_id": "nightly", "resource_pools": pools}
    answer = live(wanted)
    assert "replica_count" not in pools[0] or isinstance(answer["resource_pools"][0]["replica_count"], str)
    assert differences(request_of(wanted), answer) == []


def test_a_resource_with_everything_equals_itself() -> None:
    """Every field that can be given survives the comparison with what the service keeps."""
    assert differences(request_of(FULL), live(FULL)) == []


def test_names_and_labels_are_no_difference() -> None:
    """A resource with another display name or labels is still the machines that are wanted."""
    assert differences(request_of({**GOOD, "display_name": "a", "labels": {"b": "c"}}), live(GOOD)) == []


def test_an_autoscaled_pool_may_have_any_size_now() -> None:
    """The machines of an autoscaled pool come and go without making it another one."""
    answer = live(GOOD)
    answer["resource_pools"][1]["replica_count"] = "3"
    assert differences(request_of(GOOD), answer) == []


def change(path: str, value: Any) -> dict[str, Any]:
    """Return the live form of everything, with one field changed; the path's parts are keys and indexes."""
    answer = deepcopy(live(FULL))
    *parents, last = [int(part) if part.isdigit() else part for part in path.split(".")]
    place: Any = answer
    for part in parents:
        place = place[part]
    if value is None:
        del place[last]
    else:
        place[last] = value
    return answer


@pytest.mark.parametrize(
    ("path", "value", "field"),
    [
        ("network", "projects/123/global/networks/other", "network"),
        ("network", None, "network"),
        ("psc_interface_config.network_attachment", "other", "psc_interface_config"),
        ("reserved_ip_ranges", ["other"], "reserved_ip_ranges"),
        ("encryption_spec", None, "encryption_spec"),
        (
            "resource_runtime_spec.service_account_spec.service_account",
            "other@acme.iam.gserviceaccount.com",
            "resource_runtime_spec",
        ),
        ("resource_pools.0.machine_spec.machine_type", "n1-standard-8", "resource_pools[0].machine_spec"),
        ("resource_pools.0.replica_count", "3", "resource_pools[0].replica_count"),
        ("resource_pools.0.disk_spec.boot_disk_size_gb", 200, "resource_pools[0].disk_spec"),
        ("resource_pools.0.disk_spec.boot_disk_type", "pd-standard", "resource_pools[0].disk_spec"),
        ("resource_pools.1.id", "cpus", "resource_pools[1].id"),
        ("resource_pools.1.machine_spec.accelerator_count", 4, "resource_pools[1].machine_spec"),
        (
            "resource_pools.1.machine_spec.accelerator_type",
            "NVIDIA_TESLA_P4",
            "resource_pools[1].machine_spec",
        ),
        ("resource_pools.1.autoscaling_spec.max_replica_count", "5", "resource_pools[1].autoscaling_spec"),
        ("resource_pools.1.autoscaling_spec", None, "resource_pools[1].autoscaling_spec"),
        (
            "resource_pools.0.autoscaling_spec",
            {"min_replica_count": "1", "max_replica_count": "2"},
            "resource_pools[0].autoscaling_spec",
        ),
    ],
)
def test_each_field_that_differs_is_named(path: str, value: Any, field: str) -> None:
    """One changed field gives one line that begins with its name and shows both values."""
    (line,) = differences(request_of(FULL), change(path, value))
    assert line.startswith(f"{field} is ")
    assert ", wanted " in line


def test_several_differences_are_all_named() -> None:
    """A resource that differs in three places is told in three lines."""
    answer = change("resource_pools.0.replica_count", "5")
    answer["network"] = "projects/1/global/networks/other"
    answer["resource_pools"][1]["disk_spec"]["boot_disk_size_gb"] = 999
    fields = [line.split(" is ")[0] for line in differences(request_of(FULL), answer)]
    assert fields == ["network", "resource_pools[0].replica_count", "resource_pools[1].disk_spec"]


def test_another_number_of_pools_is_a_difference() -> None:
    """Pools that are missing or too many are told by their number."""
    answer = live(GOOD)
    del answer["resource_pools"][1]
    assert differences(request_of(GOOD), answer) == ["resource_pools is '1 pools', wanted '2 pools'"]


def test_every_parameter_has_its_place() -> None:
    """Each parameter becomes the field of the API that it is named after; a disk is always said."""
    assert request_of({**FULL, "display_name": "Nightly", "labels": {"team": "ranking"}}) == {
        "display_name": "Nightly",
        "labels": {"team": "ranking"},
        "network": "projects/123/global/networks/training",
        "psc_interface_config": {"network_attachment": "attachment"},
        "reserved_ip_ranges": ["range"],
        "encryption_spec": {"kms_key_name": "projects/p/locations/r/keyRings/k/cryptoKeys/c"},
        "resource_runtime_spec": {
            "service_account_spec": {
                "enable_custom_service_account": True,
                "service_account": "trainer@acme.iam.gserviceaccount.com",
            }
        },
        "resource_pools": [
            {**POOL, "disk_spec": {"boot_disk_type": "pd-ssd", "boot_disk_size_gb": 100}},
            GPU_POOL,
        ],
    }


def test_camel_case_and_texts_are_the_same_request() -> None:
    """Pools as the REST API writes them, with numbers that a template rendered, are the same pools."""
    pools = [
        {"machineSpec": {"machineType": "n1-standard-4"}, "replicaCount": "2"},
        {
            "id": "gpus",
            "machineSpec": {
                "machineType": "n1-highmem-8",
                "acceleratorType": "NVIDIA_TESLA_T4",
                "acceleratorCount": "2",
            },
            "diskSpec": {"bootDiskType": "pd-standard", "bootDiskSizeGb": "200"},
            "autoscalingSpec": {"minReplicaCount": "1", "maxReplicaCount": "4"},
        },
    ]
    assert request_of({**GOOD, "resource_pools": pools}) == request_of(GOOD)


def pools(**changes: Any) -> dict[str, Any]:
    """Return a wanted resource whose one pool has some fields changed."""
    return {**GOOD, "resource_pools": [{**POOL, **changes}]}


def scaled(**scaling: Any) -> dict[str, Any]:
    """Return a wanted resource with one autoscaled pool."""
    return pools(autoscaling_spec=scaling)


SCALING_FIX = "write min_replica_count and max_replica_count, 1 <= min < max"


@pytest.mark.parametrize(
    ("wanted", "line"),
    [
        ({**GOOD, "persistent_resource_id": "Nightly"}, "persistent_resource_id = 'Nightly': 1 to 63 "),
        ({**GOOD, "persistent_resource_id": None}, "persistent_resource_id = None: 1 to 63 "),
        ({**GOOD, "resource_pools": []}, "resource_pools: write a list of pools, at least one"),
        ({**GOOD, "resource_pools": None}, "resource_pools: write a list of pools, at least one"),
        ({**GOOD, "resource_pools": POOL}, "resource_pools: write a list"),
        ({**GOOD, "resource_pools": "[]"}, "resource_pools: write a list"),
        (pools(replicaCont=1), "resource_pools[0].replicaCont: ResourcePool has no such field; did you mean"),
        (pools(replica_count=0), "resource_pools[0].replica_count = 0: must be 1 or more"),
        (pools(replica_count=-1), "resource_pools[0].replica_count = -1: must be 1 or more"),
        (pools(replica_count="two"), "resource_pools[0].replica_count = 'two': write a whole number"),
        (pools(replica_count=None), "resource_pools[0].replica_count = None: must be 1 or more; or write"),
        (pools(machine_spec={}), "resource_pools[0].machine_spec.machine_type: say a machine type"),
        (
            pools(machine_spec={**GPU_POOL["machine_spec"], "accelerator_count": 3}),  # type: ignore[dict-item]
            "resource_pools[0].machine_spec.accelerator_count = 3: a machine can have 1, 2, 4 NVIDIA_TESLA_T4",
        ),
        (
            pools(disk_spec={"boot_disk_size_gb": 50}),
            "resource_pools[0].disk_spec.boot_disk_size_gb = 50: must be 100 to 64000",
        ),
        (
            scaled(min_replica_count=1),
            f"resource_pools[0].autoscaling_spec = '1 to None': {SCALING_FIX}",
        ),
        (
            scaled(min_replica_count=0, max_replica_count=2),
            f"resource_pools[0].autoscaling_spec = '0 to 2': {SCALING_FIX}",
        ),
        (
            scaled(min_replica_count=2, max_replica_count=2),
            f"resource_pools[0].autoscaling_spec = '2 to 2': {SCALING_FIX}",
        ),
        (
            scaled(min_replica_count=3, max_replica_count=4),
            "resource_pools[0].replica_count = 2: must be between 3 and 4",
        ),
        ({**GOOD, "labels": {"Team": "a"}}, "labels['Team']: a key has"),
        ({**GOOD, "display_name": ""}, "display_name = '': write 1 to 128 characters"),
        ({**GOOD, "network": "default"}, "network = 'default': write"),
        (
            {**GOOD, "service_account": "trainer@acme.iam.gserviceaccount.com"},
            "service_account = 'trainer@acme.iam.gserviceaccount.com': goes with enable_custom_service_account",
        ),
        (
            {**GOOD, "service_account": "trainer", "enable_custom_service_account": True},
            "service_account = 'trainer': write its e-mail",
        ),
    ],
)
def test_each_wrong_thing_is_told_once(wanted: dict[str, Any], line: str) -> None:
    """The message names the field, the value that was written and the fix, and nothing else."""
    (told,) = problems_of(wanted)
    assert told.startswith(line)


def test_all_problems_of_a_request_come_at_once() -> None:
    """One message lists every problem, whichever pool it is in."""
    told = problems_of(
        {
            "persistent_resource_id": "Nightly",
            "resource_pools": [{**POOL, "replica_count": 0}, {"machine_spec": {}, "replica_count": 1}],
            "labels": {"Team": "a"},
            "network": "default",
        }
    )
    assert {line.split(" = ")[0].split(": ")[0] for line in told} == {
        "persistent_resource_id",
        "resource_pools[0].replica_count",
        "resource_pools[1].machine_spec.machine_type",
        "labels['Team']",
        "network",
    }
