# SPDX-License-Identifier: Apache-2.0
"""Which machine types carry which accelerators, as data. Source: Vertex AI's "Configure compute resources"."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow_vertex_persistent.specs.checks import Problems


@dataclass(frozen=True)
class Accelerator:
    """
    One row of the table.

    :param machines: How many each machine type has that has it built in: both must be written, and must agree.
    :param n1_counts: How many can be attached to a machine of the n1 family.
    :param flex_start: Whether one can queue for it with Flex Start. Source: Vertex AI's "Schedule training jobs based
        on resource availability"; the larger H100 machines belong to the family that it names.
    :param disk: What its machines boot from unless told otherwise.
    """

    machines: Mapping[str, int] = field(default_factory=dict)
    n1_counts: tuple[int, ...] = ()
    flex_start: bool = False
    disk: str = "pd-ssd"


ACCELERATORS = {
    "ACCELERATOR_TYPE_UNSPECIFIED": Accelerator(),
    "NVIDIA_TESLA_K80": Accelerator(),
    "NVIDIA_TESLA_P4": Accelerator(n1_counts=(1, 2, 4)),
    "NVIDIA_TESLA_P100": Accelerator(n1_counts=(1, 2, 4)),
    "NVIDIA_TESLA_V100": Accelerator(n1_counts=(1, 2, 4, 8)),
    "NVIDIA_TESLA_T4": Accelerator(n1_counts=(1, 2, 4)),
    "NVIDIA_L4": Accelerator(
        {
            **{f"g2-standard-{cpus}": 1 for cpus in (4, 8, 12, 16, 32)},
            "g2-standard-24": 2,
            "g2-standard-48": 4,
            "g2-standard-96": 8,
        },
        flex_start=True,
    ),
    "NVIDIA_TESLA_A100": Accelerator(
        {**{f"a2-highgpu-{count}g": count for count in (1, 2, 4, 8)}, "a2-megagpu-16g": 16}, flex_start=True
    ),
    "NVIDIA_A100_80GB": Accelerator(
        {f"a2-ultragpu-{count}g": count for count in (1, 2, 4, 8)}, flex_start=True
    ),
    "NVIDIA_H100_80GB": Accelerator(
        {f"a3-highgpu-{count}g": count for count in (1, 2, 4, 8)}, flex_start=True
    ),
    "NVIDIA_H100_MEGA_80GB": Accelerator({"a3-megagpu-8g": 8}, flex_start=True),
    "NVIDIA_H200_141GB": Accelerator({"a3-ultragpu-8g": 8}, flex_start=True, disk="hyperdisk-balanced"),
    "NVIDIA_B200": Accelerator({"a4-highgpu-8g": 8}, flex_start=True, disk="hyperdisk-balanced"),
    "NVIDIA_GB200": Accelerator({"a4x-highgpu-4g": 4}),
    "NVIDIA_RTX_PRO_6000": Accelerator({f"g4-standard-{48 * count}": count for count in (1, 2, 4, 8)}),
    "TPU_V2": Accelerator(),
    "TPU_V3": Accelerator(),
    "TPU_V4_POD": Accelerator(),
    "TPU_V5_LITEPOD": Accelerator(),
}
"""All that the API's AcceleratorType had when this version was made."""

_UNKNOWN = Accelerator()
_BUILT_IN = {
    machine_type: (name, count)
    for name, accelerator in ACCELERATORS.items()
    for machine_type, count in accelerator.machines.items()
}
# Families of machines that have no accelerator built in.
_PLAIN_FAMILIES = ("n1-", "n2-", "n2d-", "e2-", "c2-", "c2d-", "c3-", "m1-")


def flex_start_problem(accelerator: str | None) -> str | None:
    """Return why one cannot queue for machines with this accelerator with Flex Start, as far as it is known."""
    if accelerator is not None and ACCELERATORS.get(accelerator, _UNKNOWN).flex_start:
        return None
    listed = ", ".join(name for name, row in ACCELERATORS.items() if row.flex_start)
    if accelerator is None:
        return f"Flex Start is for machines with one of {listed}"
    return f"Flex Start has no {accelerator}; it has {listed}"


def default_disk_type(machine_type: Any) -> str:
    """Return the type of boot disk that a machine type has by default."""
    name, _ = _BUILT_IN.get(machine_type, ("", 0))
    return ACCELERATORS.get(name, _UNKNOWN).disk


def check_accelerators(machine: Mapping[str, Any], path: str, problems: Problems) -> None:
    """
    Check that a machine type can have the accelerators that are asked for.

    A machine type or an accelerator that this table does not know passes: the service may be newer.

    :param machine: A ``MachineSpec`` with snake-case keys.
    :param path: Where it stands, for the problems' text.
    """
    if None in machine.values():
        return  # what could not be read has been told already
    machine_type = machine.get("machine_type")
    accelerator = machine.get("accelerator_type")
    count = machine.get("accelerator_count")
    asked = None if accelerator is None and count is None else (accelerator, count)
    if machine_type in _BUILT_IN:
        kind, number = _BUILT_IN[machine_type]
        if accelerator is None or count is None:
            fix = f"has accelerator_type {kind!r} and accelerator_count {number}; write both"
            problems.add(f"{path}.machine_type", machine_type, fix)
        elif accelerator != kind:
            problems.add(f"{path}.accelerator_type", accelerator, f"{machine_type} has {kind}")
        elif count != number:
            problems.add(f"{path}.accelerator_count", count, f"{machine_type} has {number}")
        return
    if asked is None:
        return
    if accelerator is None:
        problems.add(f"{path}.accelerator_type", None, "say which accelerator accelerator_count counts")
    elif count is None or count < 1:
        problems.add(f"{path}.accelerator_count", count, f"say how many {accelerator}, 1 or more")
    else:
        _check_attached(machine_type, accelerator, count, path, problems)


def _check_attached(machine_type: Any, accelerator: str, count: int, path: str, problems: Problems) -> None:
    known = ACCELERATORS.get(accelerator, _UNKNOWN)
    if known.machines and str(machine_type).startswith(_PLAIN_FAMILIES):
        fix = f"{accelerator} is built into {', '.join(known.machines)}; use one of them"
        problems.add(f"{path}.machine_type", machine_type, fix)
    if not known.n1_counts:
        return
    if isinstance(machine_type, str) and not machine_type.startswith("n1-"):
        fix = f"{accelerator} goes with a machine of the n1 family, like 'n1-standard-8'"
        problems.add(f"{path}.machine_type", machine_type, fix)
    if count not in known.n1_counts:
        numbers = ", ".join(map(str, known.n1_counts))
        problems.add(f"{path}.accelerator_count", count, f"a machine can have {numbers} {accelerator}")
