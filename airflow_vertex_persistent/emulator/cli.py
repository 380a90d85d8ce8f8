# SPDX-License-Identifier: Apache-2.0
"""The ``vertex-emulator`` command: start an emulator, look at jobs and logs of a running one, let it fail."""

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

from .control import EmulatorControl
from .faults import FaultKind
from .settings import CLUSTER_ERROR, EmulatorSettings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .serving import Options

_DEFAULT_PORT = 8085
_DEFAULT_STORAGE_PORT = 9023
_BUCKET = re.compile(r"[a-z0-9][a-z0-9._-]{1,61}[a-z0-9]")


class CommandError(Exception):
    """The command cannot do what it was asked to; its text is all that the user sees."""


def main(arguments: Sequence[str] | None = None) -> int:
    """
    Run the command.

    :return: exit status: 0 when all went well, 1 with one line on standard error, 2 for a wrong command line.
    """
    options = _parser().parse_args(arguments)
    try:
        return int(options.run(options))
    except (CommandError, OSError, ValueError) as error:
        sys.stderr.write(f"vertex-emulator: {error}\n")
        return 1
    except KeyboardInterrupt:
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="vertex-emulator", description=(__doc__ or "").replace("`", ""))
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    start = commands.add_parser(
        "start", help="start an emulator; Ctrl-C or SIGTERM ends it and the jobs that run"
    )
    start.set_defaults(run=_start)
    start.add_argument(
        "--port", type=_port, default=_DEFAULT_PORT, help="of the Vertex AI services (%(default)s)"
    )
    start.add_argument(
        "--storage-port", type=_port, default=_DEFAULT_STORAGE_PORT, help="of Cloud Storage (%(default)s)"
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

    host = argparse.ArgumentParser(add_help=False)
    host.add_argument(
        "--host",
        default=os.environ.get("VERTEX_AI_EMULATOR_HOST", f"127.0.0.1:{_DEFAULT_PORT}"),
        help="of the running emulator (VERTEX_AI_EMULATOR_HOST, else %(default)s)",
    )
    jobs = commands.add_parser("jobs", parents=[host], help="list the jobs of a running emulator")
    jobs.set_defaults(run=_jobs)
    logs = commands.add_parser("logs", parents=[host], help="print the log of a job")
    logs.set_defaults(run=_logs)
    logs.add_argument("job", metavar="JOB", help="id of the job, or its full name")
    logs.add_argument("-f", "--follow", action="store_true", help="go on until the job has ended")
    _add_faults(commands, host)
    broken = commands.add_parser(
        "fail-resource",
        parents=[host],
        help="let a RUNNING persistent resource fall into ERROR; jobs on it end FAILED",
    )
    broken.set_defaults(run=_fail_resource)
    broken.add_argument(
        "name", metavar="NAME", help="projects/PROJECT/locations/REGION/persistentResources/ID"
    )
    broken.add_argument("--text", default=CLUSTER_ERROR, help="its error (%(default)s)")
    _add_capacity(commands, host)
    return parser


def _add_capacity(
    commands: argparse._SubParsersAction[argparse.ArgumentParser], host: argparse.ArgumentParser
) -> None:
    shown = commands.add_parser(
        "capacity", parents=[host], help="list machines outside persistent resources, and who waits for them"
    )
    shown.set_defaults(run=_capacity)
    stock = commands.add_parser(
        "set-stock", parents=[host], help="say how many machines there are from now on"
    )
    stock.set_defaults(run=_set_stock)
    stock.add_argument("where", metavar="REGION/MACHINE_TYPE", help="either may be *")
    stock.add_argument("stock", metavar="STOCK", help="as for start --stock")
    preempted = commands.add_parser("preempt", parents=[host], help="take the machines of a Spot job away")
    preempted.set_defaults(run=_preempt)
    preempted.add_argument("job", metavar="JOB", help="id of the job, or its full name")


def _add_faults(
    commands: argparse._SubParsersAction[argparse.ArgumentParser], host: argparse.ArgumentParser
) -> None:
    fault = commands.add_parser(
        "fault", help="let calls of a running emulator fail, wait or lose their reply"
    )
    actions = fault.add_subparsers(required=True, metavar="ACTION")
    add = actions.add_parser("add", parents=[host], help="order a fault")
    add.set_defaults(run=_add_fault)
    add.add_argument("method", metavar="METHOD", help="short name of the call, e.g. CreateCustomJob")
    add.add_argument("kind", metavar="KIND", help=", ".join(FaultKind))
    add.add_argument("--times", type=int, default=1, metavar="N", help="calls that it hits (%(default)s)")
    add.add_argument(
        "--skip", type=int, default=0, metavar="N", help="calls that it lets pass first (%(default)s)"
    )
    add.add_argument("--seconds", type=float, metavar="S", help="how long a slow or late one waits")
    add.add_argument("--text", metavar="TEXT", help="what the caller is told instead of the usual text")
    actions.add_parser("list", parents=[host], help="list all ordered faults").set_defaults(run=_list_faults)
    actions.add_parser("clear", parents=[host], help="forget all faults").set_defaults(run=_clear_faults)


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
        raise CommandError(f"{text!r} is no whole number")
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


def _start(options: argparse.Namespace) -> int:
    # The Google message types cost seconds to import; a wrong command line is answered before that.
    from .serving import Options

    settings: dict[str, Any] = {
        setting.name: getattr(options, setting.name) for setting in fields(EmulatorSettings)
    }
    settings |= {name: dict(settings[name]) for name in ("resource_errors", "stock")}
    settings["quota"] = {name: _whole(limit) for name, limit in settings["quota"]}
    return asyncio.run(
        _serve(
            Options(
                data_dir=options.data_dir.expanduser().resolve(),
                images=dict(options.image),
                buckets=tuple(options.bucket),
                port=options.port,
                storage_port=options.storage_port,
                settings=EmulatorSettings(**settings),
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


def _jobs(options: argparse.Namespace) -> int:
    from .look import show_jobs

    show_jobs(options.host)
    return 0


def _logs(options: argparse.Namespace) -> int:
    from .look import show_logs

    if not show_logs(options.host, options.job.rpartition("/")[2], follow=options.follow):
        raise CommandError(f"job {options.job} is not known to the emulator at {options.host}")
    return 0


def _add_fault(options: argparse.Namespace) -> int:
    with EmulatorControl(options.host) as control:
        control.add_fault(
            options.method,
            options.kind,
            times=options.times,
            skip=options.skip,
            seconds=options.seconds,
            text=options.text,
        )
    return 0


def _fail_resource(options: argparse.Namespace) -> int:
    with EmulatorControl(options.host) as control:
        control.fail_resource(options.name, options.text)
    return 0


def _capacity(options: argparse.Namespace) -> int:
    from .look import show_capacity

    show_capacity(options.host)
    return 0


def _set_stock(options: argparse.Namespace) -> int:
    with EmulatorControl(options.host) as control:
        control.set_stock(options.where, options.stock)
    return 0


def _preempt(options: argparse.Namespace) -> int:
    with EmulatorControl(options.host) as control:
        control.preempt(options.job)
    return 0


def _list_faults(options: argparse.Namespace) -> int:
    from .look import show_faults

    show_faults(options.host)
    return 0


def _clear_faults(options: argparse.Namespace) -> int:
    with EmulatorControl(options.host) as control:
        control.clear_faults()
    return 0


if __name__ == "__main__":
    sys.exit(main())
