# SPDX-License-Identifier: Apache-2.0
"""The hardware of a persistent resource's pools, alone and beside that of a worker pool."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from airflow_vertex_persistent.specs.messages import comparable
from airflow_vertex_persistent.specs.worker_pools import complete_disk

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_MACHINE_FIELDS = ("machine_type", "accelerator_type", "accelerator_count")
_DISK_FIELDS = ("boot_disk_type", "boot_disk_size_gb")
_MAX_CELL = 60


@dataclass
class Hardware:
    """
    The pools of a resource that have the same machine and disk: the service fills one after the other.

    :param most: Machines that each of them can ever have, by its id.
    :param taken: Machines that a job has taken of each, by its id.
    """

    machine: dict[str, Any]
    disk: dict[str, Any]
    most: dict[str, int] = field(default_factory=dict)
    taken: dict[str, int] = field(default_factory=dict)

    @property
    def title(self) -> str:
        """The pools, for an error's text."""
        return f"resource pool{'s' if len(self.most) > 1 else ''} {' and '.join(map(repr, self.most))}"

    @property
    def widest(self) -> str:
        """The pool with room for the most machines."""
        return max(self.most, key=self.room)

    def room(self, pool: str) -> int:
        """Return how many more machines a job can take of a pool."""
        return self.most[pool] - self.taken[pool]

    def fits(self, replicas: int) -> bool:
        """Tell whether one of them has room for the machines of a worker pool, which come from one pool."""
        return self.room(self.widest) >= replicas

    def take(self, replicas: int) -> None:
        """Take the machines of one worker pool, which come from one pool: the first that has enough."""
        enough = (pool for pool in self.most if self.room(pool) >= replicas)
        self.taken[next(enough, self.widest)] += replicas


def most_machines(pool: Mapping[str, Any]) -> int:
    """Return how many machines a resource pool can ever have; the API's JSON form has 64-bit numbers as texts."""
    scaling = pool.get("autoscaling_spec")
    return int(pool.get("replica_count", 0) if scaling is None else scaling["max_replica_count"])


def hardware_of(resource: Mapping[str, Any]) -> list[Hardware]:
    """
    Return the different kinds of hardware of a persistent resource.

    :param resource: The live resource in the API's JSON form with snake-case keys.
    """
    kinds: list[Hardware] = []
    for pool in resource["resource_pools"]:
        machine = pool.get("machine_spec") or {}
        new = Hardware(machine, complete_disk(pool.get("disk_spec"), machine.get("machine_type")))
        kind = next((known for known in kinds if _is_same(known, new)), new)
        if kind is new:
            kinds.append(new)
        kind.most[pool["id"]] = most_machines(pool)
        kind.taken[pool["id"]] = 0
    return kinds


def _is_same(one: Hardware, other: Hardware) -> bool:
    return bool(comparable([one.machine, one.disk]) == comparable([other.machine, other.disk]))


class Row(NamedTuple):
    """
    One field of a worker pool beside that of the hardware.

    :param left_out: Whether the worker pool says nothing of it, and takes what it gets.
    """

    field: str
    ours: Any
    theirs: Any
    left_out: bool
    differs: bool


def compare(pool: Mapping[str, Any], kind: Hardware) -> list[Row]:
    """Put a worker pool and a kind of hardware side by side, with the machines that the job has taken so far."""
    rows = []
    for group, usual, theirs in (
        ("machine_spec", _MACHINE_FIELDS, kind.machine),
        ("disk_spec", _DISK_FIELDS, kind.disk),
    ):
        ours = pool.get(group) or {}
        for name in dict.fromkeys((*usual, *ours, *theirs)):
            # A machine that is given is the whole machine, without accelerators if it names none.
            left_out = not ours if group == "machine_spec" else name not in ours
            mine, other = ours.get(name), theirs.get(name)
            differs = not left_out and comparable(mine) != comparable(other)
            rows.append(Row(f"{group}.{name}", mine, other, left_out, differs))
    replicas, taken = pool["replica_count"], kind.taken[kind.widest]
    wanted = f"{taken} + {replicas}" if taken else str(replicas)
    most = f"at most {kind.most[kind.widest]}"
    too_many = not kind.fits(replicas)
    return [*rows, Row("replica_count", wanted, most, left_out=False, differs=too_many)]


def side_by_side(rows: Sequence[Row], title: str) -> str:
    """
    Return a table of a worker pool and a kind of hardware, what differs marked with ``*``.

    :param title: Of the hardware.
    """
    lines = [("", "field", "worker pool", title)]
    for row in rows:
        ours = "left out" if row.left_out else _cell(row.ours)
        lines.append(("*" if row.differs else "", row.field.rpartition(".")[2], ours, _cell(row.theirs)))
    return _table(lines)


def pool_list(kinds: Sequence[Hardware]) -> str:
    """Return a table of resource pools, by id."""
    machine_fields = dict.fromkeys((*_MACHINE_FIELDS, *(name for kind in kinds for name in kind.machine)))
    fields = (*machine_fields, *_DISK_FIELDS)
    lines: list[tuple[str, ...]] = [("id", *fields, "machines")]
    for kind in kinds:
        hardware = {**kind.machine, **kind.disk}
        cells = [_cell(hardware.get(name)) for name in fields]
        lines += [(pool, *cells, f"at most {most}") for pool, most in kind.most.items()]
    return _table(lines)


def _cell(value: Any) -> str:
    return "none" if comparable(value) is None else str(value)[:_MAX_CELL]


def _table(lines: Sequence[tuple[str, ...]]) -> str:
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    padded = ("  ".join(map(str.ljust, line, widths)).rstrip() for line in lines)
    return "\n".join(f"      {line}" for line in padded)
