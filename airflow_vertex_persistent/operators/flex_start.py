# SPDX-License-Identifier: Apache-2.0
"""Train on machines that are scarce: queue for them, and try the next place when they do not come."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, ClassVar, Literal, get_args

from airflow_vertex_persistent.operators.training.own_machines import OwnMachines, Place
from airflow_vertex_persistent.operators.training.racing import RacingOperator
from airflow_vertex_persistent.specs.candidates import read_candidates, with_candidate
from airflow_vertex_persistent.specs.checks import Problems, boolean, check_region, choice
from airflow_vertex_persistent.specs.custom_job import JOB_FIELDS, QUEUE_FIELDS, custom_job
from airflow_vertex_persistent.specs.scheduling import check_own_machines
from airflow_vertex_persistent.specs.worker_pools import short_form_field
from airflow_vertex_persistent.states import FLEX_START

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from airflow_vertex_persistent.operators.base import Duration
    from airflow_vertex_persistent.operators.training.execution import Execution
    from airflow_vertex_persistent.specs.custom_job import JobRequest
    from airflow_vertex_persistent.states import JobSnapshot

CandidateOrder = Literal["ordered", "race"]


class FlexStartTrainingOperator(RacingOperator):
    """
    Run a custom job when its GPUs become free, in the first of several places that has them.

    With Flex Start, Vertex AI keeps the job in a queue until all its machines can be had together; nothing of it is
    preempted afterwards. A job that gets no machines is no failure while there is another candidate: the same work is
    submitted there. Every other failure ends the task, as does the end of the last candidate. Killing, clearing or
    marking the task cancels the job that waits or runs. A retry takes over the job of the attempts before it.

    .. seealso:: :doc:`/operators/flex_start`

    :param region: Region of the job; not needed when each candidate has its own. (templated)
    :param strategy: ``"flex_start"``: wait in the queue. ``"spot"``: preemptible machines, at once or not at all.
        ``"standard"``: machines on demand, at once or not at all. Default: what ``config`` says, else
        ``"flex_start"``. (templated)
    :param max_wait_duration: How long a job may wait for machines before the next candidate: seconds, ``timedelta``
        or text like ``"3600s"``; 0: for ever. With Flex Start the service itself counts; otherwise the task cancels
        a job that has not started by then. Default: the service's, 24 hours with Flex Start. (templated)
    :param candidates: Places and shapes to try, in their order, each as
        :func:`~airflow_vertex_persistent.specs.candidates.candidate` returns it; what one leaves out is as the other
        parameters say. Default: one, of those parameters. (templated)
    :param candidate_order: ``"ordered"``: one candidate after the other. ``"race"``: queue in all of them at once;
        the first to start goes on, and the others are cancelled as soon as that is seen. That queueing bills nothing
        is documented for Spot only. Default: ``"ordered"``. (templated)
    :param next_on_quota: Whether to try the next candidate also when the project's quota is used up. Default: no,
        that ends the task. (templated)
    :param allow_unlisted_accelerators: Submit also for accelerators that Flex Start did not have when this version
        was made. Default: that is an error; for one that the API did not have by then, a warning. (templated)
    :param kwargs: The work and everything else, see
        :class:`~airflow_vertex_persistent.operators.training.parameters.TrainingParameters` and
        :class:`~airflow_vertex_persistent.operators.base.WaitingOperator`.
    :return: As :class:`~airflow_vertex_persistent.operators.custom_job.PersistentResourceCustomJobOperator`;
        ``candidate`` is the number of the one that got machines, from 0.
    :raises MaxWaitExceededError: The last candidate got no machines in time. The message tells what became of each.
    :raises CapacityError: It had none for another reason.
    :raises QuotaExceededError: The project's quota is used up.
    """

    template_fields: Sequence[str] = (
        "strategy",
        "max_wait_duration",
        "candidates",
        "candidate_order",
        "next_on_quota",
        "allow_unlisted_accelerators",
        *RacingOperator.template_fields,
    )
    template_fields_renderers: ClassVar[dict[str, str]] = {
        **RacingOperator.template_fields_renderers,
        "candidates": "json",
    }

    def __init__(
        self,
        *,
        region: str | None = None,
        strategy: str | None = None,
        max_wait_duration: Duration | None = None,
        candidates: list[dict[str, Any]] | None = None,
        candidate_order: CandidateOrder = "ordered",
        next_on_quota: bool | str = False,
        allow_unlisted_accelerators: bool | str = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(region=region or "", **kwargs)
        self.strategy = strategy
        self.max_wait_duration = max_wait_duration
        self.candidates = candidates
        self.candidate_order = candidate_order
        self.next_on_quota = next_on_quota
        self.allow_unlisted_accelerators = allow_unlisted_accelerators

    def check_place(self, problems: Problems) -> None:
        """Check the region, where it is not for the candidates to say."""
        if self.candidates is None:
            check_region(self.region, problems)

    def job_requests(self, config: Any, default_display_name: str, problems: Problems) -> list[JobRequest]:
        """Return the custom job that is asked for, in each candidate."""
        wanted = {field: getattr(self, field) for field in (*JOB_FIELDS, *QUEUE_FIELDS)}
        wanted["config"] = config
        machines = self.machines(problems)
        unlisted = boolean("allow_unlisted_accelerators", self.allow_unlisted_accelerators, problems)
        requests: list[JobRequest] = []
        for index, chosen in read_candidates(self.candidates, problems).items():
            found = Problems(problems.subject)
            here = with_candidate(wanted, chosen)
            check_region(here["region"], found)
            request = custom_job(here, found, default_display_name=default_display_name)
            self._complete(request, here["max_wait_duration"], found, unlisted=bool(unlisted))
            if machines.race:
                _check_entrant(request, here, requests, found)
            problems.absorb(found, self._field_of(index, chosen))
            requests.append(request)
        if not problems and self._execution is None and len(requests) > 1:
            how = "in a race, all at once" if machines.race else "tried in this order"
            self.log.info("Candidates, %s:\n%s", how, "\n".join(machines.plan()))
        return requests

    def _complete(
        self, request: JobRequest, limit: Duration | None, problems: Problems, *, unlisted: bool
    ) -> None:
        """Set the default strategy, and check what goes with the one that is chosen."""
        spec = request.job["job_spec"]
        scheduling = spec["scheduling"] = {"strategy": FLEX_START, **(spec.get("scheduling") or {})}
        # The service counts the wait for Flex Start only. Otherwise the task does, and does not read config for it.
        told = scheduling["strategy"] != FLEX_START and scheduling.pop("max_wait_duration", None) is not None
        if told and limit is None:
            fix = "goes with FLEX_START; write the parameter max_wait_duration"
            problems.add_hidden("config.scheduling.max_wait_duration", fix)
        for warning in check_own_machines(
            spec,
            problems,
            rename=short_form_field if request.short_form else str,
            allow_unlisted_accelerators=unlisted,
        ):
            self.log.warning(warning)

    def _field_of(self, index: int, chosen: Mapping[str, Any]) -> Callable[[str], str]:
        """Return what says where a field of one candidate was written."""

        def written(field: str) -> str:
            root = re.split(r"[.\[]", field, maxsplit=1)[0]
            own = self.candidates is not None and (root in chosen or root == "region")
            return f"candidates[{index}].{field}" if own else field

        return written

    def machines(self, problems: Problems) -> OwnMachines:
        """Return the machines of the candidates."""
        fields = ("region", "machine_type", "strategy", "max_wait_duration")
        wanted = {field: getattr(self, field) for field in fields}
        candidates = read_candidates(self.candidates, Problems("")).values()
        places = [Place.read({**wanted, **chosen}) for chosen in candidates]
        next_on_quota = boolean("next_on_quota", self.next_on_quota, problems)
        order = choice("candidate_order", self.candidate_order, get_args(CandidateOrder), problems)
        race = order == "race" and len(places) > 1
        for field in ("wait_for_completion", "cancel_on_kill"):
            if race and not getattr(self, field):
                fix = "leave it out: nobody would cancel the jobs that have lost the race"
                problems.add(field, getattr(self, field), fix)
        return OwnMachines(tuple(places), next_on_quota=bool(next_on_quota), race=race)

    def result(self, job: JobSnapshot, execution: Execution | None) -> dict[str, Any]:
        """Return what the task hands to the tasks after it."""
        result = super().result(job, execution)
        if execution is not None and self.candidates is not None:
            result["candidate"] = execution.candidate
        return result


def _check_entrant(
    request: JobRequest, wanted: Mapping[str, Any], others: Sequence[JobRequest], problems: Problems
) -> None:
    """Check what a job of a race cannot have: two of them may run for a moment."""
    spec = request.job["job_spec"]
    if spec["scheduling"]["strategy"] != FLEX_START and wanted["max_wait_duration"]:
        fix = "in a race it goes with strategy 'flex_start', where the service counts"
        problems.add("max_wait_duration", wanted["max_wait_duration"], fix)
    output = spec.get("base_output_directory")
    if output and any(other.job["job_spec"].get("base_output_directory") == output for other in others):
        fix = "write one of its own into each candidate: in a race two jobs may run for a moment"
        problems.add("base_output_dir", wanted["base_output_dir"], fix)
