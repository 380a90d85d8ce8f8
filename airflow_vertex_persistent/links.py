# SPDX-License-Identifier: Apache-2.0
"""
Buttons of a task in the Airflow UI.

An operator pushes the address under the link's XCom key before it waits, so that the button works while the
job runs. Airflow also asks a link once more when the task ends, on a fresh operator: what was pushed stays.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING

from airflow.sdk import BaseOperatorLink
from airflow.sdk.exceptions import AirflowRuntimeError

from airflow_vertex_persistent.names import (
    job_console_url,
    job_logs_url,
    persistent_resources_console_url,
)

if TYPE_CHECKING:
    from airflow.sdk import BaseOperator, Context
    from airflow.sdk.types import TaskInstanceKey

    from airflow_vertex_persistent.names import ResourceName


class VertexLink(BaseOperatorLink):
    """A link whose address an operator has pushed."""

    def persist(self, context: Context, url: str) -> None:
        """
        Push the address that the button opens.

        No task fails for its button. A database may refuse one of two pushes of a key that come at once, as when the
        trigger of a task that was cleared has still to say how its race ended: it is tried a second time.
        """
        for is_last in (False, True):
            try:
                context["ti"].xcom_push(key=self.xcom_key, value=url)
            except AirflowRuntimeError as error:
                if is_last:
                    context["task"].log.warning("The button %r has no address: %s", self.name, error)
            else:
                return

    def get_link(self, operator: BaseOperator, *, ti_key: TaskInstanceKey) -> str:
        """Return the address that was pushed, empty if the task did not get that far."""
        from airflow.sdk.execution_time.xcom import XCom

        url = XCom.get_value(ti_key=ti_key, key=self.xcom_key)
        return url if isinstance(url, str) else ""


class NamedLink(VertexLink):
    """A link to a page that is there as soon as the thing of its name is."""

    @abstractmethod
    def address(self, name: ResourceName) -> str:
        """Return the address that goes with a job or persistent resource."""


class TrainingJobLink(NamedLink):
    """Opens the job's page in the console."""

    name = "Vertex AI job"

    def address(self, name: ResourceName) -> str:
        """Return the address of the job's page."""
        return job_console_url(name)


class TrainingLogsLink(NamedLink):
    """Opens the log lines of the job's replicas in the Logs Explorer."""

    name = "Vertex AI logs"

    def address(self, name: ResourceName) -> str:
        """Return the address of the job's log lines."""
        return job_logs_url(name)


class PersistentResourcesLink(NamedLink):
    """Opens the console's list of persistent resources."""

    name = "Persistent resources"

    def address(self, name: ResourceName) -> str:
        """Return the address of the list, in the same project."""
        return persistent_resources_console_url(name.project)


class TuningReportLink(VertexLink):
    """Opens the picture of a search, once it has been written."""

    name = "Tuning report"

    def get_link(self, operator: BaseOperator, *, ti_key: TaskInstanceKey) -> str:
        """Return the address that was pushed, empty without asking if ``save_report`` is ``False``."""
        return super().get_link(operator, ti_key=ti_key) if getattr(operator, "save_report", True) else ""
