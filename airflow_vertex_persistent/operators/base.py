# SPDX-License-Identifier: Apache-2.0
"""What operators share: the connection, the manner of waiting, and how errors end a task."""

from __future__ import annotations

import time
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator
from airflow.sdk.configuration import conf
from airflow.sdk.definitions.retry_policy import RetryAction
from airflow.sdk.exceptions import AirflowFailException

from airflow_vertex_persistent.call_problems import TRANSIENT_PROBLEMS, CallProblem, call_problem
from airflow_vertex_persistent.endings import capacity_next_step, quota_next_step
from airflow_vertex_persistent.exceptions import (
    CapacityError,
    InvalidRequestError,
    PermissionDeniedError,
    PersistentResourceError,
    QuotaExceededError,
    ServiceUnreachableError,
    VertexTrainingError,
)
from airflow_vertex_persistent.links import NamedLink
from airflow_vertex_persistent.specs.checks import check_region, seconds

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from airflow.sdk import Context

    from airflow_vertex_persistent.hooks.persistent_resource import PersistentResourceHook
    from airflow_vertex_persistent.hooks.training_job import TrainingJobHook
    from airflow_vertex_persistent.names import ResourceName
    from airflow_vertex_persistent.specs.checks import Problems
    from airflow_vertex_persistent.triggers.base import VertexTrigger

    Duration = timedelta | float | str

_WHEN_UNREACHABLE = (
    "look at the service's status; with VERTEX_AI_EMULATOR_HOST set, whether the emulator runs. A retry goes "
    "on with what is there; clearing a training task cancels its job and starts another."
)


