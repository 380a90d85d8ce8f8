# SPDX-License-Identifier: Apache-2.0
"""What a test on the stage trains, and where its task waits for that: the last words of the name of its DAG."""

from __future__ import annotations

import pytest

WAYS = ("blocking", "deferrable")
TUNING = "tuning"


def modes(*ways: str, tuning: str) -> pytest.MarkDecorator:
    """
    Let a test run for custom jobs in each way to wait, and for tuning jobs too.

    :param ways: Where tasks wait: ``blocking``, on their worker, and ``deferrable``, in the triggerer.
    :param tuning: Where the task of a tuning job waits whenever the tests run; the other ways take a soak run.
    """
    others = [pytest.param(f"{TUNING}_{way}", marks=pytest.mark.soak) for way in ways if way != tuning]
    return pytest.mark.parametrize("mode", [*ways, f"{TUNING}_{tuning}", *others])
