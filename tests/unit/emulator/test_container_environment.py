# SPDX-License-Identifier: Apache-2.0
"""What containers see: references, mounts, cluster addresses, and what a Dockerfile says."""

from __future__ import annotations

from pathlib import Path

import pytest
from google.cloud.aiplatform_v1.types import CustomJobSpec
from hypothesis import given
from hypothesis import strategies as st

from airflow_vertex_persistent.emulator.dockerfile import DockerfileError, Image, read_image
from airflow_vertex_persistent.emulator.environment import (
    Task,
    cluster_addresses,
    cluster_spec,
    expand,
    expanded_environment,
    mounted,
    tasks_of,
    tf_config,
    vertex_variables,
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("$(A)", "1"),
        ("x$(A)y$(B)", "x1y$(A)"),
        ("$$(A)", "$(A)"),
        ("$$$(A)", "$1"),
        ("$$$$(A)", "$$(A)"),
        ("$(NOBODY)", "$(NOBODY)"),
        ("$A ${A} $() $(", "$A ${A} $() $("),
        ("100$", "100$"),
        ("", ""),
    ],
)
def test_references_are_expanded_as_kubernetes_does(text: str, expected: str) -> None:
    """Once, not again in what was filled in; escapes and unknown names stay."""
    assert expand(text, {"A": "1", "B": "$(A)"}) == expected


@given(st.text())
def test_escaped_text_stays(text: str) -> None:
    """With each $ doubled, nothing is ever expanded."""
    assert expand(text.replace("$", "$$"), dict.fromkeys("ABCabc", "no")) == text


def test_env_values_see_what_was_defined_before() -> None:
    """The service's variables and earlier ones, not later ones."""
    seen = expanded_environment([("A", "$(S)/a"), ("B", "$(A)/b $(C)"), ("C", "c")], {"S": "s"})
    assert seen == {"S": "s", "A": "s/a", "B": "s/a/b $(C)", "C": "c"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("/gcs/bucket/x", "/data/storage/bucket/x"),
        ("--out=/gcs/bucket", "--out=/data/storage/bucket"),
        ("/gcs/a:/gcs/b", "/data/storage/a:/data/storage/b"),
        ("gs://gcs/x", "gs://gcs/x"),
        ("/mnt/gcs/x", "/mnt/gcs/x"),
        ("https://host/gcs/x", "https://host/gcs/x"),
        ("/gcs", "/gcs"),
    ],
)
def test_gcs_paths_point_to_the_storage_folder(text: str, expected: str) -> None:
    """Only a path that begins with /gcs/ and a bucket is one."""
    assert mounted(text, Path("/data/storage")) == expected


def distributed() -> CustomJobSpec:
    """A chief, no workers, two parameter servers and an evaluator."""
    one, two = {"replica_count": 1}, {"replica_count": 2}
    return CustomJobSpec(worker_pool_specs=[one, {}, two, one])


def test_skipped_worker_pools_keep_their_index() -> None:
    """The third worker pool is workerpool2 also when the second is empty."""
    names = [task.name for task in tasks_of(distributed())]
    assert names == ["workerpool0-0", "workerpool2-0", "workerpool2-1", "workerpool3-0"]


def test_cluster_spec_has_all_pools_and_tf_config_no_evaluator() -> None:
    """Roles are chief, worker, ps and evaluator, the last not part of TF_CONFIG's cluster."""
    spec = distributed()
    addresses = cluster_addresses(tasks_of(spec), [1, 2, 3, 4])
    task = Task(2, 1)
    seen = cluster_spec(spec, addresses, task)
    assert seen["cluster"] == {
        "workerpool0": ["127.0.0.1:1"],
        "workerpool2": ["127.0.0.1:2", "127.0.0.1:3"],
        "workerpool3": ["127.0.0.1:4"],
    }
    assert seen["task"] == {"type": "workerpool2", "index": 1}
    config = tf_config(spec, addresses, task, "42")
    assert config["cluster"] == {"chief": ["127.0.0.1:1"], "ps": ["127.0.0.1:2", "127.0.0.1:3"]}
    assert config["task"] == {"type": "ps", "index": 1, "cloud": "42"}
    assert tf_config(spec, addresses, Task(3, 0), "42")["task"]["type"] == "evaluator"


def test_tf_config_is_for_distributed_jobs() -> None:
    """A single replica has CLUSTER_SPEC alone."""
    spec = CustomJobSpec(worker_pool_specs=[{"replica_count": 1}])
    addresses = cluster_addresses(tasks_of(spec), [1])
    seen = vertex_variables(spec, addresses, Task(0, 0), job_id="42", project="1", region="us-east1")
    assert "CLUSTER_SPEC" in seen
    assert "TF_CONFIG" not in seen


def image_of(folder: Path, text: str) -> Image:
    """Read a Dockerfile."""
    (folder / "Dockerfile").write_text(text, encoding="utf-8")
    return read_image(folder)


def test_the_last_stage_counts(tmp_path: Path) -> None:
    """A stage takes over what the one it builds on says; comments, continued lines and here-documents are read."""
    image = image_of(
        tmp_path,
        """# syntax=docker/dockerfile:1
FROM --platform=linux/amd64 python:3.11-slim AS base
ENV ONE=1 \\
    TWO="a b"
ENTRYPOINT ["python", "-m", "old"]
CMD ["--old"]
FROM scratch AS unused
CMD ["nothing"]
FROM Base
RUN <<EOF
CMD ["not", "this"]
EOF
WORKDIR /app
ENTRYPOINT ["python", \\
# a comment between
    "-m", "trainer.task"]
HEALTHCHECK CMD ["neither"]
ENV OLD the old form
cmd ["--epochs", "3"]
""",
    )
    assert image.entrypoint == ("python", "-m", "trainer.task")
    assert image.cmd == ("--epochs", "3")
    assert image.env == {"ONE": "1", "TWO": "a b", "OLD": "the old form"}
    assert image.workdir == "/app"


def test_a_new_entrypoint_drops_the_old_cmd(tmp_path: Path) -> None:
    """CMD of a stage below was written for its own ENTRYPOINT."""
    image = image_of(tmp_path, 'FROM a AS b\nCMD ["x"]\nFROM b\nENTRYPOINT ["y"]\n')
    assert (image.entrypoint, image.cmd) == (("y",), ())


def test_shell_forms_run_in_a_shell(tmp_path: Path) -> None:
    """As Docker does it."""
    assert image_of(tmp_path, "FROM a\nCMD python task.py $HOME\n").cmd == (
        "/bin/sh",
        "-c",
        "python task.py $HOME",
    )


def test_a_missing_dockerfile_is_an_error(tmp_path: Path) -> None:
    """It names the file."""
    with pytest.raises(DockerfileError, match="Dockerfile"):
        read_image(tmp_path)
