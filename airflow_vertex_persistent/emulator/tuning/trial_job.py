# SPDX-License-Identifier: Apache-2.0
"""The custom job of one trial. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from google.cloud.aiplatform_v1.types import CustomJob, Trial

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from google.cloud.aiplatform_v1.types import HyperparameterTuningJob

    from .space import Value

_NAME_LENGTH = 128


def flags(values: Mapping[str, Value], *, plain: bool) -> list[str]:
    """
    Put parameters as training code gets them: ``--units=256.0``.

    :param plain: put whole numbers without their point: ``--units=256``.
    """
    return [f"--{name}={_text(value, plain=plain)}" for name, value in values.items()]


def _text(value: Value, *, plain: bool) -> str:
    if isinstance(value, str):
        return value
    return str(int(value)) if plain and int(value) == value else repr(float(value))


def trial_created(number: int, values: Mapping[str, Value]) -> Trial:
    """Make a trial that was asked for; values of all kinds of numbers are numbers."""
    parameters = [{"parameter_id": name, "value": value} for name, value in values.items()]
    return Trial(id=str(number), state=Trial.State.REQUESTED, parameters=parameters)


def trial_job(tuning: HyperparameterTuningJob, trial_id: str, args: Iterable[str]) -> CustomJob:
    """
    Make the job that a trial is: the common spec, more args, and a folder of its own for what it writes.

    :param args: come after those of the common spec.
    """
    ending = f"_trial_{trial_id}"
    job = CustomJob(
        display_name=tuning.display_name[: _NAME_LENGTH - len(ending)] + ending,
        job_spec=tuning.trial_job_spec,
        encryption_spec=tuning.encryption_spec,
    )
    spec = CustomJob.pb(job).job_spec
    for pool in spec.worker_pool_specs:
        if pool.replica_count:  # pools that are skipped stay empty
            pool.container_spec.args.extend(args)
    if output := spec.base_output_directory.output_uri_prefix:
        spec.base_output_directory.output_uri_prefix = f"{output.rstrip('/')}/{trial_id}"
    return job
