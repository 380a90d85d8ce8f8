# SPDX-License-Identifier: Apache-2.0
"""Wait until the machines of a job have been scheduled."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from airflow_vertex_persistent.exceptions import CallProblem, VertexTrainingError, call_problem, job_error
from airflow_vertex_persistent.links import TrainingJobLink, TrainingLogsLink
from airflow_vertex_persistent.names import ResourceName, job_console_url, job_logs_url
from airflow_vertex_persistent.operators.execution import installation
from airflow_vertex_persistent.operators.result import training_result
from airflow_vertex_persistent.sensors.base import VertexSensor
from airflow_vertex_persistent.specs.checks import Problems
from airflow_vertex_persistent.states import has_started
from airflow_vertex_persistent.triggers.training_job import TrainingJobTrigger

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow.sdk import Context, XComArg

    from airflow_vertex_persistent.hooks.training_job import TrainingJobHook
    from airflow_vertex_persistent.states import JobSnapshot


class FlexStartSensor(VertexSensor):
    """
    Wait until a job that queues for GPUs has got them: until it runs, or has run.

    The log tells how long it has queued, and how long it may. The job is left alone, whatever becomes of this task.

    .. seealso:: :doc:`/operators/flex_start_sensor`

    :param job: Full name of the job, or the result of the task that has created it with
        ``wait_for_completion=False``. (templated)
    :param kwargs: See :class:`~airflow_vertex_persistent.sensors.base.VertexSensor`; the region is the job's.
    :return: As :class:`~airflow_vertex_persistent.operators.flex_start.FlexStartTrainingOperator`, of the moment.
    :raises MaxWaitExceededError: The job has ended without its machines, at the end of its wait.
    :raises CapacityError: It has ended for lack of machines before that.
    :raises QuotaExceededError: It has ended for lack of quota before that.
    :raises JobCancelledError: It was cancelled while it waited.
    :raises ServiceUnreachableError: Vertex AI gave no answer for ``max_outage``.
    :raises AirflowFailException: A parameter is wrong.
    """

    subject = "wait for the job's machines"
    template_fields: Sequence[str] = ("job", *VertexSensor.template_fields)
    operator_extra_links = (TrainingJobLink(), TrainingLogsLink())

    def __init__(self, *, job: str | Mapping[str, Any] | XComArg, **kwargs: Any) -> None:
        kwargs.setdefault("multiple_outputs", True)
        super().__init__(region="", **kwargs)
        self.job = job
        self._hook: TrainingJobHook | None = None

    def check_place(self, problems: Problems) -> None:
        """Check nothing: the job's name says where it is."""

    def wait_trigger(self) -> TrainingJobTrigger:
        """Return the trigger that waits, its parameters checked."""
        problems = Problems(self.subject)
        watch = self.watch_arguments(problems)
        job = self.job.get("job") if isinstance(self.job, Mapping) else self.job
        try:
            ResourceName.parse(str(job))
        except ValueError:
            fix = "write a job's full name, like 'projects/my-project/locations/europe-west4/customJobs/1234'"
            problems.add("job", job, fix)
        problems.raise_if_any()
        return TrainingJobTrigger(
            job=str(job),
            cancel_on_kill=False,
            installation=installation(),
            until="started",
            **watch,
        )

    def look(self, name: ResourceName) -> JobSnapshot | None:
        """Return what the job is like now."""
        from airflow_vertex_persistent.hooks.training_job import TrainingJobHook, job_snapshot

        self._hook = self._hook or TrainingJobHook(self.gcp_conn_id, self.impersonation_chain)
        try:
            return job_snapshot(self._hook.get_custom_job(name, once=True))
        except Exception as error:
            if call_problem(error) is CallProblem.MISSING:
                raise VertexTrainingError(
                    f"{name} is not there any more\nNext step: submit it again."
                ) from error
            raise

    def sensed(self, snapshot: JobSnapshot, details: Mapping[str, Any]) -> dict[str, Any]:
        """Return what the job is like when it has its machines, or raise why it never will."""
        if not has_started(snapshot):
            raise job_error(snapshot, details)
        return training_result(snapshot)

    def persist_link(self, context: Context, name: ResourceName) -> None:
        """Push the addresses of the job."""
        TrainingJobLink().persist(context, job_console_url(name))
        TrainingLogsLink().persist(context, job_logs_url(name))
