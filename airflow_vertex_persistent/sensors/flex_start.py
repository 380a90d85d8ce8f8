# SPDX-License-Identifier: Apache-2.0
"""Wait until the machines of a job have been scheduled."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.sdk import XComArg
from airflow.sdk.definitions.xcom_arg import PlainXComArg
from airflow.triggers.base import StartTriggerArgs

from airflow_vertex_persistent.endings import job_error
from airflow_vertex_persistent.links import TrainingJobLink, TrainingLogsLink
from airflow_vertex_persistent.operators.labels import installation
from airflow_vertex_persistent.result import training_result
from airflow_vertex_persistent.sensors.base import VertexSensor
from airflow_vertex_persistent.specs.checks import Problems
from airflow_vertex_persistent.states import has_started
from airflow_vertex_persistent.triggers.flex_start import JOB_FIELDS, FlexStartTrigger, machines_trigger

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow.sdk import Context

    from airflow_vertex_persistent.names import ResourceName
    from airflow_vertex_persistent.states import JobSnapshot
    from airflow_vertex_persistent.triggers.training_job import TrainingJobTrigger

_PULL = re.compile(r"\bxcom_pull\s*\(")
_MAP_INDEXES = re.compile(r"\bmap_indexes\s*=")


class FlexStartSensor(VertexSensor):
    """
    Wait until a job that queues for GPUs has got them: until it runs, or has run.

    The log tells how long it has queued, and how long it may. The job is left alone, whatever becomes of this task.

    .. seealso:: :doc:`/operators/flex_start_sensor`

    :param job: Full name of the job, or the result of the task that has created it with
        ``wait_for_completion=False``. (templated)
    :param start_from_trigger: Begin in the triggerer, without a worker before the wait; goes with
        ``deferrable=True``. When the job has its machines the task ends there as well, unless it has
        ``outlets``; what else becomes of the job is told by a worker. A mapped task begins on a worker all the same.
    :param kwargs: See :class:`~airflow_vertex_persistent.sensors.base.VertexSensor`; the region is the job's.
    :return: As :class:`~airflow_vertex_persistent.operators.flex_start.FlexStartTrainingOperator`, of the moment.
    :raises MaxWaitExceededError: The job has ended without its machines, at the end of its wait.
    :raises CapacityError: It has ended for lack of machines before that.
    :raises QuotaExceededError: It has ended for lack of quota before that.
    :raises JobCancelledError: It was cancelled while it waited.
    :raises VertexTrainingError: It is not there.
    :raises ServiceUnreachableError: Vertex AI gave no answer for ``max_outage``.
    :raises AirflowFailException: A parameter is wrong.
    :raises ValueError: While the DAG file is read: ``start_from_trigger`` does not go with what else was said.
    """

    subject = "wait for the job's machines"
    template_fields: Sequence[str] = ("job", *VertexSensor.template_fields)
    operator_extra_links = (TrainingJobLink(), TrainingLogsLink())

    def __init__(
        self, *, job: str | Mapping[str, Any] | XComArg, start_from_trigger: bool = False, **kwargs: Any
    ) -> None:
        kwargs.setdefault("multiple_outputs", True)
        super().__init__(region="", **kwargs)
        self.job = job
        self.start_from_trigger = start_from_trigger
        if start_from_trigger:
            self.start_trigger_args = self._start_trigger_args()

    def _start_trigger_args(self) -> StartTriggerArgs:
        """Return what the scheduler needs to begin the wait, as the triggerer can render it."""
        if not self.deferrable:
            raise ValueError(
                "start_from_trigger goes with deferrable=True: write that too, or leave both out"
            )
        # Only a worker notes assets; one also sees to a result that is not handed over in the usual way.
        end_from_trigger = self.do_xcom_push and self.multiple_outputs and not self.outlets
        wanted = {field: getattr(self, field) for field in JOB_FIELDS}
        wanted["job"] = _triggerer_template(self.job)
        for field, value in wanted.items():
            _check_for_triggerer(field, value)
        trigger = FlexStartTrigger(**wanted, installation=installation(), end_from_trigger=end_from_trigger)
        classpath, kwargs = trigger.serialize()
        return StartTriggerArgs(
            trigger_cls=classpath,
            trigger_kwargs=kwargs,
            next_method="execute_complete",
            timeout=timedelta(seconds=self.timeout),
        )

    def resume_execution(self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context) -> Any:
        """Go on after a wait in the triggerer; from the start, as on a worker, if it could not begin there."""
        if next_method == "execute_complete" and (next_kwargs or {}).get("event") is None:
            # Not by way of the other resumptions: they skip what fails here in every mode.
            return self.execute(context)
        return super().resume_execution(next_method, next_kwargs, context)

    def wait_trigger(self) -> TrainingJobTrigger:
        """Return the trigger that waits, its parameters checked."""
        wanted = {field: getattr(self, field) for field in JOB_FIELDS}
        if isinstance(self.job, Mapping):
            wanted["job"] = self.job.get("job")
        return machines_trigger(wanted, installation(), Problems(self.subject))

    def look(self, name: ResourceName) -> JobSnapshot:
        """Return what the job is like now."""
        from airflow_vertex_persistent.hooks.training_job import job_snapshot

        return job_snapshot(self.job_hook.get_job(name, once=True))

    def sensed(self, snapshot: JobSnapshot, details: Mapping[str, Any]) -> dict[str, Any]:
        """Return what the job is like when it has its machines, or raise why it never will."""
        if not has_started(snapshot):
            raise job_error(snapshot, details)
        return training_result(snapshot)


def _triggerer_template(job: Any) -> str:
    """
    Return what the triggerer renders to a job's full name.

    Airflow makes an ``xcom_pull`` without ``map_indexes`` of another task's output, see :func:`_check_for_triggerer`.
    """
    if isinstance(job, Mapping):
        job = job.get("job")
    if isinstance(job, str):
        return job
    if not isinstance(job, PlainXComArg) or job.operator.is_mapped:
        raise ValueError(
            "start_from_trigger: job is a full name, a template of it, or the output of a task that is not mapped"
        )
    map_index = "-1" if job.operator.get_closest_mapped_task_group() is None else "ti.map_index"
    pull = f"ti.xcom_pull(task_ids={job.operator.task_id!r}, key={job.key!r}, map_indexes={map_index})"
    return f"{{% set pulled = {pull} %}}{{{{ pulled['job'] if pulled is mapping else pulled }}}}"


def _check_for_triggerer(field: str, value: Any) -> None:
    """Refuse what pulls all map indexes of a task: the triggerer gets no answer to that, and waits for ever."""
    if isinstance(value, list | tuple):
        for part in value:
            _check_for_triggerer(field, part)
    elif isinstance(value, XComArg) or (
        isinstance(value, str) and len(_PULL.findall(value)) > len(_MAP_INDEXES.findall(value))
    ):
        raise ValueError(
            f"start_from_trigger: {field} = {str(value)!r}: the triggerer cannot render an xcom_pull without "
            f"map_indexes; add map_indexes=-1{', or write job=TASK.output' if field == 'job' else ''}"
        )
