# SPDX-License-Identifier: Apache-2.0
"""What all operators share: the connection, the manner of waiting, and how errors end a task."""

from __future__ import annotations

from abc import abstractmethod
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator
from airflow.sdk.configuration import conf
from airflow.sdk.exceptions import AirflowFailException

from airflow_vertex_persistent.exceptions import (
    CallProblem,
    InvalidRequestError,
    PersistentResourceError,
    QuotaExceededError,
    ServiceUnreachableError,
    VertexTrainingError,
    call_problem,
)
from airflow_vertex_persistent.specs.checks import check_region, seconds

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import timedelta

    from airflow.sdk import Context

    from airflow_vertex_persistent.specs.checks import Problems
    from airflow_vertex_persistent.triggers.base import VertexTrigger

    Duration = timedelta | float | str


class VertexOperator(BaseOperator):
    """
    Connection, place and manner of waiting of every operator of this package.

    :param region: Region of the job or resource, for example ``europe-west4``. (templated)
    :param project_id: Google Cloud project. Default: the connection's. (templated)
    :param gcp_conn_id: Airflow connection to Google Cloud. (templated)
    :param impersonation_chain: Service account to impersonate, or the chain that leads to it. (templated)
    :param deferrable: Wait in the triggerer, without a worker slot.
        Default: ``[operators] default_deferrable``.
    :param poll_interval: Seconds between two looks at Vertex AI. (templated)
    :param max_outage: For how long errors that pass by themselves are waited out in a row before the task
        gives up: seconds, ``timedelta`` or text like ``"3600s"``. (templated)
    """

    template_fields: Sequence[str] = (
        "region",
        "project_id",
        "gcp_conn_id",
        "impersonation_chain",
        "poll_interval",
        "max_outage",
    )

    def __init__(
        self,
        *,
        region: str,
        project_id: str | None = None,
        gcp_conn_id: str = "google_cloud_default",
        impersonation_chain: str | Sequence[str] | None = None,
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        poll_interval: float | str = 30.0,
        max_outage: Duration = 3600.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.region = region
        self.project_id = project_id
        self.gcp_conn_id = gcp_conn_id
        self.impersonation_chain = impersonation_chain
        self.deferrable = deferrable
        self.poll_interval = poll_interval
        self.max_outage = max_outage

    def watch_arguments(self, problems: Problems) -> dict[str, Any]:
        """Return what every trigger is told; ``problems`` hears of what is wrong."""
        check_region(self.region, problems)
        return {
            "region": self.region,
            "gcp_conn_id": self.gcp_conn_id,
            "impersonation_chain": self.impersonation_chain,
            "poll_interval": seconds("poll_interval", self.poll_interval, problems),
            "max_outage": seconds("max_outage", self.max_outage, problems),
        }

    def await_event(self, trigger: VertexTrigger, context: Context) -> Any:
        """Wait for a trigger, in the triggerer or here, and go on in ``execute_complete``."""
        if self.deferrable:
            self.defer(trigger=trigger, method_name="execute_complete")
        return self.execute_complete(context, dict(trigger.watch_here()))

    @abstractmethod
    def execute_complete(self, context: Context, event: dict[str, Any]) -> Any:
        """Turn the event of a trigger into the task's result or error."""


@contextmanager
def typed_errors(subject: str, *, missing: str | None = None) -> Iterator[None]:
    """
    Turn what a check or a call raises into what a task should end with.

    A request that can never succeed fails the task without retries; for everything else a retry is right.

    :param subject: What the service was asked for, for the message.
    :param missing: Next step when the service does not find the persistent resource that the request names.
    """
    try:
        yield
    except InvalidRequestError as error:
        raise AirflowFailException(str(error)) from error
    except Exception as error:
        match call_problem(error):
            case CallProblem.TRANSIENT:
                raise ServiceUnreachableError(
                    f"Vertex AI gave no answer to the request for a {subject}, which may have been carried out "
                    f"all the same: {error}\nNext step: look at the service's status, then clear the task."
                ) from error
            case CallProblem.QUOTA:
                raise QuotaExceededError(f"No {subject}: {error}") from error
            case CallProblem.MISSING if missing:
                raise PersistentResourceError(f"No {subject}: {error}\nNext step: {missing}") from error
            case CallProblem.REFUSED:
                raise AirflowFailException(f"Vertex AI refused the {subject}: {error}") from error
            case _:
                raise


def settled_snapshot(subject: str, event: dict[str, Any]) -> Any:
    """
    Return the snapshot that a trigger ended with.

    :raises ServiceUnreachableError: The service gave no answer for ``max_outage``.
    :raises VertexTrainingError: The service refused to tell.
    """
    if event["status"] == "unreachable":
        raise ServiceUnreachableError(
            f"Vertex AI gave no answer about {subject} for max_outage; it was left alone. Last error: "
            f"{event['error']}\nNext step: look at the service's status, then clear the task."
        )
    if event["status"] == "failed":
        raise VertexTrainingError(f"Vertex AI would not tell about {subject}: {event['error']}")
    return event["snapshot"]
