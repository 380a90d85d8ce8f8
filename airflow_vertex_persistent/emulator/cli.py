# SPDX-License-Identifier: Apache-2.0
"""The ``vertex-emulator`` command: start an emulator, look at jobs and logs of a running one, let it fail."""

from __future__ import annotations

import argparse
import os
import sys
from typing import TYPE_CHECKING

from .control import EmulatorControl
from .faults import FaultKind
from .settings import CLUSTER_ERROR
from .start_command import DEFAULT_PORT, add_start, warn

if TYPE_CHECKING:
    from collections.abc import Sequence


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
    add_start(commands)
    host = argparse.ArgumentParser(add_help=False)
    host.add_argument(
        "--host",
        default=os.environ.get("VERTEX_AI_EMULATOR_HOST", f"127.0.0.1:{DEFAULT_PORT}"),
        help="of the running emulator (VERTEX_AI_EMULATOR_HOST, else %(default)s)",
    )
    jobs = commands.add_parser("jobs", parents=[host], help="list the jobs of a running emulator")
    jobs.set_defaults(run=_jobs)
    logs = commands.add_parser("logs", parents=[host], help="print the log of a job")
    logs.set_defaults(run=_logs)
    logs.add_argument("job", metavar="JOB", help="id of the job, or its full name")
    logs.add_argument("-f", "--follow", action="store_true", help="go on until the job has ended")
    cancelled = commands.add_parser("cancel", parents=[host], help="cancel a job, whoever created it")
    cancelled.set_defaults(run=_cancel)
    cancelled.add_argument("job", metavar="JOB", help="id of the job, or its full name")
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


def _jobs(options: argparse.Namespace) -> int:
    from .look_jobs import show_jobs

    show_jobs(options.host)
    return 0


def _cancel(options: argparse.Namespace) -> int:
    from .look_jobs import cancel_job

    cancel_job(options.host, options.job)
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
    from .look_capacity import show_capacity

    show_capacity(options.host)
    return 0


def _set_stock(options: argparse.Namespace) -> int:
    with EmulatorControl(options.host) as control:
        doubts = control.set_stock(options.where, options.stock)
    from .look_capacity import print_stock

    print_stock(options.host, options.where)
    warn(doubts)
    return 0


def _preempt(options: argparse.Namespace) -> int:
    with EmulatorControl(options.host) as control:
        control.preempt(options.job)
    from .look_jobs import print_machines

    print_machines(options.host, options.job)
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
