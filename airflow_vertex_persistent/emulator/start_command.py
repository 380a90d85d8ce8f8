# SPDX-License-Identifier: Apache-2.0
"""``vertex-emulator start``: its options, and serving until somebody ends it."""

from __future__ import annotations

import argparse
import asyncio
import os
import re
import signal
import sys
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .settings import EmulatorSettings

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .serving import Options

DEFAULT_PORT = 8085
_STORAGE_PORT = 9023
_BUCKET = re.compile(r"[a-z0-9][a-z0-9._-]{1,61}[a-z0-9]")


def add_start(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to the others."""
    start = commands.add_parser(
        "start", help="start an emulator; Ctrl-C or SIGTERM ends it and the jobs that run"
    )
    start.set_defaults(run=_start)
    start.add_argument(
        "--port", type=_port, default=DEFAULT_PORT, help="of the Vertex AI services (%(default)s)"
    )
    start.add_argument(
        "--storage-port", type=_port, default=_STORAGE_PORT, help="of Cloud Storage (%(default)s)"
    )
    start.add_argument(
        "--data-dir",
        type=Path,
        default=default_data_dir(),
        help="objects and logs are kept here (%(default)s)",
    )
    start.add_argument(
        "--image",
        action="append",
        default=[],
        type=_image,
        metavar="URI=FOLDER",
        help="run jobs of this image in this folder, as its Dockerfile's ENTRYPOINT and CMD say; repeatable",
    )
    start.add_argument(
        "--bucket",
        action="append",
        default=[],
        type=_bucket,
        metavar="NAME",
        help="create a bucket; repeatable",
    )
    _add_settings(start.add_argument_group("settings"))


def _add_settings(group: argparse._ArgumentGroup) -> None:
    """Make one option of each setting."""
    for setting in fields(EmulatorSettings):
        option, text = "--" + setting.name.replace("_", "-"), setting.metadata["text"]
        if "form" in setting.metadata:
            group.add_argument(
                setting.metadata["option"],
                dest=setting.name,
                action="append",
                default=[],
                type=_pair,
                metavar=setting.metadata["form"],
                help=f"{text}; repeatable",
            )
        elif isinstance(setting.default, bool):
            group.add_argument(option, action="store_true", default=False, help=text)
        else:
            group.add_argument(
                option,
                type=type(setting.default),
                default=setting.default,
                choices=setting.metadata["choices"] or None,
                metavar=None if setting.metadata["choices"] else "N",
                help=f"{text} (%(default)s)",
            )


def default_data_dir() -> Path:
    """``vertex-emulator`` in the user's cache folder: XDG_CACHE_HOME, else ``~/.cache``."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "vertex-emulator"


def _port(text: str) -> int:
    if not text.isdecimal() or int(text) > 65535:  # noqa: PLR2004 - the largest port
        raise argparse.ArgumentTypeError(f"{text!r} is no port")
    return int(text)


def _pair(text: str) -> tuple[str, str]:
    head, sign, tail = text.partition("=")
    if not sign or not head or not tail:
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form NAME=VALUE")
    return head, tail


def _whole(text: str) -> int:
    if not text.isdecimal():
        raise ValueError(f"{text!r} is no whole number")
    return int(text)


def _image(text: str) -> tuple[str, Path]:
    # The folder comes last and may hold no "=", while nothing forbids a digest with one in the URI.
    uri, sign, folder = text.rpartition("=")
    if not sign or not uri or not folder:
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form URI=FOLDER")
    path = Path(folder).expanduser().resolve()
    if not path.is_dir():
        raise argparse.ArgumentTypeError(f"folder {folder} of image {uri} does not exist")
    if not (path / "Dockerfile").is_file():
        raise argparse.ArgumentTypeError(f"folder {folder} of image {uri} has no Dockerfile")
    return uri, path


def _bucket(text: str) -> str:
    if not _BUCKET.fullmatch(text):
        raise argparse.ArgumentTypeError(f"{text!r} is no bucket name")
    return text


def warn(doubts: Iterable[str]) -> None:
    """Say on standard error what may be a slip."""
    for doubt in doubts:
        sys.stderr.write(f"vertex-emulator: {doubt}\n")


def _start(options: argparse.Namespace) -> int:
    # The Google message types cost seconds to import; a wrong command line is answered before that.
    from .machines import doubts
    from .serving import Options

    settings: dict[str, Any] = {
        setting.name: getattr(options, setting.name) for setting in fields(EmulatorSettings)
    }
    settings |= {name: dict(settings[name]) for name in ("resource_errors", "stock")}
    settings["quota"] = {name: _whole(limit) for name, limit in settings["quota"]}
    checked = EmulatorSettings(**settings)
    warn(doubt for where in checked.stock for doubt in doubts(where))
    return asyncio.run(
        _serve(
            Options(
                data_dir=options.data_dir.expanduser().resolve(),
                images=dict(options.image),
                buckets=tuple(options.bucket),
                port=options.port,
                storage_port=options.storage_port,
                settings=checked,
            )
        )
    )


async def _serve(options: Options) -> int:
    from .serving import serving

    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with serving(options) as addresses:
        exports = "; ".join(f"export {name}={value}" for name, value in addresses.environment.items())
        sys.stdout.write(exports + "\n")
        sys.stdout.flush()
        sys.stderr.write(
            f"Ready. Data is kept in {options.data_dir}. Ctrl-C ends the emulator and the jobs that run.\n"
        )
        await stop.wait()
    return 0
