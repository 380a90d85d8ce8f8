# SPDX-License-Identifier: Apache-2.0
"""
Operators whose own process is killed, with SIGKILL, at one step of their first attempt.

Those of one job come without the kind of job: :func:`mortal_operator` adds that.
"""

from __future__ import annotations

import os
import signal
import types
from typing import TYPE_CHECKING, Any, cast

from airflow_vertex_persistent.operators.flex_start import FlexStartTrainingOperator
from airflow_vertex_persistent.operators.training.base import TrainingOperator
from airflow_vertex_persistent.triggers.training_job import TrainingJobTrigger

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow.sdk import Context

    from airflow_vertex_persistent.triggers.base import VertexTrigger


def die() -> None:
    """End this process without a chance to do anything."""
    os.kill(os.getpid(), signal.SIGKILL)


class MortalStore:
    """
    Airflow's task state store, in which the process dies where the name of a job is kept.

    :param store: The real one.
    :param number: Which one of the names that the task keeps, from 1.
    :param kept: Whether the name is kept before the process dies.
    """

    def __init__(self, store: Any, number: int, *, kept: bool) -> None:
        self._store = store
        self._number = number
        self._kept = kept

    def get(self, key: str) -> Any:
        """Read."""
        return self._store.get(key)

    def set(self, key: str, value: Mapping[str, Any]) -> None:
        """Write, or die."""
        names = [name for name in (value.get("job"), *value.get("racing", ())) if name is not None]
        if len(names) < self._number:
            self._store.set(key, value)
            return
        if self._kept:
            self._store.set(key, value)
        die()


def mortal(context: Context, number: int, *, kept: bool) -> Context:
    """Return the context of an attempt, the first of which dies where it keeps the name of a job."""
    if context["ti"].try_number > 1:
        return context
    store = MortalStore(context["task_state_store"], number, kept=kept)
    return cast("Context", {**context, "task_state_store": store})


def mortal_operator(
    death: type[TrainingOperator], operator: type[TrainingOperator]
) -> type[TrainingOperator]:
    """Return an operator that dies in one of the ways below."""
    name = f"{death.__name__}{operator.__name__}"
    return types.new_class(name, (death, operator), exec_body=lambda body: body.update(__module__=__name__))


class DiesAtItsJobsName(TrainingOperator):
    """
    Dies once its job is created.

    :param kept: Whether the task state store knows the job's name then; otherwise only the job's label tells.
    """

    def __init__(self, *, kept: bool, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.kept = kept

    def execute(self, context: Context) -> Any:
        """Find or create the job."""
        return super().execute(mortal(context, 1, kept=self.kept))


class DiesAmongItsJobs(FlexStartTrainingOperator):
    """
    Dies once some of its racing jobs are created.

    :param number: How many.
    :param kept: Whether the task state store knows the last one's name then.
    """

    def __init__(self, *, number: int, kept: bool, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.number = number
        self.kept = kept

    def execute(self, context: Context) -> Any:
        """Find or create the jobs."""
        return super().execute(mortal(context, self.number, kept=self.kept))


class DiesBeforeItWaits(TrainingOperator):
    """Dies when the link to its job is there, and nothing waits yet."""

    def wait_for_event(self, trigger: VertexTrigger, context: Context, **kwargs: Any) -> dict[str, Any]:
        """Wait for the end."""
        if context["ti"].try_number == 1:
            die()
        return super().wait_for_event(trigger, context, **kwargs)


class DiesBeforeItGoesOn(TrainingOperator):
    """Dies when the triggerer has told of the end, before anything is made of that."""

    def resume_execution(self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context) -> Any:
        """Go on after the wait."""
        if context["ti"].try_number == 1:
            die()
        return super().resume_execution(next_method, next_kwargs, context)


class DiesBeforeItReports(TrainingOperator):
    """Dies when it has its result, before Airflow has it."""

    def post_execute(self, context: Any, result: Any = None) -> None:
        """Do nothing more."""
        if context["ti"].try_number == 1:
            die()


class LosesItsTriggerer(TrainingOperator):
    """Waits with a :class:`MortalTrigger`."""

    def wait_for_event(self, trigger: VertexTrigger, context: Context, **kwargs: Any) -> dict[str, Any]:
        """Wait for the end."""
        return super().wait_for_event(MortalTrigger(**trigger.serialize()[1]), context, **kwargs)


class MortalTrigger(TrainingJobTrigger):
    """Kills its triggerer when it has seen the end of its job and has told nobody; only the first time."""

    async def details(self, hook: Any, snapshot: Mapping[str, Any] | None) -> dict[str, Any]:
        """Do what the trigger does last before its event."""
        try:
            os.close(os.open(f"{os.environ['STAGE_DONE']}/{self.name.id}.seen", os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            return await super().details(hook, snapshot)
        # Triggers run in a child of the process that talks to the database.
        os.kill(os.getppid(), signal.SIGKILL)
        die()
        return {}
