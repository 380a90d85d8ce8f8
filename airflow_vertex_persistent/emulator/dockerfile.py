# SPDX-License-Identifier: Apache-2.0
"""
What a folder's Dockerfile says about starting its container: ENTRYPOINT, CMD, ENV and WORKDIR.

The published parsers read a here-document's lines as instructions, so these few lines read the file themselves.
Nothing is built: RUN, COPY and all the rest have no effect.
"""

from __future__ import annotations

import json
import re
import shlex
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_HEREDOC = re.compile(r"""<<-?\s*(["']?)(\w+)\1""")
_STAGE = re.compile(r"(?:--\S+\s+)*(\S+)(?:\s+as\s+(\S+))?", re.IGNORECASE)


class DockerfileError(ValueError):
    """A Dockerfile that cannot be read, or none at all."""


@dataclass(frozen=True)
class Image:
    """
    How an image starts.

    :param entrypoint: what runs, unless the job brings a command.
    :param cmd: its arguments, unless the job brings args.
    :param env: the image's own environment.
    :param workdir: the folder in the image that stands for the local one.
    """

    entrypoint: tuple[str, ...] = ()
    cmd: tuple[str, ...] = ()
    env: dict[str, str] = field(default_factory=dict)
    workdir: str = "/"


def read_image(folder: Path) -> Image:
    """
    Read the last stage of a folder's Dockerfile.

    :raises DockerfileError: when there is none, or an instruction in it makes no sense.
    """
    path = folder / "Dockerfile"
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DockerfileError(f"cannot read {path}: {error}") from error
    stages: dict[str, Image] = {}
    name, image = "", Image()
    for word, rest in _instructions(text):
        if word == "FROM":
            stages[name] = image
            match = _STAGE.match(rest)
            base, name = (match[1], match[2] or "") if match else ("", "")
            image = stages.get(base.lower(), Image()) if base else Image()
            name = name.lower()
        elif word == "ENTRYPOINT":
            # A new ENTRYPOINT drops the CMD that an earlier stage wrote for another one.
            image = replace(image, entrypoint=_command(rest), cmd=())
        elif word == "CMD":
            image = replace(image, cmd=_command(rest))
        elif word == "ENV":
            image = replace(image, env=image.env | _variables(rest, path))
        elif word == "WORKDIR":
            image = replace(image, workdir=rest.strip("\"' ") or "/")
    return image


def _instructions(text: str) -> Iterator[tuple[str, str]]:
    """Instructions with their continued lines joined, without comments and here-documents."""
    lines = iter(text.splitlines())
    for line in lines:
        joined = line.strip()
        if not joined or joined.startswith("#"):
            continue
        while joined.endswith("\\"):
            following = next((more for more in lines if not more.lstrip().startswith("#")), "")
            joined = joined[:-1] + following.strip()
        word, _, rest = joined.partition(" ")
        yield word.upper(), rest.strip()
        for _, end in _HEREDOC.findall(rest) if word.upper() in {"RUN", "COPY", "ADD"} else ():
            for body in lines:
                if body.strip() == end:
                    break


def _command(text: str) -> tuple[str, ...]:
    """Read an exec form as it is, and run a shell form in a shell, as Docker does."""
    if text.startswith("["):
        try:
            words = json.loads(text)
        except ValueError:
            words = None
        if isinstance(words, list) and all(isinstance(word, str) for word in words):
            return tuple(words)
    return ("/bin/sh", "-c", text) if text else ()


def _variables(text: str, path: Path) -> dict[str, str]:
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise DockerfileError(f"{path}: ENV {text}: {error}") from error
    if words and "=" not in words[0]:  # the old form: ENV NAME the rest is the value
        return {words[0]: " ".join(words[1:])}
    return dict(word.split("=", 1) for word in words if "=" in word)
