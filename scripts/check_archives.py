# SPDX-License-Identifier: Apache-2.0
"""
Look into the built sdist and wheel: nothing is missing and no rubbish came along.

Usage: ``python scripts/check_archives.py DIST_FOLDER``, in a git work tree.
"""

from __future__ import annotations

import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path, PurePosixPath

PACKAGE = "airflow_vertex_persistent"
ROOT = Path(__file__).parents[1]


def main(dist: Path) -> None:
    """Check the only sdist and the only wheel in ``dist``; exit with a message about everything wrong."""
    (sdist,), (wheel,) = dist.glob("*.tar.gz"), dist.glob("*.whl")
    tracked = subprocess.run(
        ["git", "ls-files"],  # noqa: S607
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    ).stdout.splitlines()
    problems = [*sdist_problems(sdist, set(tracked)), *wheel_problems(wheel, set(tracked))]
    if problems:
        raise SystemExit("\n".join(problems))
    for archive in (sdist, wheel):
        print(f"{archive.name}: {archive.stat().st_size / 1024:.0f} KiB, contents as they should be")


def sdist_problems(sdist: Path, tracked: set[str]) -> list[str]:
    """Return what is wrong: every file must be in git, and the whole package must be there."""
    with tarfile.open(sdist) as archive:
        members = [member.name for member in archive.getmembers() if member.isfile()]
    names = {str(PurePosixPath(*PurePosixPath(name).parts[1:])) for name in members}
    needed = {name for name in tracked if name.startswith(f"{PACKAGE}/")} | {"LICENSE", "README.md"}
    return [
        *(f"{sdist.name} has {name}, which is not in git" for name in sorted(names - tracked - {"PKG-INFO"})),
        *(f"{sdist.name} lacks {name}" for name in sorted(needed - names)),
    ]


def wheel_problems(wheel: Path, tracked: set[str]) -> list[str]:
    """Return what is wrong: the wheel is the package's files in git, ``py.typed`` too, and metadata."""
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
        metadata = {name.partition(".dist-info/")[2] for name in archive.namelist()}
    needed = {name for name in tracked if name.startswith(f"{PACKAGE}/")} | {f"{PACKAGE}/py.typed"}
    return [
        *(f"{wheel.name} has {name}, which is not in git" for name in sorted(names - needed)),
        *(f"{wheel.name} lacks {name}" for name in sorted(needed - names)),
        *(
            f"{wheel.name} lacks {name}"
            for name in ("entry_points.txt", "licenses/LICENSE")
            if name not in metadata
        ),
    ]


if __name__ == "__main__":
    main(Path(sys.argv[1]))
