# SPDX-License-Identifier: Apache-2.0
"""Reads the body of a job from a file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    from airflow_vertex_persistent.specs.checks import Problems


def read_config(config: Any, folder: Path, problems: Problems) -> Any:
    """
    Return the parameter ``config`` as a mapping.

    :param config: A mapping, which is returned as it is, or the path of a ``.yaml`` or ``.json`` file.
    :param folder: What a relative path starts from.
    :param problems: Hears of a file that cannot be read.
    """
    if not isinstance(config, str):
        return config
    from airflow.sdk import yaml

    if not config.endswith((".yaml", ".yml", ".json")):
        # It may be a whole document that a template rendered as text, with an environment in it.
        problems.add_hidden("config", "write a mapping, or the path of a .yaml or .json file")
        return {}
    try:
        # Every JSON document is a YAML document.
        return yaml.safe_load((folder / config).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        problems.add("config", config, f"cannot be read: {type(error).__name__}")
    except yaml.YAMLError:  # type: ignore[attr-defined] # passed through; its text quotes the document
        problems.add("config", config, "is neither YAML nor JSON")
    return {}
