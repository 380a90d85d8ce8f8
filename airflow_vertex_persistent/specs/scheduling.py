# SPDX-License-Identifier: Apache-2.0
"""How a job gets machines of its own, at once, preemptible or from the queue of Flex Start, and how it does not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_vertex_persistent.specs.checks import Problems, choice
from airflow_vertex_persistent.specs.machines import ACCELERATORS, flex_start_problem
from airflow_vertex_persistent.specs.messages import comparable
from airflow_vertex_persistent.states import FLEX_START, STANDARD

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

STRATEGIES = ("flex_start", "spot", "standard")
_LONGEST_RUN = 7 * 24 * 3600.0


def read_strategy(value: Any, problems: Problems) -> str:
    """Return the API's name of a strategy that is written as one of :data:`STRATEGIES`, or in capitals."""
    return choice(
        "strategy", value.lower() if isinstance(value, str) else value, STRATEGIES, problems
    ).upper()


def check_own_machines(
    job_spec: Mapping[str, Any],
    problems: Problems,
    *,
    rename: Callable[[str], str] = str,
    allow_unlisted_accelerators: bool = False,
) -> list[str]:
    """
    Check a job that is to get machines of its own by a strategy, and return what is worth a warning.

    :param job_spec: A ``CustomJobSpec`` as :func:`~airflow_vertex_persistent.specs.custom_job.custom_job` returns it.
    :param problems: Hears of everything that the service would refuse.
    :param rename: Returns the parameter that a field comes from.
    :param allow_unlisted_accelerators: Whether an accelerator that Flex Start does not have, as far as this package
        knows, is worth a warning only.
    """
    found, warnings = Problems(problems.subject), []
    scheduling = job_spec.get("scheduling") or {}
    pools = [
        (f"worker_pool_specs[{index}].machine_spec", pool["machine_spec"])
        for index, pool in enumerate(job_spec.get("worker_pool_specs") or [])
        if pool.get("machine_spec")
    ]
    if "persistent_resource_id" in job_spec:
        fix = "leave it out, or use PersistentResourceCustomJobOperator"
        found.add("persistent_resource_id", job_spec["persistent_resource_id"], fix)
    if scheduling.get("strategy") == FLEX_START:
        warnings = _check_accelerators(pools, found, allowed=allow_unlisted_accelerators)
        _check_one_configuration(pools, found)
        _check_run_duration(scheduling, found)
        _check_reservations(pools, found)
    problems.absorb(found, rename)
    return warnings


def check_warm_machines(
    job_spec: Mapping[str, Any],
    problems: Problems,
    *,
    instead: str = "use FlexStartTrainingOperator",
    strategy_field: str = "scheduling.strategy",
) -> None:
    """
    Check what a job that is to run on a persistent resource cannot have: its machines are there already.

    :param instead: What to do to have other machines.
    :param strategy_field: Where the strategy was written.
    """
    strategy = (job_spec.get("scheduling") or {}).get("strategy")
    if strategy not in {None, "STRATEGY_UNSPECIFIED", "ON_DEMAND", STANDARD}:
        fix = f"leave it out, or {instead}: a persistent resource has its machines"
        problems.add(strategy_field, strategy, fix)
    for index, pool in enumerate(job_spec.get("worker_pool_specs") or []):
        if (pool.get("machine_spec") or {}).get("reservation_affinity"):
            path = f"worker_pool_specs[{index}].machine_spec.reservation_affinity"
            problems.add_hidden(path, "leave it out: reservations do not go with a persistent resource")


def _check_accelerators(
    pools: list[tuple[str, Mapping[str, Any]]], problems: Problems, *, allowed: bool
) -> list[str]:
    warnings = []
    for path, machine in pools:
        accelerator = machine.get("accelerator_type")
        problem = flex_start_problem(accelerator)
        if problem is None or not machine.get("machine_type"):
            continue
        if accelerator is not None and (allowed or accelerator not in ACCELERATORS):
            warnings.append(f"Whether Flex Start has {accelerator} is not known here: the service will tell")
        elif accelerator is None:
            problems.add(f"{path}.accelerator_type", accelerator, problem)
        else:
            fix = f"{problem}. If that has changed, set allow_unlisted_accelerators=True"
            problems.add(f"{path}.accelerator_type", accelerator, fix)
    return list(dict.fromkeys(warnings))


def _check_one_configuration(pools: list[tuple[str, Mapping[str, Any]]], problems: Problems) -> None:
    for path, machine in pools[1:]:
        first_path, first = pools[0]
        if comparable(machine) != comparable(first):
            fix = f"must be the same as {first_path}: Flex Start hands out machines of one configuration"
            problems.add_hidden(path, fix)


def _check_reservations(pools: list[tuple[str, Mapping[str, Any]]], problems: Problems) -> None:
    for path, machine in pools:
        affinity = machine.get("reservation_affinity") or {}
        if affinity and affinity.get("reservation_affinity_type") != "NO_RESERVATION":
            fix = "leave it out, or write NO_RESERVATION: Flex Start uses none"
            problems.add_hidden(f"{path}.reservation_affinity", fix)


def _check_run_duration(scheduling: Mapping[str, Any], problems: Problems) -> None:
    timeout = scheduling.get("timeout")
    if timeout is not None and float(timeout.removesuffix("s")) > _LONGEST_RUN:
        problems.add("max_run_duration", timeout, "at most 7 days are allowed with Flex Start")
