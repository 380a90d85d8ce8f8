# SPDX-License-Identifier: Apache-2.0
"""Which machine types carry which accelerators, as data. Source: Vertex AI's "Configure compute resources"."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow_vertex_persistent.specs.checks import Problems

# Machine types whose accelerators are built in: both must be written, and must agree.
_BUILT_IN: dict[str, tuple[str, int]] = {
    **{f"g2-standard-{cpus}": ("NVIDIA_L4", 1) for cpus in (4, 8, 12, 16, 32)},
    "g2-standard-24": ("NVIDIA_L4", 2),
    "g2-standard-48": ("NVIDIA_L4", 4),
    "g2-standard-96": ("NVIDIA_L4", 8),
    **{f"a2-highgpu-{count}g": ("NVIDIA_TESLA_A100", count) for count in (1, 2, 4, 8)},
    "a2-megagpu-16g": ("NVIDIA_TESLA_A100", 16),
    **{f"a2-ultragpu-{count}g": ("NVIDIA_A100_80GB", count) for count in (1, 2, 4, 8)},
    **{f"a3-highgpu-{count}g": ("NVIDIA_H100_80GB", count) for count in (1, 2, 4, 8)},
    "a3-megagpu-8g": ("NVIDIA_H100_MEGA_80GB", 8),
    "a3-ultragpu-8g": ("NVIDIA_H200_141GB", 8),
    "a4-highgpu-8g": ("NVIDIA_B200", 8),
    "a4x-highgpu-4g": ("NVIDIA_GB200", 4),
    "g4-standard-48": ("NVIDIA_RTX_PRO_6000", 1),
    "g4-standard-96": ("NVIDIA_RTX_PRO_6000", 2),
    "g4-standard-192": ("NVIDIA_RTX_PRO_6000", 4),
    "g4-standard-384": ("NVIDIA_RTX_PRO_6000", 8),
}
_BUILT_IN_KINDS = {kind for kind, _ in _BUILT_IN.values()}
# Accelerators for which one can queue with Flex Start. Source: Vertex AI's "Schedule training jobs based on resource
# availability"; the larger H100 machines belong to the family that it names.
_FLEX_START = (
    "NVIDIA_L4",
    "NVIDIA_TESLA_A100",
    "NVIDIA_A100_80GB",
    "NVIDIA_H100_80GB",
    "NVIDIA_H100_MEGA_80GB",
    "NVIDIA_H200_141GB",
    "NVIDIA_B200",
)
# Families of machines that have no accelerator built in.
_PLAIN_FAMILIES = ("n1-", "n2-", "n2d-", "e2-", "c2-", "c2d-", "c3-", "m1-")
# Machine types that boot from another disk than pd-ssd unless told otherwise.
_HYPERDISK = {"a3-ultragpu-8g", "a4-highgpu-8g"}

# Accelerators that are attached to a machine of the n1 family, and in which numbers.
_ATTACHED: dict[str, tuple[int, ...]] = {
    "NVIDIA_TESLA_T4": (1, 2, 4),
    "NVIDIA_TESLA_P4": (1, 2, 4),
    "NVIDIA_TESLA_P100": (1, 2, 4),
    "NVIDIA_TESLA_V100": (1, 2, 4, 8),
}


def flex_start_problem(accelerator: str | None) -> str | None:
    """Return why one cannot queue for machines with this accelerator with Flex Start, as far as it is known."""
    if accelerator in _FLEX_START:
        return None
    if accelerator is None:
        return f"Flex Start is for machines with one of {', '.join(_FLEX_START)}"
    if accelerator in _BUILT_IN_KINDS or accelerator in _ATTACHED:
        return f"Flex Start has no {accelerator}; it has {', '.join(_FLEX_START)}"
    return ""


def default_disk_type(machine_type: Any) -> str:
    """Return the type of boot disk that a machine type has by default."""
    return "hyperdisk-balanced" if machine_type in _HYPERDISK else "pd-ssd"


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
        if asked != (kind, number):
            fix = f"has accelerator_type {kind!r} and accelerator_count {number}; write both"
            problems.add(f"{path}.machine_type", machine_type, fix)
        return
    if asked is None:
        return
    if accelerator is None:
        problems.add(f"{path}.accelerator_type", None, "say which accelerator accelerator_count counts")
    elif count is None or count < 1:
        problems.add(f"{path}.accelerator_count", count, f"say how many {accelerator}, 1 or more")
    elif accelerator in _BUILT_IN_KINDS and str(machine_type).startswith(_PLAIN_FAMILIES):
        machines = [name for name, built_in in _BUILT_IN.items() if built_in[0] == accelerator]
        fix = f"{accelerator} is built into {', '.join(machines)}; use one of them"
        problems.add(f"{path}.machine_type", machine_type, fix)
    elif accelerator in _ATTACHED:
        _check_attached(machine_type, accelerator, count, path, problems)


def _check_attached(machine_type: Any, accelerator: str, count: int, path: str, problems: Problems) -> None:
    if isinstance(machine_type, str) and not machine_type.startswith("n1-"):
        fix = f"{accelerator} goes with a machine of the n1 family, like 'n1-standard-8'"
        problems.add(f"{path}.machine_type", machine_type, fix)
    if count not in _ATTACHED[accelerator]:
        numbers = ", ".join(map(str, _ATTACHED[accelerator]))
        problems.add(f"{path}.accelerator_count", count, f"a machine can have {numbers} {accelerator}")