class VertexOperator(BaseOperator):
    """
    Connection and place of every operator of this package.

    :param region: Region of the job or resource, for example ``europe-west4``. (templated)
    :param project_id: Google Cloud project. Default: the connection's. (templated)
    :param gcp_conn_id: Airflow connection to Google Cloud. Default: ``google_cloud_default``. (templated)
    :param impersonation_chain: Service account to impersonate, or the chain that leads to it. (templated)
    """

    template_fields: Sequence[str] = ("region", "project_id", "gcp_conn_id", "impersonation_chain")

    def __init__(
        self,
        *,
        region: str,
        project_id: str | None = None,
        gcp_conn_id: str = "google_cloud_default",
        impersonation_chain: str | Sequence[str] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.region = region
        self.project_id = project_id
        self.gcp_conn_id = gcp_conn_id
        self.impersonation_chain = impersonation_chain

    def check_place(self, problems: Problems) -> None:
        """Check where the job or resource is."""
        check_region(self.region, problems)

    def persist_links(self, context: Context, name: ResourceName) -> None:
        """Push the addresses that go with a job or persistent resource: as the service names it, like the result."""
        for link in self.operator_extra_links:
            if isinstance(link, NamedLink):
                link.persist(context, link.address(name))

    @cached_property
    def job_hook(self) -> TrainingJobHook:
        """The hook of this task's connection that asks for jobs."""
        from airflow_vertex_persistent.hooks.training_job import TrainingJobHook

        return TrainingJobHook(self.gcp_conn_id, self.impersonation_chain)

    @cached_property
    def resource_hook(self) -> PersistentResourceHook:
        """The hook of this task's connection that asks for persistent resources."""
        from airflow_vertex_persistent.hooks.persistent_resource import PersistentResourceHook

        return PersistentResourceHook(self.gcp_conn_id, self.impersonation_chain)


class WaitingOperator(VertexOperator):
    """
    Base of the operators that wait for something on Vertex AI.

    :param deferrable: Wait in the triggerer, without a worker slot.
        Default: ``[operators] default_deferrable``.
    :param poll_interval: Seconds between two looks at Vertex AI. Default: 30. (templated)
    :param max_outage: For how long errors that pass by themselves are waited out in a row before the task
        gives up: seconds, ``timedelta`` or text like ``"3600s"``. Default: one hour. (templated)
    :param kwargs: Connection and place, see :class:`~airflow_vertex_persistent.operators.base.VertexOperator`.
    """

    template_fields: Sequence[str] = (*VertexOperator.template_fields, "poll_interval", "max_outage")

    execute_complete: Callable[..., Any]
    """Turns the event of a trigger into the task's result or error; each operator has its own."""

    execute_again: Callable[..., Any]
    """Goes on after a pause in the triggerer, whose event says nothing; each operator that pauses has its own."""

    def __init__(
        self,
        *,
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        poll_interval: float | str = 30.0,
        max_outage: Duration = 3600.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.deferrable = deferrable
        self.poll_interval = poll_interval
        self.max_outage = max_outage

    def watch_arguments(self, problems: Problems) -> dict[str, Any]:
        """Return what every trigger is told; ``problems`` hears of what is wrong."""
        self.check_place(problems)
        return {
            "region": self.region,
            "gcp_conn_id": self.gcp_conn_id,
            "impersonation_chain": self.impersonation_chain,
            "poll_interval": seconds("poll_interval", self.poll_interval, problems),
            "max_outage": seconds("max_outage", self.max_outage, problems),
        }

    def wait_for_event(
        self, trigger: VertexTrigger, context: Context, *, then: str = "execute_complete", **kwargs: Any
    ) -> dict[str, Any]:
        """
        Return the event of a trigger that was waited for here; to wait in the triggerer, leave this process.

        :param then: Name of the method that goes on after the wait in the triggerer, with ``context`` and ``event``.
        :param kwargs: What else it is told.
        """
        if self.deferrable:
            self.defer(trigger=trigger, method_name=then, kwargs=kwargs, timeout=self._time_left(context))
        return dict(trigger.watch_here())

    def pause(self, context: Context, seconds: float, **kwargs: Any) -> None:
        """
        Wait before another look, here; to wait in the triggerer, leave this process.

        :param kwargs: What ``execute_again``, which goes on after the wait in the triggerer, is told besides.
        """
        if self.deferrable:
            # Imported here: a DAG file should not pay for it.
            from airflow.providers.standard.triggers.temporal import TimeDeltaTrigger

            self.defer(
                trigger=TimeDeltaTrigger(timedelta(seconds=seconds)),
                method_name="execute_again",
                kwargs=kwargs,
                timeout=self._time_left(context),
            )
        time.sleep(seconds)

    def _time_left(self, context: Context) -> timedelta | None:
        """Return what is left of ``execution_timeout``, which Airflow does not apply to a deferred task."""
        if self.execution_timeout is None:
            return None
        spent = datetime.now(UTC) - context["ti"].start_date
        return max(self.execution_timeout - spent, timedelta(seconds=1))


# What a task ends with after a call of its own, and the next step. What is missing, the caller knows.
_CALL_ERRORS = {
    **dict.fromkeys(TRANSIENT_PROBLEMS, (ServiceUnreachableError, _WHEN_UNREACHABLE)),
    CallProblem.CAPACITY: (CapacityError, capacity_next_step(None)),
    CallProblem.QUOTA: (QuotaExceededError, quota_next_step(None)),
    CallProblem.DENIED: (VertexTrainingError, "look at the credentials of the task's connection."),
    CallProblem.EXISTS: (PersistentResourceError, "try again once that has passed."),
    CallProblem.NOT_NOW: (PersistentResourceError, "try again once that has passed."),
    CallProblem.REFUSED: (AirflowFailException, "correct what it names."),
}


@contextmanager
def typed_errors(subject: str, *, missing: str | None = None) -> Iterator[None]:
    """
    Turn what a check or a call raises into what a task should end with.

    A request that can never succeed fails the task without retries; for everything else a retry is right.

    :param subject: What the service was asked for, for the message: ``custom job``, ``deletion of ...``.
    :param missing: Next step when the service does not find the persistent resource that the request names.
    """
    try:
        yield
    except InvalidRequestError as error:
        raise AirflowFailException(str(error)) from error
    except Exception as error:
        found = _call_error(error, missing)
        if found is None:
            raise
        kind, next_step = found
        refused = kind is AirflowFailException
        said = f"Vertex AI refused the {subject}" if refused else f"The request for the {subject} failed"
        raise kind(f"{said}: {error}\nNext step: {next_step}") from error


def _call_error(error: Exception, missing: str | None) -> tuple[type[Exception], str] | None:
    """Return what a task should end with, and the next step; ``None``: with the error as it is."""
    problem = call_problem(error)
    if problem is None or isinstance(error, PermissionDeniedError):
        return None
    if problem is CallProblem.MISSING:
        return None if missing is None else (PersistentResourceError, missing)
    return _CALL_ERRORS[problem]


def settled_snapshot(event: Mapping[str, Any]) -> Any:
    """
    Return the snapshot that a trigger ended with.

    :raises ServiceUnreachableError: The service gave no answer for ``max_outage``.
    :raises PermissionDeniedError: The caller lacks a permission.
    :raises VertexTrainingError: The service refused to answer for another reason.
    """
    name, error = event["name"], event["error"]
    if event["status"] == "unreachable":
        raise unreachable_error(f"gave no answer about {name}", error)
    if event["status"] == "denied":
        raise PermissionDeniedError(error)
    if event["status"] == "failed":
        raise no_answer_error(name, error)
    return event["snapshot"]


def unreachable_error(failure: str, error: object) -> ServiceUnreachableError:
    """
    Return the error of a task that has waited out an outage for as long as it may.

    :param failure: What the service has not done, as the end of a sentence that begins with "Vertex AI".
    :param error: What its last answer was.
    """
    return ServiceUnreachableError(
        f"Vertex AI {failure} for max_outage. Last error: {error}\nNext step: {_WHEN_UNREACHABLE}"
    )


def no_answer_error(name: object, error: object) -> VertexTrainingError:
    """Return the error of a watch that has ended since the service refused to tell of the thing."""
    return VertexTrainingError(
        f"Vertex AI refused to answer about {name}: {error}\n"
        "Next step: look whether it still exists, and at the credentials of the task's connection."
    )


def is_last_attempt(task: BaseOperator, context: Context, error: Exception) -> bool:
    """Tell whether nothing comes after ``error``: no tries left, or an error that ends them."""
    ti = context["ti"]
    if isinstance(error, AirflowFailException) or ti.try_number > ti.max_tries:
        return True
    policy = task.retry_policy
    if policy is None:
        return False
    try:
        decision = policy.evaluate(
            exception=error, try_number=ti.try_number, max_tries=ti.max_tries, context=context
        )
    except Exception:
        # As Airflow does: the tries that are left decide.
        task.log.exception("The retry policy failed")
        return False
    return decision.action is RetryAction.FAIL
