# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
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
SECRET = "h1dden-v4lue"


def pool(**changes: Any) -> dict[str, Any]:
    """Return a good worker pool with some fields changed."""
    return {**POOL, **changes}


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
def test_values_of_the_environment_are_never_told(problems_of: Ask, env: Any, which: int) -> None:
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
    "resource_pool",
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
    {**WRITTEN, "worker_pool_specs": [pool(resource_pool="ENV")]},
    {**WRITTEN, "worker_pool_specs": [pool(disk_spec={"boot_disk_size_gb": "ENV"})]},
    {**WRITTEN, "worker_pool_specs": [pool(machine_spec={"accelerator_type": "ENV"})]},
    {**SHORT, "config": {"scheduling": {"timeout": "ENV"}}},
    {**SHORT, "config": {"scheduling": {"disableRetries": "ENV"}}},
]


@pytest.mark.parametrize("wanted", MISPLACED)
@pytest.mark.parametrize("env", [{"A": SECRET}, [{"name": "A", "value": SECRET}]])
def test_an_environment_in_a_field_of_another_kind_is_not_told(
    problems_of: Ask, wanted: dict[str, Any], env: Any
) -> None:
    """A wrong indentation can put the environment under any field: structures are never shown."""

    def filled(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: filled(part) for key, part in value.items()}
        if isinstance(value, list):
            return [filled(part) for part in value]
        return env if value == "ENV" else value

    told = problems_of({**filled(wanted), **WRONG})
    assert SECRET not in "\n".join(told)
