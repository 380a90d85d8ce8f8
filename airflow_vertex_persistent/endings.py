# SPDX-License-Identifier: Apache-2.0
"""Why a job or a persistent resource ended, as the typed error that says what to do next."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from airflow_vertex_persistent.call_problems import CallProblem, text_problem
from airflow_vertex_persistent.exceptions import (
    CapacityError,
    JobCancelledError,
    JobFailedError,
    JobInterruptedError,
    JobTimedOutError,
    MaxWaitExceededError,
    PersistentResourceError,
    QuotaExceededError,
    VertexTrainingError,
)
from airflow_vertex_persistent.names import TUNING_JOBS, ResourceName, job_console_url, job_logs_url
from airflow_vertex_persistent.states import (
    FLEX_START,
    SPOT,
    JobPhase,
    job_phase,
    max_wait_seconds,
    running_seconds,
    seconds_between,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow_vertex_persistent.states import JobSnapshot

    ErrorAndFix = tuple[type[VertexTrainingError], str]

_EXIT_TEXT = re.compile(r"exited with a non-zero status")
# What the text of an expired wait, which is not documented, may speak of.
_WAIT_TEXT = re.compile(r"wait|expire|deadline|timed? ?-?out|capacity|provision", re.IGNORECASE)
_CANCELLED_TEXT = re.compile(r"cancell?ed\.?", re.IGNORECASE)
_INTERRUPTED_TEXT = re.compile(r"internal error", re.IGNORECASE)
_REPLICA_TEXT = re.compile(r"replicas? (workerpool\d+-\d+)")
_RESOURCE_EXHAUSTED, _INTERNAL = 8, 13  # google.rpc.Code
# By how much the service may end a wait before its limit, and after it.
_CLOCK_SECONDS, _EXPIRY_SECONDS = 1.0, 60.0


def failed_replica(text: str) -> str | None:
    """Return the replica, such as ``workerpool0-0``, that the error of a job blames first."""
    match = _REPLICA_TEXT.search(text)
    return match and match[1]


def job_error(snapshot: JobSnapshot, details: Mapping[str, Any] | None = None) -> VertexTrainingError:
    """
    Return the typed error of a job that ended without success.

    The kind follows from the state and the service's text, since the status code of a failed job is not
    documented. The message holds the job, its state, the service's text, the end of its log, the addresses to
    look at and the next step.

    :param details: What the trigger found: ``log_lines``, or ``log_problem``; with ``log_of`` whose log that is, if
        it is not the job's own; of a tuning job ``tuning``, how far it got, ``trial``, the snapshot of the job of the
        trial that failed, ``metrics``, what it should have reported, and ``no_failure_limit``, if the service alone
        says how many trials may fail.
    """
    details = details or {}
    error_class, next_step = _job_error_class(snapshot, details)
    name = ResourceName.parse(snapshot["job"])
    text = snapshot["error_message"] or "the service gave no reason"
    return error_class(
        f"{name} ended in {snapshot['state']}: {text}\n{_details_text(details)}"
        f"Console: {job_console_url(name)}\nLogs: {job_logs_url(name)}\nNext step: {next_step}"
    )


def _details_text(details: Mapping[str, Any]) -> str:
    text = f"Trials: {details['tuning']}\n" if "tuning" in details else ""
    log = f"The log of {details['log_of']}" if "log_of" in details else "Its log"
    if lines := details.get("log_lines"):
        return text + f"{log} ends:\n" + "".join(f"  {line}\n" for line in lines)
    if problem := details.get("log_problem"):
        problem = problem.replace("\n", "\n  ")
        return f"{text}{log} could not be read: {problem}\n"
    return text


def _job_error_class(snapshot: JobSnapshot, details: Mapping[str, Any]) -> ErrorAndFix:
    text, cancelled = snapshot["error_message"], job_phase(snapshot["state"]) is JobPhase.CANCELLED
    if _waited_in_vain(snapshot):
        return MaxWaitExceededError, capacity_next_step(snapshot["strategy"], tuning=_is_tuning(snapshot))
    # By the clock a job runs from its first start on, whatever machines it has lost since: its text goes first.
    if not cancelled and (told := _told_class(snapshot)):
        return told
    if _ran_out_of_time(snapshot):
        return JobTimedOutError, "raise max_run_duration, or make the training resume from its checkpoints."
    if cancelled:
        fix = "find out who cancelled it, or deleted its persistent resource; clear the task to run it again."
        return JobCancelledError, fix
    return JobFailedError, _failed_next_step(text, details)


def _failed_next_step(text: str, details: Mapping[str, Any]) -> str:
    fix = _trial_next_step(details)
    if fix is None:
        where = "the log of the replica named above" if failed_replica(text) else "the end of its log"
        fix = f"read {where}; a retry runs the same code again."
    if details.get("no_failure_limit"):
        fix += (
            " If other parameters may do better, set max_failed_trial_count: without it the service has been "
            "seen to end the job with a trial that fails before any has succeeded."
        )
    return fix


def _trial_next_step(details: Mapping[str, Any]) -> str | None:
    """Return what to do about a trial that failed although its code did not; ``None`` if it did."""
    trial = details.get("trial")
    if trial is None:
        return None
    if job_phase(trial["state"]) is JobPhase.SUCCEEDED:
        metrics = " and ".join(details["metrics"])
        return (
            f"have the code report a finite value of {metrics}, not NaN: the trial ended well without one. "
            "The hyperparameter_metric_tag in the code must be the name in metrics."
        )
    if _ran_out_of_time(trial):
        return (
            "raise max_run_duration: the trial was stopped at that limit, and what it had reported is lost."
        )
    return None


def _told_class(snapshot: JobSnapshot) -> ErrorAndFix | None:
    text, code = snapshot["error_message"], snapshot["error_code"]
    exhausted = code == _RESOURCE_EXHAUSTED
    if short_of := _shortage(text, snapshot["strategy"], exhausted=exhausted, tuning=_is_tuning(snapshot)):
        return short_of
    if (code == _INTERNAL or _INTERRUPTED_TEXT.search(text)) and not _EXIT_TEXT.search(text):
        return JobInterruptedError, "try again; if it happens again, look at the service's status."
    return None


def _shortage(
    text: str, strategy: str | None, *, exhausted: bool = False, tuning: bool = False
) -> ErrorAndFix | None:
    """Return which error a text of the service is that speaks of a lack of quota or of machines."""
    problem = text_problem(text)
    if problem is CallProblem.QUOTA:
        return QuotaExceededError, quota_next_step(strategy)
    if exhausted or problem is CallProblem.CAPACITY:
        return CapacityError, capacity_next_step(strategy, tuning=tuning)
    return None


def is_lack_of_machines(error: VertexTrainingError, *, next_on_quota: bool) -> bool:
    """
    Tell whether a job that ended so leaves its place to another candidate.

    :param next_on_quota: Whether a quota that is used up counts as such.
    """
    return isinstance(error, (CapacityError, QuotaExceededError) if next_on_quota else CapacityError)


def _waited_in_vain(snapshot: JobSnapshot) -> bool:
    """
    Tell whether a Flex Start job ended at the end of its wait: in which state is not documented, nor with
    what text. One that says something else has ended for that.
    """
    waited = seconds_between(snapshot["create_time"], snapshot["end_time"])
    limit, text = max_wait_seconds(snapshot), snapshot["error_message"]
    if snapshot["start_time"] is not None or not waited or not limit or waited + _CLOCK_SECONDS < limit:
        return False
    if _CANCELLED_TEXT.fullmatch(text):
        return waited <= limit + _EXPIRY_SECONDS  # whoever cancels it later is somebody else
    return not text or text_problem(text) is CallProblem.CAPACITY or bool(_WAIT_TEXT.search(text))


def _is_tuning(snapshot: JobSnapshot) -> bool:
    return ResourceName.parse(snapshot["job"]).kind == TUNING_JOBS


def capacity_next_step(strategy: str | None, *, tuning: bool = False) -> str:
    """
    Return what to do when there are no machines for jobs of a strategy; ``None``: for anything else.

    :param tuning: Whether these are the trials of a tuning job, which has no candidates.
    """
    fix = "try again later, in another region, or with fewer or other machines"
    if tuning and strategy == FLEX_START:
        return f"{fix}, or let each trial wait longer (max_wait_duration)."
    if strategy is None or tuning:
        return f"{fix}."
    return f"{fix} (candidates), or let it wait longer (max_wait_duration)."


def quota_next_step(strategy: str | None) -> str:
    """Return what to do about a quota that is used up by jobs of a strategy; ``None``: by anything else."""
    fix = "ask for more of the quota named above, or use fewer machines."
    if strategy not in {FLEX_START, SPOT}:
        return fix
    return (
        f"{fix} Flex Start and Spot draw on the quotas with 'preemptible' in their name, although nothing of "
        "Flex Start is preempted."
    )


def _ran_out_of_time(snapshot: JobSnapshot) -> bool:
    limit, ran = snapshot["max_run_seconds"], running_seconds(snapshot)
    if limit is None or ran is None:
        return False
    if snapshot["state"] == "JOB_STATE_FAILED" and _EXIT_TEXT.search(snapshot["error_message"]):
        return False  # it failed by itself, just when its time was over
    return ran >= limit


def resource_error(name: ResourceName, state: str, message: str) -> VertexTrainingError:
    """Return the typed error of a persistent resource that is lost, from the service's own reason."""
    text = message or "the service gave no reason"
    error_class, next_step = _shortage(message, None) or (PersistentResourceError, "create it again.")
    return error_class(
        f"{name} is in {state}: {text}\nNext step: delete it if it is still there; {next_step}"
    )
