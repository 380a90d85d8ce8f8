# SPDX-License-Identifier: Apache-2.0
"""A persistent resource: what is wanted, and how it differs from one that is there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_vertex_persistent.specs import checks
from airflow_vertex_persistent.specs.machines import check_accelerators
from airflow_vertex_persistent.specs.messages import comparable, read_message
from airflow_vertex_persistent.specs.worker_pools import check_disk, complete_disk

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow_vertex_persistent.specs.checks import Problems

# What `persistent_resource` reads.
RESOURCE_FIELDS = (
    "persistent_resource_id",
    "resource_pools",
    "display_name",
    "labels",
    "network",
    "psc_interface_config",
    "reserved_ip_ranges",
    "encryption_spec_key_name",
    "enable_custom_service_account",
    "service_account",
)
_FIELDS_AS_THEY_ARE = ("display_name", "labels", "network", "psc_interface_config", "reserved_ip_ranges")


def persistent_resource(wanted: Mapping[str, Any], problems: Problems) -> dict[str, Any]:
    """
    Return the ``PersistentResource`` that is wanted, in the API's JSON form with snake-case keys.

    :param wanted: The fields of :data:`RESOURCE_FIELDS`, after templates were rendered.
    :param problems: Hears of everything that is wrong.
    """
    from google.cloud.aiplatform_v1.types import PersistentResource

    given = {field: value for field, value in wanted.items() if value is not None}
    checks.check_persistent_resource_id(given.get("persistent_resource_id"), problems)
    body = {field: given[field] for field in _FIELDS_AS_THEY_ARE if field in given}
    body["resource_pools"] = given.get("resource_pools")
    if "encryption_spec_key_name" in given:
        body["encryption_spec"] = {"kms_key_name": given["encryption_spec_key_name"]}
    account = {f: given[f] for f in ("enable_custom_service_account", "service_account") if f in given}
    if account:
        body["resource_runtime_spec"] = {"service_account_spec": account}

    resource = read_message(body, PersistentResource.pb().DESCRIPTOR, "", problems)
    _check_resource(resource, problems)
    return resource


def _check_resource(resource: Mapping[str, Any], problems: Problems) -> None:
    pools = resource.get("resource_pools") or []
    if not pools:
        problems.add_hidden("resource_pools", "write a list of pools, at least one")
    for index, pool in enumerate(pools):
        path = f"resource_pools[{index}]"
        machine = pool.get("machine_spec") or {}
        if not machine.get("machine_type"):
            problems.add_hidden(
                f"{path}.machine_spec.machine_type", "say a machine type, like 'n1-standard-8'"
            )
        check_accelerators(machine, f"{path}.machine_spec", problems)
        if machine.get("reservation_affinity"):
            fix = "leave it out: reservations do not go with a persistent resource"
            problems.add_hidden(f"{path}.machine_spec.reservation_affinity", fix)
        pool["disk_spec"] = complete_disk(pool.get("disk_spec"), machine.get("machine_type"))
        check_disk(pool["disk_spec"], path, problems)
        _check_counts(pool, path, problems)
    if "display_name" in resource:
        checks.check_display_name(resource["display_name"], problems)
    checks.check_labels(resource.get("labels", {}), problems)
    if "network" in resource:
        checks.check_network(resource["network"], problems)
    account = (resource.get("resource_runtime_spec") or {}).get("service_account_spec") or {}
    if "service_account" in account:
        checks.check_service_account(account["service_account"], problems)
        if not account.get("enable_custom_service_account"):
            fix = "goes with enable_custom_service_account=True"
            problems.add("service_account", account["service_account"], fix)


def _check_counts(pool: Mapping[str, Any], path: str, problems: Problems) -> None:
    """Check that a pool has a fixed size, or limits between which it scales (at least one machine)."""
    replicas, scaling = pool.get("replica_count"), pool.get("autoscaling_spec")
    if scaling is None:
        if replicas is None or replicas < 1:
            fix = "must be 1 or more; or write autoscaling_spec with both its counts"
            problems.add(f"{path}.replica_count", replicas, fix)
        return
    least, most = scaling.get("min_replica_count"), scaling.get("max_replica_count")
    if least is None or most is None or not 1 <= least < most:
        fix = "write min_replica_count and max_replica_count, 1 <= min < max"
        problems.add(f"{path}.autoscaling_spec", f"{least} to {most}", fix)
    elif replicas is not None and not least <= replicas <= most:
        problems.add(f"{path}.replica_count", replicas, f"must be between {least} and {most}")


# What makes a persistent resource another one. Its names and labels do not.
_SPEC_FIELDS = (
    "network",
    "psc_interface_config",
    "reserved_ip_ranges",
    "encryption_spec",
    "resource_runtime_spec",
)
_POOL_FIELDS = ("id", "machine_spec", "disk_spec", "autoscaling_spec")


def differences(wanted: Mapping[str, Any], live: Mapping[str, Any]) -> list[str]:
    """
    Return how a live resource differs from the wanted one, a line for each field.

    Fields that are not wanted in particular, such as a generated pool id, do not count.

    :param wanted: As :func:`persistent_resource` returns it.
    :param live: The service's answer in its JSON form with snake-case keys.
    """
    found = [
        _difference(field, wanted.get(field), live.get(field))
        for field in _SPEC_FIELDS
        if comparable(wanted.get(field)) != comparable(live.get(field))
    ]
    wanted_pools, live_pools = wanted["resource_pools"], live.get("resource_pools", [])
    if len(wanted_pools) != len(live_pools):
        return [
            *found,
            _difference("resource_pools", f"{len(wanted_pools)} pools", f"{len(live_pools)} pools"),
        ]
    for index, (pool, live_pool) in enumerate(zip(wanted_pools, live_pools, strict=True)):
        found += _pool_differences(pool, live_pool, f"resource_pools[{index}]")
    return found


def _pool_differences(wanted: Mapping[str, Any], live: Mapping[str, Any], path: str) -> list[str]:
    fields = [field for field in _POOL_FIELDS if field in wanted or (field in live and field != "id")]
    if "autoscaling_spec" not in wanted:
        fields.append("replica_count")  # of an autoscaled pool it changes all the time
    return [
        _difference(f"{path}.{field}", wanted.get(field), live.get(field))
        for field in fields
        if comparable(wanted.get(field)) != comparable(live.get(field))
    ]


def _difference(field: str, wanted: Any, live: Any) -> str:
    return f"{field} is {live!r}, wanted {wanted!r}"
