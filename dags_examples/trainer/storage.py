# SPDX-License-Identifier: Apache-2.0
"""Files in Cloud Storage, named by their ``gs://`` address."""

from __future__ import annotations

import functools
import io
import json
import os
from typing import Any

import joblib
from google.cloud.exceptions import NotFound
from google.cloud.storage import Blob, Client


def join(folder: str, name: str) -> str:
    """Return the address of a file in a folder; Vertex AI ends its folders with a slash, people do not."""
    return f"{folder.rstrip('/')}/{name}"


def write_json(uri: str, content: dict[str, Any]) -> None:
    """Write a small document that people read too."""
    _blob(uri).upload_from_string(json.dumps(content, indent=2) + "\n", content_type="application/json")


def read_json(uri: str) -> dict[str, Any] | None:
    """Return the document at an address, or None when there is none."""
    try:
        content: dict[str, Any] = json.loads(_blob(uri).download_as_bytes())
    except NotFound:
        return None
    return content


def write_object(uri: str, content: object) -> None:
    """Write a Python object with joblib."""
    buffer = io.BytesIO()
    joblib.dump(content, buffer)
    _blob(uri).upload_from_string(buffer.getvalue(), content_type="application/octet-stream")


def read_object(uri: str) -> Any:
    """Return the Python object at an address."""
    return joblib.load(io.BytesIO(_blob(uri).download_as_bytes()))


def list_files(folder: str) -> list[str]:
    """Return the addresses of the files in a folder, in the order of their names."""
    bucket, prefix = _split(join(folder, ""))
    return sorted(f"gs://{bucket}/{blob.name}" for blob in _client().list_blobs(bucket, prefix=prefix))


@functools.cache
def _client() -> Client:
    # Inside a job Google would infer the project that hosts the machines; the job is told ours by number.
    return Client(project=os.environ.get("CLOUD_ML_PROJECT_ID"))


def _blob(uri: str) -> Blob:
    bucket, name = _split(uri)
    return _client().bucket(bucket).blob(name)


def _split(uri: str) -> tuple[str, str]:
    bucket, _, name = uri.removeprefix("gs://").partition("/")
    if not uri.startswith("gs://") or not bucket:
        raise ValueError(f"{uri!r} is no Cloud Storage address: write gs://bucket/folder")
    return bucket, name
