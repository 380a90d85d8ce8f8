# SPDX-License-Identifier: Apache-2.0
"""
What a container sees: the variables that Vertex AI sets, and the references in command and args.

One difference from the service is on purpose: addresses in CLUSTER_SPEC and TF_CONFIG are ports of this
machine's loopback interface, so that distributed code really can talk.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from google.cloud.aiplatform_v1.types import CustomJobSpec
from google.protobuf.json_format import MessageToDict

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

_REFERENCE = re.compile(r"\$(?:\$|\(([^()\s]+)\))")
_MOUNT = re.compile(r"(?<![\w./-])/gcs/(?=[a-z0-9])")
_ROLES = ("chief", "worker", "ps", "evaluator")


@dataclass(frozen=True)
class Task:
    """
    One replica of a job.

    :param pool: index of its worker pool.
    :param index: its index in the pool.
    """

    pool: int
    index: int

    @property
    def name(self) -> str:
        """``workerpool0-0``, as logs and errors call it."""
        return f"workerpool{self.pool}-{self.index}"


def tasks_of(spec: CustomJobSpec) -> list[Task]:
    """All replicas of a job; empty worker pools are skipped and keep their index."""
    return [
        Task(pool, index)
        for pool, worker_pool in enumerate(spec.worker_pool_specs)
        for index in range(worker_pool.replica_count)
    ]


def expand(text: str, variables: Mapping[str, str]) -> str:
    """
    Fill in ``$(NAME)`` as Kubernetes does.

    ``$$(NAME)`` is an escape and gives ``$(NAME)``; a reference to an unknown name stays as it is.
    """

    def fill(match: re.Match[str]) -> str:
        if match[1] is None:
            return "$"
        return variables.get(match[1], match[0])

    return _REFERENCE.sub(fill, text)


def mounted(text: str, storage: Path) -> str:
    """Point ``/gcs/BUCKET/...`` paths to the folder in which the storage emulator keeps its buckets."""
    return _MOUNT.sub(lambda _: f"{storage}/", text)


def cluster_addresses(tasks: Iterable[Task], ports: Iterable[int]) -> dict[Task, str]:
    """Give each replica an address of its own."""
    return {task: f"127.0.0.1:{port}" for task, port in zip(tasks, ports, strict=True)}


def cluster_spec(
    spec: CustomJobSpec, addresses: Mapping[Task, str], task: Task, trial: str = ""
) -> dict[str, Any]:
    """The CLUSTER_SPEC of one replica."""
    cluster: dict[str, list[str]] = {}
    for member, address in addresses.items():
        cluster.setdefault(f"workerpool{member.pool}", []).append(address)
    return {
        "cluster": cluster,
        "environment": "cloud",
        "task": {"type": f"workerpool{task.pool}", "index": task.index} | ({"trial": trial} if trial else {}),
        "job": _as_dict(spec),
    }


def tf_config(spec: CustomJobSpec, addresses: Mapping[Task, str], task: Task, job_id: str) -> dict[str, Any]:
    """The TF_CONFIG of one replica of a distributed job. Evaluators are not part of its cluster."""
    cluster: dict[str, list[str]] = {}
    for member, address in addresses.items():
        if _ROLES[member.pool] != "evaluator":
            cluster.setdefault(_ROLES[member.pool], []).append(address)
    return {
        "cluster": cluster,
        "environment": "cloud",
        "task": {"type": _ROLES[task.pool], "index": task.index, "cloud": job_id},
        "job": _as_dict(spec),
    }


def _as_dict(spec: CustomJobSpec) -> Any:
    return MessageToDict(CustomJobSpec.pb(spec))


def vertex_variables(
    spec: CustomJobSpec,
    addresses: Mapping[Task, str],
    task: Task,
    *,
    job_id: str,
    project: str,
    region: str,
    trial: str = "",
    metric_file: str = "",
) -> dict[str, str]:
    """
    The variables that Vertex AI itself sets on one replica.

    :param project: the project number.
    :param trial: id of the trial that the job is, empty for a job of its own.
    :param metric_file: where the replica of a trial reports its metrics.
    """
    container = spec.worker_pool_specs[task.pool].container_spec
    job = {"python_module": "", "package_uris": [], "job_args": list(container.args)}
    variables = {
        "CLOUD_ML_PROJECT_ID": project,
        "CLOUD_ML_JOB_ID": job_id,
        "CLOUD_ML_REGION": region,
        "CLOUD_ML_JOB": json.dumps(job),
        "AIP_USE_CUSTOM_CONTAINER": "true",
        "CLUSTER_SPEC": json.dumps(cluster_spec(spec, addresses, task, trial)),
        "HOSTNAME": f"cmle-training-workerpool{task.pool}-{job_id[-10:]}-{task.index}",
    }
    if len(addresses) > 1:
        variables["TF_CONFIG"] = json.dumps(tf_config(spec, addresses, task, job_id))
    if output := spec.base_output_directory.output_uri_prefix.rstrip("/"):
        variables["AIP_MODEL_DIR"] = f"{output}/model/"
        variables["AIP_CHECKPOINT_DIR"] = f"{output}/checkpoints/"
        variables["AIP_TENSORBOARD_LOG_DIR"] = f"{output}/logs/"
    if trial:
        variables |= {"CLOUD_ML_TRIAL_ID": trial, "CLOUD_ML_HP_METRIC_FILE": metric_file}
    if spec.service_account:
        variables["CLOUD_ML_JOB_SA"] = spec.service_account
    if spec.tensorboard:
        variables["AIP_TENSORBOARD_RESOURCE_NAME"] = spec.tensorboard
    return variables


def expanded_environment(own: Sequence[tuple[str, str]], service: Mapping[str, str]) -> dict[str, str]:
    """Put the job's own variables over the service's, each value expanded from those before it."""
    variables = dict(service)
    for name, value in own:
        variables[name] = expand(value, variables)
    return variables
