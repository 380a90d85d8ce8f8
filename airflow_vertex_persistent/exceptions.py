# SPDX-License-Identifier: Apache-2.0
"""
The errors of this package.

.. code-block:: text

    VertexTrainingError
      JobFailedError            the training code failed
        JobTimedOutError        ran longer than max_run_duration
      JobInterruptedError       the service lost its machines
      JobCancelledError         someone or something else cancelled it
      CapacityError             no machines: worth another try
        MaxWaitExceededError    there were none for max_wait_duration
      QuotaExceededError        the project's limit, not the region's stock
      PersistentResourceError   the resource is in ERROR, or gone
      PermissionDeniedError     the caller lacks a permission
      ServiceUnreachableError   no answer for max_outage; the job is left alone
    ValueError
      InvalidRequestError       a wrong request; operators raise it without retries
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


class VertexTrainingError(Exception):
    """Base of everything that can go wrong once a request was good."""


class JobFailedError(VertexTrainingError):
    """The training code failed."""


class JobTimedOutError(JobFailedError):
    """The job ran longer than its ``max_run_duration``."""


class JobInterruptedError(VertexTrainingError):
    """The service could not go on with the job, through no fault of the training code: worth another try."""


class JobCancelledError(VertexTrainingError):
    """The job was cancelled by someone or something else than its task."""


class CapacityError(VertexTrainingError):
    """There were no machines for the job or the persistent resource: worth another try."""


class MaxWaitExceededError(CapacityError):
    """Flex Start, a busy persistent resource, or its creation did not get machines in time."""


class QuotaExceededError(VertexTrainingError):
    """The project's own limit was reached, whatever the region has in stock."""


class PersistentResourceError(VertexTrainingError):
    """The persistent resource is in ERROR, or gone."""


class PermissionDeniedError(VertexTrainingError):
    """The account that calls lacks a permission. The message names it, a role that has it, and the account."""


class ServiceUnreachableError(VertexTrainingError):
    """
    The service gave no answer: for ``max_outage`` while a job was created or a job or resource was watched,
    else for a minute.

    What was there was left alone, unless it was the task's last attempt.
    """


class InvalidRequestError(ValueError):
    """
    A request that the service would refuse, or do something else with than was meant.

    :param subject: What was asked for, for example ``"custom job"``.
    :param problems: One line each: field, value, fix.
    """

    def __init__(self, subject: str, problems: Sequence[str]) -> None:
        count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
        lines = "".join(f"\n  - {problem}" for problem in problems)
        super().__init__(f"The {subject} is not possible like this, {count}:{lines}")
        self.problems = tuple(problems)
