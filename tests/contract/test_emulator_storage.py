# SPDX-License-Identifier: Apache-2.0
"""Cloud Storage beside the emulator: the real client, plain files, and training code that uses both."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import psutil
import pytest
from google.auth.credentials import AnonymousCredentials
from google.cloud.aiplatform_v1.types import JobState
from google.cloud.exceptions import NotFound
from google.cloud.storage import Client

from airflow_vertex_persistent.emulator import VertexEmulator

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.contract.conftest import Cloud


@pytest.fixture
def storage(cloud: Cloud) -> Iterator[Client]:
    """The real storage client."""
    with contextlib.closing(
        Client(
            project="demo-project",
            credentials=AnonymousCredentials(),
            client_options={"api_endpoint": cloud.emulator.storage_address},
        )
    ) as client:
        yield client


def test_objects_are_plain_files(cloud: Cloud, storage: Client) -> None:
    """What is uploaded lies in data_dir/storage/BUCKET and comes back the same."""
    storage.bucket(cloud.BUCKET).blob("folder/model.txt").upload_from_string("weights")
    file = cloud.emulator.data_dir / "storage" / cloud.BUCKET / "folder" / "model.txt"
    assert file.read_text(encoding="utf-8") == "weights"
    assert storage.bucket(cloud.BUCKET).blob("folder/model.txt").download_as_bytes() == b"weights"


def test_training_code_reaches_it_with_its_own_client(cloud: Cloud, storage: Client) -> None:
    """A replica's storage client finds the emulator by itself and writes to AIP_MODEL_DIR."""
    code = """
import os
from google.cloud import storage
bucket, _, folder = os.environ["AIP_MODEL_DIR"].removeprefix("gs://").partition("/")
storage.Client().bucket(bucket).blob(folder + "model.bin").upload_from_string("42")
"""
    job = cloud.run(
        cloud.pool(code), base_output_directory={"output_uri_prefix": f"gs://{cloud.BUCKET}/night"}
    )
    assert job.state == JobState.JOB_STATE_SUCCEEDED, cloud.log(job)
    assert storage.bucket(cloud.BUCKET).blob("night/model/model.bin").download_as_bytes() == b"42"


def test_files_below_gcs_become_objects(cloud: Cloud, storage: Client) -> None:
    """A file that training code writes below /gcs is an object when the job has ended, also when written anew."""
    for text in ("first", "second"):
        code = "import os, pathlib, sys; pathlib.Path(sys.argv[1]).write_text(os.environ['TEXT'])"
        container = {
            "image_uri": cloud.IMAGE,
            "command": ["python", "-c", code, f"/gcs/{cloud.BUCKET}/mounted.txt"],
            "env": [{"name": "TEXT", "value": text}],
        }
        assert cloud.run(cloud.pool(container_spec=container)).state == JobState.JOB_STATE_SUCCEEDED
        assert storage.bucket(cloud.BUCKET).blob("mounted.txt").download_as_bytes() == text.encode()
    assert "mounted.txt" in {blob.name for blob in storage.list_blobs(cloud.BUCKET)}


def test_a_missing_bucket_is_named(cloud: Cloud, storage: Client) -> None:
    """Whatever is asked of it; a missing object of a bucket that is there is another matter."""
    missing = storage.bucket("nightly-models-us")
    for ask in (
        lambda: list(storage.list_blobs("nightly-models-us", prefix="checkpoints/")),
        lambda: missing.blob("model.txt").upload_from_string("weights"),
        missing.blob("model.txt").download_as_bytes,
        missing.reload,
    ):
        with pytest.raises(NotFound, match=r"bucket does not exist.* --bucket nightly-models-us"):
            ask()
    with pytest.raises(NotFound) as caught:
        storage.bucket(cloud.BUCKET).blob("nothing.txt").download_as_bytes()
    assert "--bucket" not in str(caught.value)


def test_everything_listens_on_loopback_only(cloud: Cloud) -> None:
    """No port is open to other machines."""
    processes = [psutil.Process(), *psutil.Process().children(recursive=True)]
    hosts = {
        connection.laddr.ip
        for process in processes
        for connection in process.net_connections("inet")
        if connection.status == psutil.CONN_LISTEN
    }
    assert cloud.emulator.address.startswith("127.0.0.1:")
    assert hosts <= {"127.0.0.1", "::ffff:127.0.0.1"}


def test_a_given_data_folder_is_kept(tmp_path: Path) -> None:
    """Objects of one emulator are there in the next one; a temporary folder is removed."""
    for _ in range(2):
        with (
            VertexEmulator(data_dir=tmp_path, buckets=["kept"]) as emulator,
            contextlib.closing(
                Client(
                    project="demo-project",
                    credentials=AnonymousCredentials(),
                    client_options={"api_endpoint": emulator.storage_address},
                )
            ) as client,
        ):
            blob = client.bucket("kept").blob("object")
            if not blob.exists():
                blob.upload_from_string("still here")
                with (
                    pytest.raises(OSError, match="used by another emulator"),
                    VertexEmulator(data_dir=tmp_path),
                ):
                    pass
            assert blob.download_as_bytes() == b"still here"
    with VertexEmulator() as emulator:
        folder = emulator.data_dir
        assert folder.is_dir()
    assert not folder.exists()
