# SPDX-License-Identifier: Apache-2.0
"""Which errors of a training task are worth another try."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from airflow.sdk import ExceptionRetryPolicy, RetryAction, RetryRule

from airflow_vertex_persistent.exceptions import (
    CapacityError,
    JobInterruptedError,
    PersistentResourceError,
    ServiceUnreachableError,
    VertexTrainingError,
)

if TYPE_CHECKING:
    from collections.abc import Sequence


class TrainingRetryPolicy(ExceptionRetryPolicy):
    """
    Retries what may go well next time, and ends at once what will not.

    Worth another try: no machines, a job that the service lost, a persistent resource that is on its way, a
    service that gave no answer (its job is taken over). Not worth one: training code that failed or ran out of
    time, a job that somebody cancelled, a quota that is used up, a missing permission. Other errors are
    Airflow's to judge. How often is the task's ``retries``.

    .. code-block:: python

        PersistentResourceCustomJobOperator(..., retries=6, retry_policy=TrainingRetryPolicy())

    :param capacity_delay: Pause before machines are asked for again. Default: 10 minutes.
    :param service_delay: Pause after errors of the service. Default: 1 minute.
    :param first: Rules that are asked before these.
    """

    def __init__(
        self,
        *,
        capacity_delay: timedelta = timedelta(minutes=10),
        service_delay: timedelta = timedelta(minutes=1),
        first: Sequence[RetryRule] = (),
    ) -> None:
        super().__init__(
            [
                *first,
                RetryRule(CapacityError, RetryAction.RETRY, capacity_delay, "there were no machines"),
                RetryRule(JobInterruptedError, RetryAction.RETRY, service_delay, "the service lost the job"),
                RetryRule(
                    [PersistentResourceError, ServiceUnreachableError],
                    RetryAction.RETRY,
                    service_delay,
                    "the service was not ready",
                ),
                RetryRule(VertexTrainingError, RetryAction.FAIL, reason="the same would happen again"),
            ]
        )
