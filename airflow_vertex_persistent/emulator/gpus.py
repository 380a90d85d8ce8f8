# SPDX-License-Identifier: Apache-2.0
"""
Which GPUs there are, in which machines, under which quota, and whether Flex Start has them.

The table is the one of Vertex AI's page on configuring compute resources for training. It is the emulator's own:
one shared with the provider would hide a shared mistake. Pure, and quick to import.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True)
class Gpu:
    """
    One row of the table.

    :param quota: how quota metrics call it, e.g. ``nvidia_l4`` in ``custom_model_training_nvidia_l4_gpus``.
    :param machines: how many each machine type has that has it built in.
    :param n1_counts: how many an n1 machine can have.
    :param flex_start: whether Flex Start jobs can have it.
    """

    quota: str
    machines: Mapping[str, int] = field(default_factory=dict)
    n1_counts: tuple[int, ...] = ()
    flex_start: bool = False

    def metric(self, *, preemptible: bool) -> str:
        """
        The quota metric that jobs draw on.

        :param preemptible: for Spot and Flex Start jobs.
        """
        return f"custom_model_training_{'preemptible_' if preemptible else ''}{self.quota}_gpus"


GPUS = {
    "NVIDIA_TESLA_T4": Gpu("nvidia_t4", n1_counts=(1, 2, 4)),
    "NVIDIA_TESLA_V100": Gpu("nvidia_v100", n1_counts=(1, 2, 4, 8)),
    "NVIDIA_TESLA_P100": Gpu("nvidia_p100", n1_counts=(1, 2, 4)),
    "NVIDIA_TESLA_P4": Gpu("nvidia_p4", n1_counts=(1, 2, 4)),
    "NVIDIA_L4": Gpu(
        "nvidia_l4",
        {
            **{f"g2-standard-{n}": 1 for n in (4, 8, 12, 16, 32)},
            "g2-standard-24": 2,
            "g2-standard-48": 4,
            "g2-standard-96": 8,
        },
        flex_start=True,
    ),
    "NVIDIA_TESLA_A100": Gpu(
        "nvidia_a100",
        {**{f"a2-highgpu-{n}g": n for n in (1, 2, 4, 8)}, "a2-megagpu-16g": 16},
        flex_start=True,
    ),
    "NVIDIA_A100_80GB": Gpu(
        "nvidia_a100_80gb", {f"a2-ultragpu-{n}g": n for n in (1, 2, 4, 8)}, flex_start=True
    ),
    "NVIDIA_H100_80GB": Gpu("nvidia_h100", {f"a3-highgpu-{n}g": n for n in (1, 2, 4, 8)}, flex_start=True),
    "NVIDIA_H100_MEGA_80GB": Gpu("nvidia_h100_mega", {"a3-megagpu-8g": 8}, flex_start=True),
    "NVIDIA_H200_141GB": Gpu("nvidia_h200", {"a3-ultragpu-8g": 8}, flex_start=True),
    "NVIDIA_B200": Gpu("nvidia_b200", {"a4-highgpu-8g": 8}, flex_start=True),
    "NVIDIA_GB200": Gpu("nvidia_gb200", {"a4x-highgpu-4g": 4}),
    "NVIDIA_RTX_PRO_6000": Gpu("nvidia_rtx_pro_6000", {f"g4-standard-{48 * n}": n for n in (1, 2, 4, 8)}),
}
"""By the name of the API's AcceleratorType."""

BUILT_IN = {machine: (name, count) for name, gpu in GPUS.items() for machine, count in gpu.machines.items()}
"""Name and number of the GPUs of each machine type that has them built in."""

METRICS = frozenset(gpu.metric(preemptible=choice) for gpu in GPUS.values() for choice in (False, True))
"""All quota metrics."""
