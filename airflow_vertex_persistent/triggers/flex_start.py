# SPDX-License-Identifier: Apache-2.0
"""Waits for the machines of a job from the beginning of a task on, so that the task needs no worker."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from airflow.triggers.base import BaseEventTrigger, TaskSuccessEvent, TriggerEvent

from airflow_vertex_persistent.exceptions import InvalidRequestError
from airflow_vertex_persistent.names import CUSTOM_JOBS, ResourceName
from airflow_vertex_persistent.result import training_result
from airflow_vertex_persistent.specs.checks import Problems, seconds
from airflow_vertex_persistent.states import has_started
from airflow_vertex_persistent.triggers.handing_over import hand_over, show_job
from airflow_vertex_persistent.triggers.training_job import TrainingJobTrigger

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Hashable, Mapping, Sequence

    import jinja2
    from airflow.sdk import Context

    from airflow_vertex_persistent.triggers.sharing import Look
    from airflow_vertex_persistent.triggers.task_state import TaskInstance
    from airflow_vertex_persistent.triggers.watch import WatchEvent

JOB_FIELDS = ("job", "gcp_conn_id", "impersonation_chain", "poll_interval", "max_outage")
"""What a user says of the wait for a job's machines."""


def machines_trigger(
    wanted: Mapping[str, Any], installation: str | None, problems: Problems
) -> TrainingJobTrigger:
    """
    Return the trigger that waits until a job has its machines.

    :param wanted: A value for each of ``JOB_FIELDS``, rendered.
    :param installation: See :class:`~airflow_vertex_persistent.triggers.training_job.TrainingJobTrigger`.
    :raises InvalidRequestError: Some of them are wrong.
    """
    values = dict(wanted)
    for field in ("poll_interval", "max_outage"):
        values[field] = seconds(field, values[field], problems)
    try:
        kind = ResourceName.parse(str(values["job"])).kind
    except ValueError:
        kind = None
    if kind != CUSTOM_JOBS:
        fix = "write a custom job's full name, like 'projects/my-project/locations/europe-west4/customJobs/1234'"
        problems.add("job", values["job"], fix)
    problems.raise_if_any()
    return TrainingJobTrigger(**values, cancel_on_kill=False, installation=installation, until="started")


class FlexStartTrigger(BaseEventTrigger):
    """
    Waits from the beginning of a task on until a job has its machines; the task has not been on a worker before.

    The triggerer renders the parameters, which are those of the sensor as a DAG file says them. What it cannot
    render, and a value that is wrong, sends the task to a worker, where that is told: the event is ``None``. So does
    a job that will never have its machines; the event is that of
    :class:`~airflow_vertex_persistent.triggers.training_job.TrainingJobTrigger`, whose loop this one shares.

    :param job: Full name of the job, or a template for it.
    :param gcp_conn_id: Connection to use.
    :param impersonation_chain: Service account to impersonate, or the chain that leads to it.
    :param poll_interval: Seconds between two looks.
    :param max_outage: For how long transient errors in a row are waited out.
    :param installation: Value of the label ``airflow_installation`` of the jobs that are read together.
    :param end_from_trigger: Whether the task ends here, with its result, when the job has its machines.
    """

    supports_triggerer_queue = True

    def __init__(
        self,
        *,
        job: str,
        gcp_conn_id: str,
        impersonation_chain: str | Sequence[str] | None,
        poll_interval: Any,
        max_outage: Any,
        installation: str | None,
        end_from_trigger: bool,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.job = job
        self.gcp_conn_id = gcp_conn_id
        self.impersonation_chain = impersonation_chain
        self.poll_interval = poll_interval
        self.max_outage = max_outage
        self.installation = installation
        self.end_from_trigger = end_from_trigger
        self._rendered = True

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the class path and everything that is needed to build this trigger again."""
        cls = type(self)
        fields = (*JOB_FIELDS, "installation", "end_from_trigger")
        return f"{cls.__module__}.{cls.__qualname__}", {field: getattr(self, field) for field in fields}

    def render_template_fields(self, context: Context, jinja_env: jinja2.Environment | None = None) -> None:
        """Render the parameters, or leave that to a worker."""
        try:
            super().render_template_fields(context, jinja_env)
        except Exception as error:  # noqa: BLE001 - a template may raise anything
            self.log.warning("Not rendered here, a worker will: %s", error)
            self._rendered = False

    def watcher(self) -> TrainingJobTrigger | None:
        """Return the trigger that waits; none if a worker has to say what is wrong."""
        if not self._rendered:
            return None
        try:
            wanted = {field: getattr(self, field) for field in JOB_FIELDS}
            return machines_trigger(wanted, self.installation, Problems(""))
        except InvalidRequestError:
            return None

    def shared_stream_key(self) -> Hashable | None:
        """Return what triggers must have in common to share a loop."""
        watcher = self.watcher()
        return None if watcher is None else watcher.shared_stream_key()

    @classmethod
    async def open_shared_stream(cls, kwargs: dict[str, Any]) -> AsyncIterator[Look]:
        """Yield what the loop of all triggers with the same key sees."""
        watcher = cast("TrainingJobTrigger", cls(**kwargs).watcher())
        async for look in watcher.open_shared_stream(watcher.serialize()[1]):
            yield look

    async def filter_shared_stream(self, shared_stream: AsyncIterator[Look]) -> AsyncIterator[TriggerEvent]:
        """Yield the one event, from what the shared loop sees."""
        watcher = cast("TrainingJobTrigger", self.watcher())
        await show_job(cast("TaskInstance", self.task_instance), watcher.name)
        async for event in watcher.filter_shared_stream(shared_stream):
            yield await self._ending(event)

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Yield the one event, from looks of its own, or none if there is nothing to look at."""
        watcher = self.watcher()
        if watcher is None:
            yield TriggerEvent(None)
            return
        await show_job(cast("TaskInstance", self.task_instance), watcher.name)
        async for event in watcher.run():
            yield await self._ending(event)

    async def _ending(self, event: TriggerEvent) -> TriggerEvent:
        """Return the end of the task, if the wait was not in vain; what a worker has to judge as it is."""
        seen: WatchEvent = event.payload
        snapshot: Any = seen["snapshot"]
        if not self.end_from_trigger or seen["status"] != "settled" or not has_started(snapshot):
            return event
        result = training_result(snapshot)
        await hand_over(cast("TaskInstance", self.task_instance), {"return_value": result, **result})
        return TaskSuccessEvent()
