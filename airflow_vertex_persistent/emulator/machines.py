# SPDX-License-Identifier: Apache-2.0
"""Machine shapes: which types exist, whether their GPUs are those of the table, and when two pools are the same."""

from __future__ import annotations

import re
from difflib import get_close_matches
from typing import TYPE_CHECKING, NamedTuple

from google.cloud.aiplatform_v1.types import AcceleratorType, DiskSpec, MachineSpec

from .gpus import BUILT_IN, GPUS
from .names import REGION

if TYPE_CHECKING:
    from .errors import Problems

_DISK_TYPES = ("pd-ssd", "pd-standard", "hyperdisk-balanced")
_DISK_GB = range(100, 64001)
_PLAIN = re.compile(
    r"(e2|n2|n2d|c2d|c3|c3d|c4|n4)-(standard|highmem|highcpu)-\d+|c2-standard-\d+|m1-(ultramem|megamem)-\d+"
)
_N1 = re.compile(r"n1-(standard|highmem|highcpu)-\d+")
_TPU = re.compile(r"cloud-tpu|ct\w+-hightpu-\d+t")
# On these machines a disk that nobody chose is a hyperdisk.
_HYPERDISK_MACHINES = ("a3-ultragpu-8g", "a4-highgpu-8g")


class Shape(NamedTuple):
    """What must be equal for a worker pool to run on a pool of a persistent resource."""

    machine: bytes
    disk_type: str
    disk_gb: int


def gpu_name(machine: MachineSpec) -> str:
    """Name of a machine's AcceleratorType, empty for none."""
    # The raw number: proto-plus warns of one that it does not know.
    kind = MachineSpec.pb(machine).accelerator_type
    known: dict[int, str] = {int(member): name for name, member in AcceleratorType.__members__.items()}
    return known.get(kind, f"accelerator type {kind}") if kind else ""


def effective_disk(machine: MachineSpec, disk: DiskSpec) -> DiskSpec:
    """The disk that the service gives when parts of it are not said: pd-ssd, 100 GB."""
    default = "hyperdisk-balanced" if machine.machine_type in _HYPERDISK_MACHINES else "pd-ssd"
    return DiskSpec(
        boot_disk_type=disk.boot_disk_type or default, boot_disk_size_gb=disk.boot_disk_size_gb or _DISK_GB[0]
    )


def shape_of(machine: MachineSpec, disk: DiskSpec) -> Shape:
    """The shape of one worker pool or resource pool."""
    disk = effective_disk(machine, disk)
    return Shape(MachineSpec.serialize(machine), disk.boot_disk_type, disk.boot_disk_size_gb)


def check_machine(machine: MachineSpec, field: str, problems: Problems) -> None:
    """
    Check machine type and accelerators against the table.

    :param field: path of the machine spec in the request.
    """
    gpu, count = gpu_name(machine), machine.accelerator_count
    name = machine.machine_type
    if name in BUILT_IN:
        built_in, fixed = BUILT_IN[name]
        problems.check(
            (gpu, count) == (built_in, fixed),
            field,
            f'Machine type "{name}" has exactly {fixed} {built_in}, not {count} {gpu or "accelerators"}.',
        )
    elif _N1.fullmatch(name):
        allowed = GPUS[gpu].n1_counts if gpu in GPUS else ()
        none = not gpu and not count
        problems.check(
            none or count in allowed,
            field,
            f'Machine type "{name}" cannot have {count} {gpu or "accelerators"}'
            + (f"; possible counts: {', '.join(map(str, allowed))}." if allowed else "."),
        )
    elif _PLAIN.fullmatch(name):
        problems.check(not gpu and not count, field, f'Machine type "{name}" cannot have accelerators.')
    elif not _TPU.fullmatch(name):
        problems.add(f"{field}.machine_type", f'Machine type "{name}" is not supported.')


def is_tpu(machine: MachineSpec) -> bool:
    """Whether a machine has TPUs."""
    return bool(_TPU.fullmatch(machine.machine_type))


def doubts(where: str) -> list[str]:
    """
    Tell what looks like a slip in the name of a stock, which may be on purpose even so.

    :param where: ``REGION/MACHINE_TYPE``; either may be ``*``.
    """
    region, _, name = where.partition("/")
    found = []
    if region != "*" and not REGION.fullmatch(region):
        found.append(f"{region!r} does not look like a region, e.g. europe-west4")
    if name not in {"*", *BUILT_IN} and not any(kind.fullmatch(name) for kind in (_N1, _PLAIN, _TPU)):
        close = get_close_matches(name, BUILT_IN, n=2)
        guess = f"; did you mean {' or '.join(close)}?" if close else ""
        found.append(f"the emulator knows no machine type {name!r}{guess}")
    return found


def check_disk(disk: DiskSpec, field: str, problems: Problems) -> None:
    """Check the boot disk's type and size; what is not said gets the default."""
    problems.check(
        not disk.boot_disk_type or disk.boot_disk_type in _DISK_TYPES,
        f"{field}.boot_disk_type",
        f'Disk type "{disk.boot_disk_type}" is not supported; use one of {", ".join(_DISK_TYPES)}.',
    )
    problems.check(
        not disk.boot_disk_size_gb or disk.boot_disk_size_gb in _DISK_GB,
        f"{field}.boot_disk_size_gb",
        f"{disk.boot_disk_size_gb} GB is not between {_DISK_GB[0]} and {_DISK_GB[-1]}.",
    )
