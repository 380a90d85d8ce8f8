# SPDX-License-Identifier: Apache-2.0
"""What ``vertex-emulator`` prints of machines and quota: what there is, who has it, who waits for it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from .control import EmulatorControl
from .screen import console, duration, narrow

if TYPE_CHECKING:
    from rich.table import Table

_COMMON = "custom_model_training_"
_METRICS = f"{_COMMON}…"  # a head, and not in each row: half a terminal would be full of it


def show_capacity(host: str) -> None:
    """
    Print machines outside persistent resources and what was said of them, quota, and the jobs that wait.

    :raises OSError: when no emulator answers.
    """
    with EmulatorControl(host) as control:
        shelves, wildcards, accounts = control.capacity(), control.wildcard_stocks(), control.quota()
    screen = console()
    screen.print(_machines(shelves) if shelves else "No machines in use, and none waited for.")
    for table in (_rules(wildcards), _machine_queues(shelves), _quota(accounts), _quota_queues(accounts)):
        if table.rows:
            screen.print(table)


def print_stock(host: str, where: str) -> None:
    """
    Print in one line what was set of a stock.

    :raises OSError: when no emulator answers.
    """
    with EmulatorControl(host) as control:
        rules = {rule["where"]: rule["stock"] for rule in control.wildcard_stocks()}
        shelves = {f"{shelf['region']}/{shelf['machine_type']}": shelf for shelf in control.capacity()}
    if where in rules:
        line = f"stock {rules[where]}"
    else:
        shelf = shelves[where]
        change = _change(shelf, datetime.now(UTC))
        line = f"stock {_stock(shelf['stock'])}{change and f' ({change})'}, {shelf['in_use']} in use, "
        line += f"{len(shelf['queue'])} waiting"
    console().print(f"{where}: {line}", soft_wrap=True)


def _machines(shelves: list[dict[str, Any]]) -> Table:
    now = datetime.now(UTC)
    table = narrow("region", "machine type", "stock", "in use", "waiting", "next change")
    for shelf in shelves:
        numbers = _stock(shelf["stock"]), str(shelf["in_use"]), str(len(shelf["queue"]))
        table.add_row(shelf["region"], shelf["machine_type"], *numbers, _change(shelf, now))
    return table


def _rules(wildcards: list[dict[str, Any]]) -> Table:
    table = narrow("for each of", "stock", "said", whole="said")
    for rule in wildcards:
        table.add_row(rule["where"], rule["stock"], f"{duration(rule['since'])} ago")
    return table


def _machine_queues(shelves: list[dict[str, Any]]) -> Table:
    table = narrow("region", "machine type", "waiting job", "nodes", "waited", "limit", whole="waiting job")
    for shelf in shelves:
        for place in shelf["queue"]:
            where = shelf["region"], shelf["machine_type"]
            table.add_row(*where, _job(place), str(place["nodes"]), *_wait(place))
    return table


def _quota(accounts: list[dict[str, Any]]) -> Table:
    several = len({account["project"] for account in accounts} - {None}) > 1
    table = narrow(*(["project"] if several else []), "region", _METRICS, "quota", "in use", "wanted")
    for account in accounts:
        wanted = sum(place["gpus"] for place in account["queue"])
        numbers = (str(number) for number in (account["limit"], account["in_use"], wanted))
        project = [account["project"] or ""] if several else []
        table.add_row(*project, account["region"], account["metric"].removeprefix(_COMMON), *numbers)
    return table


def _quota_queues(accounts: list[dict[str, Any]]) -> Table:
    table = narrow("region", _METRICS, "waiting job", "GPUs", "waited", whole="waiting job")
    for account in accounts:
        for place in account["queue"]:
            where = account["region"], account["metric"].removeprefix(_COMMON)
            table.add_row(*where, _job(place), str(place["gpus"]), duration(place["waited"]))
    return table


def _job(place: dict[str, Any]) -> str:
    return str(place["job"].rpartition("/")[2])


def _wait(place: dict[str, Any]) -> tuple[str, str]:
    limit = "for ever" if place["wait_limit"] is None else duration(place["wait_limit"])
    return duration(place["waited"]), limit


def _stock(machines: int | None) -> str:
    return "unlimited" if machines is None else str(machines)


def _change(shelf: dict[str, Any], now: datetime) -> str:
    if shelf["next_change"] is None:
        return ""
    moment = datetime.fromisoformat(shelf["next_change"])
    # It may have passed between the answer and now.
    return f"{_stock(shelf['next_stock'])} in {duration(max((moment - now).total_seconds(), 0))}"
