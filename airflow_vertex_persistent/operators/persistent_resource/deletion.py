# SPDX-License-Identifier: Apache-2.0
"""Delete a persistent resource that nobody uses any more, and wait until it is really gone."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal

from airflow_vertex_persistent.call_problems import call_problem
from airflow_vertex_persistent.exceptions import PersistentResourceError
from airflow_vertex_persistent.operators.base import settled_snapshot, typed_errors
from airflow_vertex_persistent.operators.persistent_resource.base import (
    DELETE_AGAIN,
    WaitingResourceOperator,
)
from airflow_vertex_persistent.operators.persistent_resource.jobs import active_jobs
from airflow_vertex_persistent.operators.persistent_resource.runs import SharingRuns
from airflow_vertex_persistent.operators.persistent_resource.usage import Next, Usage, machine_usage
from airflow_vertex_persistent.specs.checks import Problems, check_persistent_resource_id, choice, seconds
from airflow_vertex_persistent.specs.sharing import Span, sharing_spans
from airflow_vertex_persistent.states import (
    ResourcePhase,
    machines_in_use,
    resource_phase,
    seconds_between,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from airflow.sdk import Context

    from airflow_vertex_persistent.names import ResourceName
    from airflow_vertex_persistent.operators.base import Duration
    from airflow_vertex_persistent.states import ResourceSnapshot


@dataclass(frozen=True)
class _Look:
    """
    Where one look at the resource has led to. Without ``until`` and ``again`` all is done.

    :param until: The resource is to be watched, until it is that.
    :param create_time: When the resource was created that is to be gone, RFC 3339.
    :param again: Why to look again after a pause.
    :param used_by: Why the resource is left alone.
    :param unexplained_since: Since when machines are in use without a job, RFC 3339.
    """

    until: Literal["ready", "gone"] | None = None
    create_time: str | None = None
    again: Sequence[str] = ()
    used_by: Sequence[str] = ()
    unexplained_since: str | None = None


_SUBJECT = "deletion of the persistent resource"
_WHEN_IN_USE = ("leave", "wait", "delete")


class DeletePersistentResourceOperator(WaitingResourceOperator):
    """
    Delete a persistent resource unless somebody uses it, and wait until it is really gone.

    Made to be a teardown task that several runs, or several DAGs, have for one resource: the last one out
    deletes it. A run uses the resource from the success of its setup to the start of its teardown, with or
    without a job. So does any other job on its machines. A setup that is under way is waited for, and so are
    jobs that are being cancelled. The run that this task belongs to is no reason to keep it: a job that it
    has left running ends with the resource.

    Already gone is success, so it can be retried. A resource that is still being created is waited for first,
    since the service does not delete it before.

    .. seealso:: :doc:`/operators/persistent_resource`

    :param when_in_use: What to do while somebody uses the resource. ``"leave"``: succeed and let it be; the
        log and the result say who uses it. ``"wait"``: until nobody does. ``"delete"``: ask nobody and delete
        it; the service cancels the jobs on it. Default: ``"leave"``. (templated)
    :param shared_with: Other DAGs that use the resource: the id of a DAG whose setup and teardown have the
        same ids as here, or ``{"dag_id": ..., "setup": ..., "teardown": ...}``. Default: none. (templated)
    :param setup_task_id: Id of the task from whose success on a run of this DAG uses the resource. Default: the setup
        tasks directly upstream. (templated)
    :param max_wait_duration: For how long each attempt looks again until it is decided who uses the resource:
        seconds, ``timedelta`` or text like ``"7200s"``; 0 for ever. Default: 2 hours. (templated)
    :param kwargs: Id, connection, region and waiting, see
        :class:`~airflow_vertex_persistent.operators.persistent_resource.PersistentResourceOperator` and
        :class:`~airflow_vertex_persistent.operators.base.WaitingOperator`.
    :return: ``persistent_resource_id``; ``deleted``, whether it is gone; ``used_by``, if not, a list of short texts.
    :raises AirflowFailException: A parameter is wrong.
    :raises PersistentResourceError: It was in use for ``max_wait_duration``, or Airflow did not say who uses it.
    """

    template_fields: Sequence[str] = (
        "when_in_use",
        "shared_with",
        "setup_task_id",
        "max_wait_duration",
        *WaitingResourceOperator.template_fields,
    )

    def __init__(
        self,
        *,
        when_in_use: Literal["leave", "wait", "delete"] = "leave",
        shared_with: Sequence[str | Mapping[str, str]] = (),
        setup_task_id: str | None = None,
        max_wait_duration: Duration = 7200.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.when_in_use = when_in_use
        self.shared_with = shared_with
        self.setup_task_id = setup_task_id
        self.max_wait_duration = max_wait_duration

    def execute(self, context: Context) -> dict[str, Any]:
        """Delete the resource if nobody uses it, and wait until it is gone."""
        return self._go_on(context, None)

    def execute_again(
        self, context: Context, event: Any = None, *, unexplained_since: str | None = None
    ) -> dict[str, Any]:
        """
        Go on after a pause.

        :param unexplained_since: Since when machines are in use without a job, RFC 3339.
        """
        return self._go_on(context, unexplained_since)

    def execute_complete(
        self, context: Context, event: dict[str, Any], *, deleting: str | None = None
    ) -> dict[str, Any]:
        """
        Go on until there is nothing left.

        :param deleting: When the resource was created that is to be gone.
        """
        snapshot = settled_snapshot(event)
        if snapshot is None or (deleting is not None and snapshot["create_time"] != deleting):
            self.log.info("Persistent resource %s is gone", self.persistent_resource_id)
            return self._result()
        return self._go_on(context, None)

    def _go_on(self, context: Context, unexplained_since: str | None) -> dict[str, Any]:
        """Look until it is decided what to do, and do it."""
        problems = Problems(_SUBJECT)
        watch = self.watch_arguments(problems)
        check_persistent_resource_id(self.persistent_resource_id, problems)
        choice("when_in_use", self.when_in_use, _WHEN_IN_USE, problems)
        limit = seconds("max_wait_duration", self.max_wait_duration, problems, zero=True)
        spans = sharing_spans(self.shared_with, self._own_span(context, problems), problems)
        with typed_errors(f"{_SUBJECT} {self.where}"):
            problems.raise_if_any()
            name = self.resource_name
            self.persist_links(context, name)
            runs = SharingRuns(name, spans, context["ti"])
        told: Sequence[str] = ()
        while True:
            with typed_errors(f"{_SUBJECT} {self.where}"):
                look = self._look(runs, unexplained_since)
            if look.until is not None:
                trigger = self.trigger(name, watch, until=look.until, create_time=look.create_time)
                event = self.wait_for_event(trigger, context, deleting=look.create_time)
                return self.execute_complete(context, event, deleting=look.create_time)
            if not look.again:
                return self._result(look.used_by)
            if look.again != told:
                told = look.again
                self.log.info("%s stays for now, waiting for%s", name, _lines(told))
            unexplained_since = look.unexplained_since
            self._check_limit(context, name, limit, told)
            self.pause(context, watch["poll_interval"], unexplained_since=unexplained_since)

    def _own_span(self, context: Context, problems: Problems) -> Span:
        """Return between which tasks a run of this DAG uses the resource."""
        dag = context["dag"]
        if self.setup_task_id is None:
            upstream = (dag.get_task(task_id) for task_id in sorted(self.upstream_task_ids))
            setups = tuple(task.task_id for task in upstream if task.is_setup)
        else:
            setups = (self.setup_task_id,)
            if not isinstance(self.setup_task_id, str) or not dag.has_task(self.setup_task_id):
                known = ", ".join(sorted(dag.task_ids))
                problems.add("setup_task_id", self.setup_task_id, f"the DAG has no such task; it has {known}")
        return Span(dag.dag_id, setups, self.task_id)

    def _look(self, runs: SharingRuns, unexplained_since: str | None) -> _Look:
        """Look at the resource and, if nobody uses it, delete it."""
        from airflow_vertex_persistent.hooks.persistent_resource import resource_snapshot

        name = runs.name
        live = self.resource_hook.get(name)
        if live is None:
            self.log.info("%s is gone", name)
            return _Look()
        snapshot = resource_snapshot(live)
        phase = resource_phase(snapshot["state"])
        if phase is ResourcePhase.MOVING:
            self.log.info("%s %s: that is waited for first", name, phase.value)
            return _Look("ready")
        if phase is ResourcePhase.LEAVING:
            return _Look("gone", snapshot["create_time"])
        usage = Usage()
        if self.when_in_use != "delete":
            usage, unexplained_since = self._usage(runs, snapshot, unexplained_since)
        match usage.next(self.when_in_use):
            case Next.LEAVE:
                self.log.info("%s stays, it is in use by%s", name, _lines(usage.used_by))
                return _Look(used_by=usage.used_by)
            case Next.WAIT:
                reasons = usage.used_by + usage.undecided
                return _Look(again=reasons, unexplained_since=unexplained_since)
        refusal = self._delete(name)
        return _Look(again=(refusal,)) if refusal else _Look("gone", snapshot["create_time"])

    def _usage(
        self, runs: SharingRuns, snapshot: ResourceSnapshot, unexplained_since: str | None
    ) -> tuple[Usage, str | None]:
        """Return who uses the resource, and since when machines are in use without a job."""
        jobs, used = active_jobs(self.job_hook, runs.name, runs.ti), machines_in_use(snapshot)
        now = datetime.now(UTC).isoformat()
        since = (unexplained_since or now) if used and not jobs else None
        usage = machine_usage(jobs, used, seconds_between(since, now) or 0.0)
        if usage.next(self.when_in_use) is not Next.LEAVE:
            # Last, so that as little as possible can happen between this and a deletion.
            usage += runs.usage()
        return usage, since

    def _delete(self, name: ResourceName) -> str | None:
        """Delete the resource; return why not, if another look is needed."""
        self.log.info("Deleting %s", name)
        try:
            self.resource_hook.delete(name, once=True)
        except Exception as error:
            # It has changed since the look, or there was no answer. Whoever uses it by now is looked for again.
            if call_problem(error) not in DELETE_AGAIN:
                raise
            return f"its deletion, after {error}"
        return None

    def _check_limit(
        self, context: Context, name: ResourceName, limit: float | None, reasons: Sequence[str]
    ) -> None:
        waited = (datetime.now(UTC) - context["ti"].start_date).total_seconds()
        if limit and waited >= limit:
            raise PersistentResourceError(
                f"{name} is still there after max_wait_duration, {limit:g} seconds. "
                f"Last waited for{_lines(reasons)}\n"
                "Next step: raise max_wait_duration, or end what uses it. A retry waits as long again."
            )

    def _result(self, used_by: Sequence[str] = ()) -> dict[str, Any]:
        return {
            "persistent_resource_id": self.persistent_resource_id,
            "deleted": not used_by,
            "used_by": list(used_by),
        }


def _lines(texts: Sequence[str]) -> str:
    return "".join(f"\n  - {text}" for text in texts)
