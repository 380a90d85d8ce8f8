# SPDX-License-Identifier: Apache-2.0
"""
Cloud Storage: gcp-storage-emulator as a child process, objects as plain files.

Only what that program documents is used: its command line, STORAGE_DIR and the JSON API; see ``storage_server``
for one answer that is not its own.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from .process_tree import MARKER

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

HOST = "127.0.0.1"
_FOLDER = "storage"
_SERVER = Path(__file__).with_name("storage_server.py")
_START_SECONDS = 30.0
_STOP_SECONDS = 5.0
_LOOK_SECONDS = 0.02
_REQUEST_SECONDS = 60.0


class StorageError(RuntimeError):
    """The storage emulator did not start, or did not answer as it should."""


class Storage:
    """
    The storage emulator of one Vertex AI emulator.

    :param data_dir: objects are kept in ``data_dir/storage/BUCKET/OBJECT``.
    :param port: a free port.
    :param marker: marks its process, so that it does not outlive the emulator.
    """

    def __init__(self, data_dir: Path, port: int, marker: str) -> None:
        self.folder = data_dir / _FOLDER
        self.address = f"http://{HOST}:{port}"
        environment = os.environ | {"STORAGE_DIR": _FOLDER, MARKER: f"{marker}:storage"}
        # -P: nothing beside the program, or where the emulator was started, may stand in for a library.
        command = ["-P", str(_SERVER), "--data-dir", str(data_dir), "start", "--quiet"]
        self._log = (data_dir / "storage.log").open("ab")
        self._process = subprocess.Popen(  # noqa: S603 - a fixed command
            [sys.executable, *command, "--host", HOST, "--port", str(port)],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=self._log,
            start_new_session=True,
        )

    def wait_until_ready(self) -> None:
        """
        Wait until it listens; an answer alone could come from somebody else who has just taken the port.

        :raises StorageError: when it ends instead, or takes too long.
        """
        deadline = time.monotonic() + _START_SECONDS
        while not self._listens():
            if self._process.poll() is not None:
                raise StorageError(f"gcp-storage-emulator ended with status {self._process.returncode}")
            if time.monotonic() > deadline:
                raise StorageError(f"gcp-storage-emulator did not listen within {_START_SECONDS:g} s")
            time.sleep(_LOOK_SECONDS)

    def _listens(self) -> bool:
        try:
            sockets = psutil.Process(self._process.pid).net_connections("tcp")
        except psutil.Error:
            return False
        return any(socket.status == psutil.CONN_LISTEN for socket in sockets)

    def create_buckets(self, names: Iterable[str]) -> None:
        """Create the buckets that do not exist yet."""
        for name in names:
            try:
                self._call("POST", "/storage/v1/b", json.dumps({"name": name}).encode())
            except urllib.error.HTTPError as error:
                if error.code != 409:  # noqa: PLR2004 - it exists
                    raise StorageError(f"bucket {name!r}: {error}") from error

    def adopt_files(self, since: datetime) -> None:
        """
        Make objects of files that were written straight into a bucket's folder, as ``/gcs`` paths are.

        :param since: files that have not changed since then are left alone.
        """
        buckets = [
            path for path in self.folder.iterdir() if path.is_dir() and not path.name.startswith(("_", "."))
        ]
        for bucket in buckets:
            fresh = [
                path for path in bucket.rglob("*") if path.is_file() and _changed(path) >= since.timestamp()
            ]
            known = self._objects(bucket.name) if fresh else {}
            for path in fresh:
                name = path.relative_to(bucket).as_posix()
                content = path.read_bytes()
                if known.get(name) != base64.b64encode(hashlib.md5(content).digest()).decode():  # noqa: S324
                    query = urllib.parse.urlencode({"uploadType": "media", "name": name})
                    self._call("POST", f"/upload/storage/v1/b/{bucket.name}/o?{query}", content)

    def _objects(self, bucket: str) -> dict[str, str]:
        """MD5 hash of each object that the storage emulator knows, by name."""
        found, token = {}, ""
        while True:
            query = f"?pageToken={urllib.parse.quote(token)}" if token else ""
            answer = json.loads(self._call("GET", f"/storage/v1/b/{bucket}/o{query}"))
            found.update({item["name"]: item.get("md5Hash", "") for item in answer.get("items", ())})
            token = answer.get("nextPageToken", "")
            if not token:
                return found

    def _call(self, method: str, path: str, body: bytes | None = None) -> Any:
        kind = "application/json" if path.endswith("/b") else "application/octet-stream"
        request = urllib.request.Request(  # noqa: S310 - our own address
            self.address + path, data=body, method=method, headers={"Content-Type": kind}
        )
        # No proxy of the user's environment may stand between us and our own loopback address.
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(request, timeout=_REQUEST_SECONDS) as answer:
            return answer.read()

    def stop(self) -> None:
        """End the storage emulator."""
        self._process.terminate()
        try:
            self._process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._log.close()


def _changed(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:  # gone meanwhile
        return 0.0
