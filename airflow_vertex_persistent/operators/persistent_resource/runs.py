# SPDX-License-Identifier: Apache-2.0
"""
Asks Airflow which runs use a persistent resource: those between their setup and their teardown.

What a teardown makes of that is said in ``usage``; jobs and machines are Vertex AI's, in ``jobs``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airflow.sdk.exceptions import AirflowRuntimeError

from airflow_vertex_persistent.exceptions import PersistentResourceError
from airflow_vertex_persistent.names import ResourceName
from airflow_vertex_persistent.operators.persistent_resource.usage import Hold, Usage, holds, missing_tasks
from airflow_vertex_persistent.triggers.task_state import active_runs, has_active_run, task_states

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow_vertex_persistent.specs.sharing import Span


@dataclass(frozen=True)
class SharingRuns:
    """
    The runs that may use a persistent resource besides one teardown's own.

    :param name: The resource.
    :param spans: Between which tasks a run uses it, the DAG of the teardown included.
    :param ti: The teardown's task instance.
    """

    name: ResourceName
    spans: Sequence[Span]
    ti: Any

    def usage(self) -> Usage:
        """
        Ask Airflow.

        :raises PersistentResourceError: It did not answer, or knows no such DAG or task.
        """
        from airflow.sdk.api.client import ServerResponseError  # where no process is in between: dag.test()

        found: list[Hold] = []
        for span in self.spans:
            try:
                found += self._holds(span)
            except (AirflowRuntimeError, ServerResponseError) as error:
                raise PersistentResourceError(
                    f"Airflow did not say which runs of DAG {span.dag_id} use {self.name}: {error}\n"
                    "Next step: if there is no such DAG, correct shared_with; else a retry asks again."
                ) from error
        used_by = {str(hold): None for hold in found if hold.decided}
        undecided = {
            f"{hold}, whose {hold.setup} is {hold.state}": None for hold in found if not hold.decided
        }
        return Usage(tuple(used_by), tuple(undecided))

    def _holds(self, span: Span) -> list[Hold]:
        runs = task_states(span.dag_id, [*span.setups, span.teardown])
        if span.dag_id == self.ti.dag_id and span.teardown == self.ti.task_id:
            runs.pop(self.ti.run_id, None)
        elif (missing := missing_tasks(span, runs)) and has_active_run(span.dag_id):
            raise PersistentResourceError(
                f"No run of DAG {span.dag_id} has a task {' or '.join(missing)}: that does not say whether one uses "
                f"{self.name}\nNext step: correct shared_with; a task in a task group has the group's id and a dot "
                "before its own."
            )
        found = list(holds(span, runs))
        active = active_runs(span.dag_id, sorted({hold.run_id for hold in found}))
        return [hold for hold in found if hold.run_id in active and self._may_be_here(hold)]

    def _may_be_here(self, hold: Hold) -> bool:
        """Tell whether a run's setup is about this resource: others may have rendered to another region or id."""
        if not hold.decided:
            return True
        result = self.ti.xcom_pull(hold.setup, hold.dag_id, run_id=hold.run_id, map_indexes=hold.map_index)
        try:
            return ResourceName.parse(result["persistent_resource"]).identity == self.name.identity
        except (KeyError, TypeError, ValueError):
            return True  # it is not one of our operators that has set it up
