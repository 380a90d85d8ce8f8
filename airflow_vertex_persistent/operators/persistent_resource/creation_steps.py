# SPDX-License-Identifier: Apache-2.0
"""The way to a persistent resource that is as it is wanted, step by step."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from airflow.sdk.exceptions import AirflowFailException

from airflow_vertex_persistent.call_problems import CallProblem, call_problem
from airflow_vertex_persistent.endings import resource_error
from airflow_vertex_persistent.exceptions import (
    CapacityError,
    MaxWaitExceededError,
    PersistentResourceError,
    VertexTrainingError,
)
from airflow_vertex_persistent.names import INSTALLATION_LABEL, KEY_LABEL
from airflow_vertex_persistent.operators.labels import installation
from airflow_vertex_persistent.operators.persistent_resource.base import DELETE_AGAIN, Wait
from airflow_vertex_persistent.operators.persistent_resource.jobs import until_unused, who_uses
from airflow_vertex_persistent.specs.persistent_resource import differences
from airflow_vertex_persistent.states import ResourcePhase, resource_phase, seconds_between
from airflow_vertex_persistent.triggers.watch import backoff_seconds

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from airflow.sdk.types import Logger
    from google.cloud.aiplatform_v1.types import PersistentResource

    from airflow_vertex_persistent.hooks.persistent_resource import PersistentResourceHook
    from airflow_vertex_persistent.hooks.training_job import TrainingJobHook
    from airflow_vertex_persistent.names import ResourceName
    from airflow_vertex_persistent.operators.persistent_resource.creation_record import CreationRecord
    from airflow_vertex_persistent.states import ResourceSnapshot

_SECONDS_PER_DAY = 86_400
# Machines that were not there do not come back within a minute.
_LONGEST_PAUSE_FOR_MACHINES = 600.0


@dataclass(kw_only=True)
class CreationSteps:
    """
    What a task that creates a persistent resource does next. What there is now decides, each time anew.

    :param hook: Where to ask for the resource.
    :param job_hook: Where to ask for its jobs.
    :param name: Its full name.
    :param wanted: What it should be, as ``specs.persistent_resource`` returns it.
    :param labels: Labels that say whose it is.
    :param max_age: Seconds after which a resource is replaced, as is one that differs or is in ERROR;
        ``None``: none is.
    :param fail_in_use: Whether a resource that is to be replaced, but is used, is an error.
    :param max_wait_duration: Seconds for all waiting before the resource is created; 0: no limit.
    :param poll_interval: Seconds between two looks where nothing can be watched.
    :param record: What is known of this execution.
    :param keep: Keeps a changed record.
    :param log: The task's log.
    """

    hook: PersistentResourceHook
    job_hook: TrainingJobHook
    name: ResourceName
    wanted: Mapping[str, Any]
    labels: Mapping[str, str]
    max_age: float | None
    fail_in_use: bool
    max_wait_duration: float
    poll_interval: float
    record: CreationRecord
    keep: Callable[[CreationRecord], None]
    log: Logger

    def next_step(self) -> Wait | ResourceSnapshot:
        """
        Go a step further; return what to wait for before the next, or the resource that is ready for jobs.

        :raises MaxWaitExceededError: There was no more time to wait.
        :raises VertexTrainingError: The service's own reason why there is no resource.
        :raises AirflowFailException: There is one that differs and must not be replaced.
        """
        from airflow_vertex_persistent.hooks.persistent_resource import resource_snapshot

        live = self.hook.get(self.name)
        if live is None:
            return self._create()
        snapshot = resource_snapshot(live)
        match resource_phase(snapshot["state"]):
            case ResourcePhase.LEAVING:
                failed = self.record.pause_reason if self.created(snapshot) else ""
                return self._limited(Wait(failed or "the end of its deletion", "gone"))
            case ResourcePhase.LOST:
                return self._replace_lost(snapshot)
            case phase:
                reasons = self._why_replace(live, snapshot)
                if phase is ResourcePhase.MOVING:
                    return Wait("it to be ready", "ready")
                return self._rotate(snapshot, reasons) if reasons else snapshot

    def created(self, snapshot: ResourceSnapshot) -> bool:
        """Tell whether this execution has created the resource."""
        return snapshot["labels"].get(KEY_LABEL) == self.record.key

    def _create(self) -> Wait | ResourceSnapshot:
        if self.record.pause_until is not None:
            left = (datetime.fromisoformat(self.record.pause_until) - datetime.now(UTC)).total_seconds()
            if left > 0:
                return self._limited(Wait(self.record.pause_reason, seconds=left))
        labels = {**self.wanted.get("labels", {}), **self.labels, KEY_LABEL: self.record.key}
        try:
            self.hook.create(
                self.name.project, self.name.region, self.name.id, {**self.wanted, "labels": labels}
            )
        except Exception as error:
            problem = call_problem(error)
            if problem is CallProblem.CAPACITY:
                return self._pause(f"machines ({error})", _LONGEST_PAUSE_FOR_MACHINES)
            if problem not in {CallProblem.EXISTS, CallProblem.TRANSIENT}:
                raise
            # Somebody else was quicker, or the reply was lost: what counts is whether it is there.
            if self.hook.get(self.name) is not None:
                return self.next_step()
            if problem is CallProblem.TRANSIENT:
                raise
            return self._pause("its name, which the service keeps for some time after a deletion")
        self.log.info("Creating %s", self.name)
        return Wait("it to be ready", "ready")

    def _why_replace(self, live: PersistentResource, snapshot: ResourceSnapshot) -> list[str]:
        """
        Return why a resource should be replaced.

        :raises AirflowFailException: It differs, and none is to be replaced.
        """
        from airflow_vertex_persistent.hooks.persistent_resource import resource_body

        # What the service made of this very request is what was wanted.
        if self.created(snapshot):
            return []
        reasons = differences(self.wanted, resource_body(live))
        if self.max_age is None:
            if reasons:
                raise AirflowFailException(_differs(self.name, reasons))
            return []
        age = seconds_between(snapshot["create_time"], datetime.now(UTC).isoformat())
        if age is not None and age > self.max_age:
            days = age / _SECONDS_PER_DAY
            reasons.append(f"it is {days:.1f} days old" if days >= 1 else f"it is {age:.0f} seconds old")
        return reasons

    def _replace_lost(self, snapshot: ResourceSnapshot) -> Wait:
        text = snapshot["error_message"] or "the service gave no reason"
        error = resource_error(self.name, snapshot["state"], snapshot["error_message"])
        if self.created(snapshot):
            self._delete_failed(error)
            if not isinstance(error, CapacityError):
                raise error
            pause = self._pause(f"machines ({text})", _LONGEST_PAUSE_FOR_MACHINES)
            return self._limited(replace(pause, until="gone"))
        if self.max_age is None:
            raise error
        return self._rotate(snapshot, [f"it is in {snapshot['state']}: {text}"])

    def _delete_failed(self, reason: VertexTrainingError) -> None:
        """Delete what this execution has created in vain, so that it can be created again."""
        self.log.warning("Deleting %s: its creation has failed: %s", self.name, reason)
        try:
            self.hook.delete(self.name)
        except Exception as error:
            if call_problem(error) in {CallProblem.MISSING, CallProblem.NOT_NOW}:
                return
            # Why the creation failed matters more to whoever reads the error.
            self.log.exception("%s could not be deleted", self.name)
            raise reason from error

    def _rotate(self, snapshot: ResourceSnapshot, reasons: Sequence[str]) -> Wait:
        why = "; ".join(reasons)
        owner, ours = snapshot["labels"].get(INSTALLATION_LABEL), installation()
        if ours is None or owner != ours:
            raise AirflowFailException(_not_ours(self.name, why, owner, ours))
        if users := who_uses(self.job_hook, self.name, snapshot):
            return self._wait_for_users(users, snapshot, why)
        # A deletion for which no time is left would leave nothing.
        self._seconds_left(f"room for another one: {why}")
        self._note(rotated=True)
        self.log.warning("Deleting %s to create it anew: %s", self.name, why)
        try:
            # Not twice: what is there after a lost reply may be another resource, and in use.
            self.hook.delete(self.name, once=True)
        except Exception as error:
            if call_problem(error) not in DELETE_AGAIN:
                raise
            pause = backoff_seconds(self.poll_interval, 0)
            return self._limited(Wait(f"another look, after its deletion ended with: {error}", seconds=pause))
        return self._limited(Wait("the end of its deletion", "gone"))

    def _wait_for_users(self, users: str, snapshot: ResourceSnapshot, why: str) -> Wait:
        if self.fail_in_use:
            raise PersistentResourceError(
                f"{self.name} should be replaced, but is in use: {users}\nWhy replace it: {why}\n"
                "Next step: try again when they have ended, or let when_in_use='wait' wait for that."
            )
        reason = f"the end of {users}; then it is replaced: {why}"
        return self._limited(until_unused(reason, snapshot, self.poll_interval))

    def _pause(self, reason: str, longest: float = 60.0) -> Wait:
        """
        Do not try to create it before some time has passed, more each time; at the end of all time try once
        more.
        """
        seconds = backoff_seconds(self.poll_interval, self.record.pauses, longest)
        seconds = min(seconds, self._seconds_left(reason))
        self._note(
            pauses=self.record.pauses + 1,
            pause_until=(datetime.now(UTC) + timedelta(seconds=seconds)).isoformat(),
            pause_reason=reason,
        )
        return Wait(reason, seconds=seconds)

    def _note(self, **changes: Any) -> None:
        self.record = replace(self.record, **changes)
        self.keep(self.record)

    def _limited(self, wait: Wait) -> Wait:
        """Return a wait that ends in time."""
        deadline = self.record.deadline(self.max_wait_duration)
        seconds = min(wait.seconds, self._seconds_left(wait.reason))
        return replace(wait, seconds=seconds, deadline=None if deadline is None else deadline.isoformat())

    def _seconds_left(self, reason: str) -> float:
        """
        Return for how long the task may still wait.

        :raises MaxWaitExceededError: Not at all.
        """
        deadline = self.record.deadline(self.max_wait_duration)
        if deadline is None:
            return float("inf")
        left = (deadline - datetime.now(UTC)).total_seconds()
        if left <= 0:
            raise MaxWaitExceededError(
                f"{self.name} is not ready after max_wait_duration, {self.max_wait_duration:g} seconds. "
                f"Last waited for {reason}\n"
                "Next step: raise max_wait_duration, or clear the task once that has changed."
            )
        return left


def _differs(name: ResourceName, reasons: Sequence[str]) -> str:
    lines = "".join(f"\n  - {line}" for line in reasons)
    return (
        f"{name} is there already, with another spec:{lines}\n"
        "Vertex AI does not change a resource in place, not even its number of machines.\n"
        "Next step: write the spec it has, use another persistent_resource_id, or let this task replace it "
        "(max_age). For a number of machines that changes write autoscaling_spec from the start."
    )


def _not_ours(name: ResourceName, why: str, owner: str | None, ours: str | None) -> str:
    if ours is None:
        whose = "this Airflow has no name by which it would know what it has made"
        step = "set [vertex_persistent] installation"
    else:
        label = f"its label {INSTALLATION_LABEL} is {owner!r}, not {ours!r}"
        none = f"it has no label {INSTALLATION_LABEL}"
        whose = f"this Airflow did not make it: {none if owner is None else label}"
        step = "leave it to whoever made it, without max_age; or delete it, and this task makes another"
        if owner is not None:
            step += f"; if it is yours, from before a change of configuration, set installation to {owner!r}"
    return f"{name} should be replaced, but {whose}\nWhy replace it: {why}\nNext step: {step}."
