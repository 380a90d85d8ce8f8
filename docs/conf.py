# SPDX-License-Identifier: Apache-2.0
"""Sphinx settings: no network, and every warning is an error (see the Makefile)."""

from __future__ import annotations

import os
from importlib.metadata import version as installed_version
from pathlib import Path

# Reading our docstrings imports Airflow, which would write a configuration into the reader's home.
os.environ["AIRFLOW_HOME"] = str(Path(__file__).parent / "_build" / "airflow")

project = "airflow-provider-vertex-persistent"
author = "The airflow-provider-vertex-persistent authors"
copyright = f"2026, {author}"  # noqa: A001
version = release = installed_version(project)

extensions = ["sphinx.ext.autodoc", "sphinx.ext.viewcode"]
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = f"{project} {release}"
html_copy_source = False

autodoc_default_options = {"members": True, "show-inheritance": True}
autodoc_class_signature = "separated"
autodoc_member_order = "bysource"
autodoc_typehints = "none"

# Names outside this package have no page here, and intersphinx would need the network: references to them
# stay plain text. References to our own names must resolve.
nitpick_ignore_regex = [("py:.*", r"(?!airflow_vertex_persistent)[\w.]+")]
