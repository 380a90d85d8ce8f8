# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

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
WARM = {"persistent_resource_id": "nightly"}


def pool(**changes: Any) -> dict[str, Any]:
    """Return a good worker pool with some fields changed."""
    return {**POOL, **changes}


def machine(type_: Any, accelerator: Any = None, count: Any = None) -> dict[str, Any]:
    """Return a machine without the parts that are not given."""
    fields = {"machine_type": type_, "accelerator_type": accelerator, "accelerator_count": count}
    return {name: value for name, value in fields.items() if value is not None}


ONE_KIND = "give exactly one of container_uri, worker_pool_specs and a config with workerPoolSpecs"


@pytest.mark.parametrize(
    ("wanted", "line"),
    [
        (
            {
                "display_name": "n",
                "config": {"worker_pool_specs": [POOL], "workerPoolSpecs": [POOL]},
            },
            "config.worker_pool_specs: is given twice",
        ),
        ({"display_name": "n"}, f"container_uri: {ONE_KIND}"),
        ({**SHORT, **WRITTEN}, f"container_uri and worker_pool_specs: {ONE_KIND}"),
        (
            {**WRITTEN, "config": {"workerPoolSpecs": [POOL]}},
            f"worker_pool_specs and config: {ONE_KIND}",
        ),
        (
            {**WRITTEN, "args": ["--epochs"]},
            "args: goes with container_uri, the short form; with worker_pool_specs it is said in the worker pools",
        ),
        (
            {"display_name": "n", "config": {"workerPoolSpecs": [POOL]}, "machine_type": "n1-standard-4"},
            "machine_type: goes with container_uri, the short form; with config it is said in the worker pools",
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
        ({**SHORT, "env": {"A": "1", "B": {"x": "y"}}}, "env['B']: write a text"),
        ({**SHORT, "env": [{"name": "A", "valeu": "1"}]}, "env[0].valeu: EnvVar has no such field"),
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
            "worker_pool_specs[0].machine_spec.accelerator_count = 1: g2-standard-24 has 2",
        ),
        (
            {
                **WRITTEN,
                "worker_pool_specs": [pool(machine_spec=machine("g2-standard-24", "NVIDIA_H100_80GB", 2))],
            },
            "worker_pool_specs[0].machine_spec.accelerator_type = 'NVIDIA_H100_80GB': g2-standard-24 has NVIDIA_L4",
        ),
        (
            {**WRITTEN, "worker_pool_specs": [pool(machine_spec={"machine_type": "g2-standard-24"})]},
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
        (
            {**SHORT, "resource_pool": "gpus"},
            "resource_pool = 'gpus': goes with persistent_resource_id",
        ),
        (
            {**WRITTEN, "resource_pool": "gpus", **WARM},
            "resource_pool: goes with container_uri, the short form; with worker_pool_specs it is said in the worker pools",
        ),
        (
            {**WRITTEN, "worker_pool_specs": [pool(resourcePool="gpus")]},
            "worker_pool_specs[0].resource_pool = 'gpus': goes with persistent_resource_id",
        ),
        (
            {**WRITTEN, "worker_pool_specs": [pool(resourcePool="gpus", resource_pool="gpus")], **WARM},
            "worker_pool_specs[0].resource_pool: is given twice, as 'resource_pool' and 'resourcePool'",
        ),
        ({**SHORT, "resource_pool": "", **WARM}, "resource_pool = '': write the id of a pool of the persist"),
        (
            {**SHORT, "resource_pool": 1, **WARM},
            "resource_pool = 1: write the id of a pool of the persistent",
        ),
        (
            {**SHORT, "resource_pool": ["gpus"], **WARM},
            "resource_pool: write the id of a pool of the persist",
        ),
        (
            {**WRITTEN, "worker_pool_specs": [POOL, {"resource_pool": "gpus"}], **WARM},
            "worker_pool_specs[1]: write one of container_spec and python_package_spec",
        ),
        (
            {**SHORT, "machine_type": None},
            "machine_type: say a machine type, like 'n1-standard-8'",
        ),
        (
            {
                **SHORT,
                "machine_type": None,
                "accelerator_type": "NVIDIA_TESLA_T4",
                "accelerator_count": 1,
                **WARM,
            },
            "machine_type: say a machine type, like 'n1-standard-8'",
        ),
        ({**SHORT, "boot_disk_size_gb": 99, **WARM}, "boot_disk_size_gb = 99: must be 100 to 64000"),
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
def test_each_wrong_thing_is_told(problems_of: Ask, wanted: dict[str, Any], line: str) -> None:
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
def test_one_mistake_is_told_once(problems_of: Ask, wanted: dict[str, Any]) -> None:
    """A mistake does not drag along problems with values that the user never wrote."""
    assert len(problems_of(wanted)) == 1


def test_all_problems_of_a_request_come_at_once(problems_of: Ask) -> None:
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
