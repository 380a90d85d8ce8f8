# SPDX-License-Identifier: Apache-2.0
"""How many failed trials end a tuning job. Pure."""

from __future__ import annotations


def is_too_much(failed: int, succeeded: int, limit: int) -> bool:
    """
    Tell whether a tuning job ends with the trial that has just failed.

    :param failed: infeasible trials, with that one.
    :param succeeded: trials that have succeeded.
    :param limit: how many infeasible trials end the job, its ``max_failed_trial_count``. 0 leaves it to the service,
        which has been seen to give up when a trial fails before any has succeeded.
    """
    return failed >= limit if limit else succeeded == 0
