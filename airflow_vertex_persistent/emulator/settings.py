# SPDX-License-Identifier: Apache-2.0
"""What the emulator decides where Vertex AI's documentation says nothing, and how fast its world turns."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, Literal

from .gpus import GPUS, METRICS
from .stock import check_where
from .timetable import parse_stock

if TYPE_CHECKING:
    from collections.abc import Mapping

STOCKOUT = (
    "Resources are insufficient in region: {region}. Try a different region or use a different accelerator."
)
CLUSTER_ERROR = "An internal error occurred on your cluster. Please try recreating one in a few minutes."
QUOTA_LIMITS = "The following quota metrics exceed quota limits: {metrics}"


def _setting(default: Any, text: str, *choices: str) -> Any:
    """Declare a setting; its text is the command line's help and the documentation's table."""
    return field(default=default, metadata={"text": text, "choices": choices})


def _mapping(option: str, form: str, text: str) -> Any:
    """Declare a setting of several values, each of which is an option of the command line."""
    return field(default_factory=dict, metadata={"text": text, "option": option, "form": form})


@dataclass(frozen=True, kw_only=True)
class EmulatorSettings:
    """
    How the emulated service behaves. Times are seconds, short by default so that tests are quick.

    ``EmulatorSettings(provisioning_seconds=3)``, or ``vertex-emulator start --provisioning-seconds 3``.

    :raises ValueError: for a negative number, an unknown choice, and stock or quota that make no sense.
    """

    executor: Literal["process", "simulate"] = _setting(
        "process",
        "process = replicas are run as local processes, simulate = they are not run, any image will do; "
        "they take their time and exit",
        "process",
        "simulate",
    )
    simulated_seconds: float = _setting(
        1.0,
        "a simulated replica runs this long, unless its container has the variable EMULATOR_RUN_SECONDS; "
        "it exits with 0, or with EMULATOR_EXIT_CODE",
    )
    provisioning_seconds: float = _setting(0.2, "an on-demand job waits this long for its machines (PENDING)")
    warm_start_seconds: float = _setting(
        0.05, "a job on free machines of a persistent resource waits this long"
    )
    resource_provisioning_seconds: float = _setting(
        0.2, "a new persistent resource is PROVISIONING this long"
    )
    resource_teardown_seconds: float = _setting(0.2, "a deleted persistent resource is STOPPING this long")
    resource_reboot_seconds: float = _setting(0.2, "a reboot takes this long (REBOOTING)")
    resource_update_seconds: float = _setting(0.1, "a change of replica counts takes this long (UPDATING)")
    name_blocked_seconds: float = _setting(
        0.0, "the id of a persistent resource stays taken this long after it is gone"
    )
    scale_up_seconds: float = _setting(0.1, "an autoscaled pool needs this long to add machines")
    scale_down_seconds: float = _setting(1.0, "an autoscaled pool gives idle machines back after this long")
    scale_up_stockout: bool = _setting(
        False, "there are no machines for autoscaled pools to grow: jobs wait for those that the pools have"
    )
    busy_policy: Literal["queue", "fail", "reject"] = _setting(
        "queue",
        "a job that fits its persistent resource but finds it busy: queue = PENDING until machines are free, "
        "fail = FAILED with RESOURCE_EXHAUSTED, reject = the create call is refused",
        "queue",
        "fail",
        "reject",
    )
    stockout_retries: int = _setting(
        3,
        "a STANDARD job that finds no machines looks for them again this often, each time after "
        "provisioning_seconds, and is FAILED then",
    )
    spot_restarts: int = _setting(
        6, "a SPOT job that finds no machines or is preempted is tried again this often, and is FAILED then"
    )
    flex_start_wait_state: Literal["pending", "queued"] = _setting(
        "pending", "state of a FLEX_START job that waits for machines", "pending", "queued"
    )
    flex_start_expiry: Literal["failed", "cancelled", "expired"] = _setting(
        "failed",
        "how a FLEX_START job ends that has waited longer than its max_wait_duration",
        "failed",
        "cancelled",
        "expired",
    )
    max_retries: int = _setting(3, "a job whose replica dies of SIGABRT or SIGSEGV is run again this often")
    retry_delay_seconds: float = _setting(0.05, "pause before a job is run again")
    stop_grace_seconds: float = _setting(2.0, "replicas get this long between SIGTERM and SIGKILL")
    timeout_state: Literal["cancelled", "failed"] = _setting(
        "cancelled", "how a job ends that ran longer than its scheduling.timeout", "cancelled", "failed"
    )
    cancel_finished: Literal["ignore", "refuse"] = _setting(
        "ignore",
        "cancelling a finished job: ignore = no effect, refuse = FAILED_PRECONDITION",
        "ignore",
        "refuse",
    )
    error_delay_seconds: float = _setting(0.0, "error of a failed job is filled this long after its state")
    list_lag_seconds: float = _setting(
        0.0, "lists of jobs do not show what was created in the last so many seconds"
    )
    submissions_per_minute: int = _setting(
        0, "jobs created and deleted in a sliding minute; more are refused as too many, 0 = no limit"
    )
    tuning_seed: int = _setting(
        0,
        "what is tried next is chosen with this seed: the same results of trials lead to the same parameters",
    )
    trial_numbers: Literal["float", "plain"] = _setting(
        "float",
        "how trials are given whole numbers: float = --units=256.0, plain = --units=256",
        "float",
        "plain",
    )
    measurement_seconds: float = _setting(0.1, "the metrics of running trials are read this often")
    full_create_response: bool = _setting(
        False, "create operations of persistent resources answer the whole resource, not just its name"
    )
    allow_plain_update: bool = _setting(
        False, "persistent resources without Ray accept new replica counts (the real service refuses)"
    )
    list_hides_provisioning: bool = _setting(
        False, "ListPersistentResources leaves out resources that are PROVISIONING"
    )
    resource_errors: Mapping[str, str] = _mapping(
        "--resource-error",
        "ID=TEXT",
        "creating a persistent resource with this id ends in ERROR with this text ({region} is filled in)",
    )
    stock: Mapping[str, str | int] = _mapping(
        "--stock",
        "REGION/MACHINE_TYPE=STOCK",
        "machines outside persistent resources: 8, never, unlimited, "
        "'0, then 8 after 20 s, then 0 after 1 min, then 8 at 02:00' (UTC), or "
        "'random seed=1 free=300 taken=900 machines=8' (mean seconds); region and machine type may be *",
    )
    quota: Mapping[str, int] = _mapping(
        "--quota",
        "REGION/METRIC=N",
        "GPUs of this quota metric, e.g. custom_model_training_preemptible_nvidia_h100_gpus, that each project may "
        "use in this region, which may be *",
    )

    def __post_init__(self) -> None:
        """Refuse what would only show later as a strange emulator."""
        for setting in fields(self):
            value = getattr(self, setting.name)
            if isinstance(value, int | float) and value < 0:
                raise ValueError(f"{setting.name}={value!r}: use 0 or more")
            choices = setting.metadata.get("choices")
            if choices and value not in choices:
                raise ValueError(f"{setting.name}={value!r}: use one of {', '.join(choices)}")
        for where, stock in self.stock.items():
            check_where(where)
            parse_stock(str(stock))
        for name, limit in self.quota.items():
            region, _, metric = name.rpartition("/")
            if metric not in METRICS:
                raise ValueError(f"quota {name!r}: no metric {metric!r}; {_metrics_like(metric)}")
            if not region:
                raise ValueError(f"quota {name!r} is not of the form REGION/METRIC; the region may be *")
            if limit < 0:
                raise ValueError(f"quota {name}={limit}: use 0 or more")


def _metrics_like(metric: str) -> str:
    """Which metrics may be meant, and which there are."""
    close = get_close_matches(metric, sorted(METRICS), n=3)
    guess = f"did you mean {' or '.join(close)}? " if close else ""
    gpus = ", ".join(gpu.quota for gpu in GPUS.values())
    return (
        f"{guess}Metrics are custom_model_training_GPU_gpus, and custom_model_training_preemptible_GPU_gpus for Spot "
        f"and Flex Start, where GPU is one of {gpus}"
    )
