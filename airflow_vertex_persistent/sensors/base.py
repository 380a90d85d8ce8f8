# SPDX-License-Identifier: Apache-2.0
"""What the sensors share: the same look and the same end whether they poke, are rescheduled, or are deferred."""

from __future__ import annotations

from abc import abstractmethod
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseSensorOperator, PokeReturnValue
from airflow.sdk.exceptions import AirflowSensorTimeout, AirflowSkipException, AirflowTaskTimeout

from airflow_vertex_persistent.call_problems import call_problem, is_transient
from airflow_vertex_persistent.exceptions import (
    PermissionDeniedError,
    VertexTrainingError,
)
from airflow_vertex_persistent.operators.base import (
    WaitingOperator,
    no_answer_error,
    settled_snapshot,
    typed_errors,
    unreachable_error,
)
from airflow_vertex_persistent.states import duration_text

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow.sdk import Context

    from airflow_vertex_persistent.names import ResourceName
    from airflow_vertex_persistent.triggers.base import VertexTrigger

_STORE_KEY = "vertex_outage"


class VertexSensor(WaitingOperator, BaseSensorOperator):
    """
    Base of the sensors: waits for one thing on Vertex AI with the trigger that also a deferred task waits with.

    :param kwargs: See :class:`~airflow_vertex_persistent.operators.base.WaitingOperator`, whose ``poll_interval``
        takes the place of ``poke_interval`` in every mode; ``mode``, ``timeout``, ``soft_fail`` and the rest of
        Airflow's ``BaseSensorOperator``. ``deferrable=True`` goes before ``mode``.
    """

    subject: str
    """What the sensor is asked to do, for the message of a wrong parameter."""

    @abstractmethod
    def wait_trigger(self) -> VertexTrigger:
        """Return the trigger that waits, its parameters checked."""

    @abstractmethod
    def look(self, name: ResourceName) -> Mapping[str, Any] | None:
        """Return what the thing is like now, with one call; ``None`` if it is not there."""

    @abstractmethod
    def sensed(self, snapshot: Any, details: Mapping[str, Any]) -> dict[str, Any]:
        """
        Return the result when there is nothing more to wait for.

        :param details: What the trigger has found besides.
        :raises VertexTrainingError: What was waited for will not come.
        """

    def execute(self, context: Context) -> Any:
        """Wait in the way that was chosen, and return what the thing is like then."""
        with typed_errors(self.subject):
            trigger = self.wait_trigger()
            self.persist_links(context, trigger.name)
        if self.deferrable:
            return self.execute_complete(context, self.wait_for_event(trigger, context))
        self.poke_interval = trigger.poll_interval
        return super().execute(context)

    def poke(self, context: Context) -> PokeReturnValue:
        """Look once."""
        with typed_errors(self.subject):
            trigger = self.wait_trigger()
            try:
                snapshot = self.look(trigger.name)
            except Exception as error:
                if is_transient(error):
                    self._wait_out(error, trigger, context)
                    return PokeReturnValue(is_done=False)
                if call_problem(error) is None or isinstance(error, PermissionDeniedError):
                    raise
                raise no_answer_error(trigger.name, error) from error
        self._end_outage(context)
        if not trigger.settled(snapshot):
            said = "not there" if snapshot is None else f"{snapshot['state']}{trigger.progress(snapshot)}"
            self.log.info("%s is %s", trigger.name, said)
            return PokeReturnValue(is_done=False)
        return PokeReturnValue(is_done=True, xcom_value=self.sensed(snapshot, {}))

    def execute_complete(self, context: Context, event: dict[str, Any]) -> Any:
        """Return what the thing is like after a wait in the triggerer, or raise why it will not come."""
        try:
            return self.sensed(settled_snapshot(event), event["details"])
        except VertexTrainingError:
            if not self.silent_fail:
                raise
            self.log.exception("Not there, waiting all the same: silent_fail is set")
        return self.pause(context, self.wait_trigger().poll_interval)

    def execute_again(self, context: Context, event: Any = None) -> Any:
        """Begin anew after a pause in the triggerer."""
        return self.execute(context)

    def resume_execution(self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context) -> Any:
        """Go on after a wait in the triggerer; ``never_fail`` skips the task as it does in the other modes."""
        try:
            return super().resume_execution(next_method, next_kwargs, context)
        except AirflowSensorTimeout as error:
            execution_timeout = self.execution_timeout
            if execution_timeout is None or execution_timeout.total_seconds() >= self.timeout:
                raise AirflowSensorTimeout(self._too_long("timeout", self.timeout)) from error
            # As where the worker waits: the next attempt may have more luck.
            limit = execution_timeout.total_seconds()
            raise AirflowTaskTimeout(self._too_long("execution_timeout", limit)) from error
        except VertexTrainingError as error:
            if self.never_fail:
                raise AirflowSkipException("Skipping due to never_fail is set to True.") from error
            raise

    def _time_left(self, context: Context) -> timedelta | None:
        """Return what is left of ``timeout``, or of ``execution_timeout`` if that is less."""
        spent = datetime.now(UTC) - context["ti"].start_date
        left = max(timedelta(seconds=self.timeout) - spent, timedelta(seconds=1))
        of_execution = super()._time_left(context)
        return left if of_execution is None else min(left, of_execution)

    def _too_long(self, limit: str, seconds: float) -> str:
        """Return what to say when a limit has passed in the triggerer, whose own words do not name it."""
        return (
            f"The {self.subject} took longer than {limit}, {duration_text(seconds)}; "
            "the state of the last look is in the log"
        )

    def _wait_out(self, error: Exception, trigger: VertexTrigger, context: Context) -> None:
        """Note that the service gave no answer; the next poke may be that of another process."""
        now, since = datetime.now(UTC), self._outage_since(context)
        if since is None:
            self.log.warning("No answer from Vertex AI, still trying: %s", error)
            outage: Any = {"try_number": context["ti"].try_number, "since": now.isoformat()}
            context["task_state_store"].set(_STORE_KEY, outage)
        elif (now - since).total_seconds() >= trigger.max_outage:
            raise unreachable_error(f"gave no answer about {trigger.name}", error) from error

    def _end_outage(self, context: Context) -> None:
        if self._outage_since(context) is not None:
            context["task_state_store"].delete(_STORE_KEY)
            self.log.info("Vertex AI answers again")

    @staticmethod
    def _outage_since(context: Context) -> datetime | None:
        """Return when this attempt last stopped getting answers; what the one before saw does not count."""
        outage: Any = context["task_state_store"].get(_STORE_KEY)
        if outage is None or outage["try_number"] != context["ti"].try_number:
            return None
        return datetime.fromisoformat(outage["since"])
