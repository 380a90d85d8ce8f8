# SPDX-License-Identifier: Apache-2.0
"""Candidates: the places and shapes in which a job may get its machines."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from airflow_vertex_persistent.specs.messages import unknown_field
from airflow_vertex_persistent.specs.worker_pools import SHORT_FORM

if TYPE_CHECKING:
    from datetime import timedelta

    from airflow_vertex_persistent.specs.checks import Problems

CANDIDATE_FIELDS = (
    "region",
    "strategy",
    "max_wait_duration",
    *SHORT_FORM,
    "worker_pool_specs",
    "base_output_dir",
    "service_account",
    "network",
    "psc_interface_config",
    "reserved_ip_ranges",
    "tensorboard",
    "encryption_spec_key_name",
    "max_run_duration",
)
"""What may differ between places and shapes; everything else is the same for all of them."""


def candidate(
    *,
    region: str | None = None,
    machine_type: str | None = None,
    accelerator_type: str | None = None,
    accelerator_count: int | str | None = None,
    replica_count: int | str | None = None,
    strategy: str | None = None,
    max_wait_duration: timedelta | float | str | None = None,
    **fields: Any,
) -> dict[str, Any]:
    """
    Return one place and shape in which a job may get its machines; templates work in it.

    :param region: Default: the operator's, as for everything here.
    :param machine_type: For example ``a3-highgpu-8g``.
    :param accelerator_type: For example ``NVIDIA_H100_80GB``.
    :param accelerator_count: Accelerators of one machine.
    :param replica_count: Machines.
    :param strategy: ``"flex_start"``, ``"spot"`` or ``"standard"``.
    :param max_wait_duration: How long to queue here before the next candidate.
    :param fields: Other fields of :data:`CANDIDATE_FIELDS`, such as ``container_uri``, ``base_output_dir``,
        ``service_account`` and ``network``.
    """
    given = {
        "region": region,
        "machine_type": machine_type,
        "accelerator_type": accelerator_type,
        "accelerator_count": accelerator_count,
        "replica_count": replica_count,
        "strategy": strategy,
        "max_wait_duration": max_wait_duration,
        **fields,
    }
    return {field: value for field, value in given.items() if value is not None}


def read_candidates(value: Any, problems: Problems) -> dict[int, dict[str, Any]]:
    """Return the candidates that are written, by their numbers, one that says nothing when there are none."""
    if value is None:
        return {0: {}}
    if not isinstance(value, list | tuple) or not value:
        problems.add_hidden("candidates", "write a list of candidate(region=..., machine_type=...)")
        return {}
    found = {}
    for index, written in enumerate(value):
        path = f"candidates[{index}]"
        if not isinstance(written, Mapping):
            problems.add_hidden(path, "write a mapping, as candidate(...) returns it")
            continue
        for field in written:
            if field not in CANDIDATE_FIELDS:
                problems.add_hidden(
                    f"{path}.{field}", unknown_field("a candidate", str(field), CANDIDATE_FIELDS)
                )
        found[index] = {field: item for field, item in written.items() if field in CANDIDATE_FIELDS}
    return found


def with_candidate(wanted: Mapping[str, Any], chosen: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is wanted in one place: worker pools of a candidate take the place of the operator's container."""
    rest = dict(wanted)
    if "worker_pool_specs" in chosen:
        rest |= dict.fromkeys(SHORT_FORM)
    elif "container_uri" in chosen:
        rest["worker_pool_specs"] = None
    return {**rest, **chosen}
