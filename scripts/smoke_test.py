# SPDX-License-Identifier: Apache-2.0
"""
Try the installed wheel the way a deployment uses it: Airflow finds it, everything in it imports.

Runs with the Python of a fresh environment that has the wheel and its ``emulator`` extra, and with ``-I``,
so that the sources next to this file are out of reach. ``AIRFLOW_HOME`` must be a scratch folder.
"""

from __future__ import annotations

import json
import pkgutil
import subprocess
import sys
from importlib import import_module
from importlib.metadata import entry_points, version
from pathlib import Path

DISTRIBUTION = "airflow-provider-vertex-persistent"
PACKAGE = "airflow_vertex_persistent"
BIN = Path(sys.executable).parent


def main() -> None:
    """Run every check; the first that fails ends the script with its reason."""
    package = import_module(PACKAGE)
    installed = version(DISTRIBUTION)
    if installed != package.__version__:
        raise SystemExit(f"{DISTRIBUTION} {installed} says that it is {package.__version__}")
    if not Path(package.__path__[0], "py.typed").is_file():
        raise SystemExit("py.typed is missing: type checkers will ignore the annotations")
    modules = [module.name for module in pkgutil.walk_packages(package.__path__, f"{PACKAGE}.")]
    for module in modules:
        import_module(module)

    (provider,) = (
        entry
        for entry in entry_points(group="apache_airflow_provider")
        if entry.dist is not None and entry.dist.name == DISTRIBUTION
    )
    if provider.load()()["package-name"] != DISTRIBUTION:
        raise SystemExit("the provider's entry point describes another package")
    providers = json.loads(output("airflow", "providers", "list", "--output", "json"))
    if not any(row["package_name"] == DISTRIBUTION and row["version"] == installed for row in providers):
        raise SystemExit(f"airflow providers list does not know {DISTRIBUTION} {installed}")
    if "start" not in output("vertex-emulator", "--help"):
        raise SystemExit("vertex-emulator --help does not speak of its start command")

    print(f"{DISTRIBUTION} {installed}: {len(modules)} modules import; Airflow and the console find it")


def output(*command: str) -> str:
    """Return what a program of this environment prints; its failure is ours."""
    name, *arguments = command
    finished = subprocess.run(
        [BIN / name, *arguments], check=False, capture_output=True, text=True, timeout=300
    )
    if finished.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{finished.stdout}{finished.stderr}")
    return finished.stdout


if __name__ == "__main__":
    main()
