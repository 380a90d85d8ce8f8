# SPDX-License-Identifier: Apache-2.0
"""Small files in Cloud Storage, written with the connection of a task."""

from __future__ import annotations

import os
from functools import cached_property
from urllib.parse import quote

from airflow.providers.google.common.consts import CLIENT_INFO
from airflow.providers.google.common.hooks.base_google import GoogleBaseHook
from google.auth.credentials import AnonymousCredentials
from google.cloud.storage import Client
from google.cloud.storage.retry import DEFAULT_RETRY

from airflow_vertex_persistent.names import storage_url

EMULATOR_HOST = "STORAGE_EMULATOR_HOST"
_TIMEOUT = 60.0


def _emulator() -> str | None:
    """Return the address of an emulator, ``None`` for Cloud Storage."""
    return os.environ.get(EMULATOR_HOST, "").strip() or None


class StorageHook(GoogleBaseHook):
    """
    Files named by their ``gs://`` address.

    Unlike Airflow's own hook this one needs no credentials for an emulator, to which ``STORAGE_EMULATOR_HOST`` leads.
    """

    def write(self, uri: str, text: str, content_type: str) -> None:
        """
        Write a file, over one that is there. Retried: what is written is the same each time.

        :param uri: For example ``gs://bucket/folder/trials.jsonl``.
        :param text: Is written in UTF-8.
        :param content_type: For example ``text/html``.
        """
        bucket, _, name = uri.removeprefix("gs://").partition("/")
        blob = self._client.bucket(bucket).blob(name)
        blob.upload_from_string(
            text.encode(),
            content_type=f"{content_type}; charset=utf-8",
            timeout=_TIMEOUT,
            retry=DEFAULT_RETRY,
        )

    @staticmethod
    def browser_url(uri: str) -> str:
        """Return where a browser opens a file; one of an emulator has no console."""
        host = _emulator()
        if host is None:
            return storage_url(uri)
        bucket, _, name = uri.removeprefix("gs://").partition("/")
        return f"{host}/download/storage/v1/b/{bucket}/o/{quote(name, safe='')}?alt=media"

    @cached_property
    def _client(self) -> Client:
        if _emulator():
            return Client(project="emulator", credentials=AnonymousCredentials())
        return Client(project=self.project_id, credentials=self.get_credentials(), client_info=CLIENT_INFO)
