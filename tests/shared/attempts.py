# SPDX-License-Identifier: Apache-2.0
"""What happens between two attempts of a task."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable


def before_retry(action: Callable[[], object]) -> Callable[[Any], None]:
    """Do something when the second attempt begins, before anything of the operator runs."""

    def run(context: Any) -> None:
        if context["ti"].try_number == 2:
            action()

    return run
