# SPDX-License-Identifier: Apache-2.0
"""The Vertex AI emulator as a process of its own, and the environment that points Airflow to it."""

from __future__ import annotations

import json
import re
import sys
from typing import TYPE_CHECKING

from local_airflow import clean_environment

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from processes import Processes

PROJECT = "demo-project"
START_TIMEOUT = 60.0
CONNECTION = {"conn_type": "google_cloud_platform", "extra": {"project": PROJECT, "is_anonymous": True}}
_ADDRESS = re.compile(r"\b((?:VERTEX_AI|STORAGE)_EMULATOR_HOST)=([^\s;]+)")


def start_emulator(
    processes: Processes,
    data_dir: Path,
    *,
    images: Mapping[str, Path],
    buckets: Sequence[str],
    settings: Mapping[str, float | str],
) -> dict[str, str]:
    """
    Start ``vertex-emulator`` and return the environment in which Airflow finds it.

    :param processes: The group it belongs to; it is called ``emulator`` there.
    :param data_dir: Where it keeps stored files and the logs of jobs.
    :param images: Folder of the code of each image.
    :param buckets: Buckets that exist from the start.
    :param settings: Options of ``vertex-emulator start``, such as ``{"warm-start-seconds": 1}``.
    """
    options = {
        # Any free ports: the environment carries them to whoever needs them.
        "port": 0,
        "storage-port": 0,
        "data-dir": data_dir,
        **settings,
    }
    command = [sys.executable, "-m", "airflow_vertex_persistent.emulator.cli", "start"]
    command += [f"--{name}={value}" for name, value in options.items()]
    command += [f"--image={uri}={folder}" for uri, folder in images.items()]
    command += [f"--bucket={bucket}" for bucket in buckets]
    data_dir.mkdir(parents=True, exist_ok=True)
    processes.start("emulator", command, clean_environment(), data_dir)
    log = processes.log_path("emulator")
    processes.wait_for(
        lambda: len(_ADDRESS.findall(log.read_text())) > 1, "the emulator is ready", START_TIMEOUT
    )
    return {
        **dict(_ADDRESS.findall(log.read_text())),
        "AIRFLOW_CONN_GOOGLE_CLOUD_DEFAULT": json.dumps(CONNECTION),
    }
