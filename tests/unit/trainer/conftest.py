# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import storage
from gcp_storage_emulator.server import create_server

if TYPE_CHECKING:
    from collections.abc import Iterator

BUCKET = "gs://models"


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """An empty bucket of a Cloud Storage that lives as long as the test."""
    server = create_server("127.0.0.1", 0, in_memory=True, default_bucket="models")
    server.start()
    try:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", f"http://127.0.0.1:{server._api._httpd.server_port}")
        storage._client.cache_clear()
        yield BUCKET
    finally:
        storage._client.cache_clear()
        server.stop()
