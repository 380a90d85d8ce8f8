# SPDX-License-Identifier: Apache-2.0
"""Where the shared loops read: many things with few calls."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from airflow_vertex_persistent.call_problems import call_problem, is_transient
from airflow_vertex_persistent.names import INSTALLATION_LABEL, KEY_LABEL, ResourceName
from airflow_vertex_persistent.states import NOT_ENDED_FILTER, JobPhase, job_phase
from airflow_vertex_persistent.triggers.watch import loop_time

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from airflow_vertex_persistent.hooks.client import VertexAsyncHook
    from airflow_vertex_persistent.hooks.persistent_resource import PersistentResourceAsyncHook
    from airflow_vertex_persistent.hooks.training_job import TrainingJobAsyncHook
    from airflow_vertex_persistent.names import Identity
    from airflow_vertex_persistent.triggers.base import VertexTrigger
    from airflow_vertex_persistent.triggers.persistent_resource import PersistentResourceTrigger
    from airflow_vertex_persistent.triggers.sharing import Snapshots
    from airflow_vertex_persistent.triggers.training_job import TrainingJobTrigger

# Each is about 45 characters of a filter; how long one may be is not documented.
_KEYS_PER_LIST = 50
# How often the trials of a job are read, and of how many jobs in one round.
_TRIALS_SECONDS = 60.0
_TRIALS_PER_ROUND = 20
_FORGOTTEN_SECONDS = 3600.0


class JobSource:
    """
    Jobs of one kind, read by list calls.

    :param hook: Where to ask.
    :param project: Of the jobs, id or number.
    :param kind: Their collection.
    :param regions: Where the jobs are.
    :param installation: Value of the label that all these jobs carry; ``None``: they are not of our making.
    """

    def __init__(
        self,
        hook: TrainingJobAsyncHook,
        project: str,
        kind: str,
        regions: Sequence[str],
        installation: str | None,
    ) -> None:
        self.hook = hook
        self.regions = regions
        self.reads = 0
        self._project = project
        self._kind = kind
        self._installation = installation

    async def read_moving(self, found: Snapshots) -> Mapping[str, Exception]:
        """Read the jobs of this installation that have not ended."""
        if self._installation is None:
            return {}
        filter_ = f'labels.{INSTALLATION_LABEL}="{self._installation}" AND {NOT_ENDED_FILTER}'
        return await self._list_each({region: [filter_] for region in self.regions}, found)

    async def read(
        self, asked: Mapping[Identity, TrainingJobTrigger], found: Snapshots
    ) -> Mapping[str, Exception]:
        """Read the jobs asked for, fifty with one call where their label is known."""
        keys: dict[str, set[str]] = {}
        alone: dict[Identity, VertexTrigger] = {}
        for identity, trigger in asked.items():
            if identity in found:
                continue
            if trigger.execution_key is not None:
                keys.setdefault(trigger.name.region, set()).add(trigger.execution_key)
            else:
                alone[identity] = trigger
        self.reads += len(alone)
        filters: dict[str, list[str]] = {}
        for region, wanted in keys.items():
            labels = [f'labels.{KEY_LABEL}="{key}"' for key in sorted(wanted)]
            chunks = range(0, len(labels), _KEYS_PER_LIST)
            filters[region] = [" OR ".join(labels[start : start + _KEYS_PER_LIST]) for start in chunks]
        errors = await asyncio.gather(read_each(alone, self.hook, found), self._list_each(filters, found))
        return errors[0] | errors[1]

    async def _list_each(
        self, filters: Mapping[str, Sequence[str]], found: Snapshots
    ) -> dict[str, Exception]:
        """List in all regions at once: none that is slow to answer, or does not, keeps another from being read."""

        async def list_in(region: str) -> None:
            for text in filters[region]:
                await self._list(region, text, found)

        results = await asyncio.gather(*map(list_in, filters), return_exceptions=True)
        return dict(_errors(zip(filters, results, strict=True)))

    async def _list(self, region: str, filter_: str, found: Snapshots) -> None:
        token = ""
        while True:
            self.reads += 1
            place = (self._project, region, self._kind)
            snapshots, token = await self.hook.snapshot_page(*place, filter_, token)
            found.update((ResourceName.parse(snapshot["job"]).identity, snapshot) for snapshot in snapshots)
            if not token:
                return


class TuningJobSource(JobSource):
    """
    Tuning jobs. Lists leave their trials out: who waits for a job has them read once a minute, one by one.

    :param hook: Where to ask.
    :param project: Of the jobs, id or number.
    :param kind: Their collection.
    :param regions: Where the jobs are.
    :param installation: Value of the label that all these jobs carry; ``None``: they are not of our making.
    """

    def __init__(self, hook: TrainingJobAsyncHook, *what: Any) -> None:
        super().__init__(hook, *what)
        # When the trials of each job are to be read next, and of those that are due the longest waits first.
        self._due: dict[Identity, float] = {}

    async def read(
        self, asked: Mapping[Identity, TrainingJobTrigger], found: Snapshots
    ) -> Mapping[str, Exception]:
        """Read the jobs asked for, and of those that run the trials, if it is time for that."""
        errors = await super().read(asked, found)
        now = loop_time()
        running = [identity for identity in asked if _lacks_trials(found.get(identity))]
        # Nobody asks any more for those that have been due for long.
        known = {identity: at for identity, at in self._due.items() if at > now - _FORGOTTEN_SECONDS}
        self._due = dict.fromkeys(running, now + _TRIALS_SECONDS) | known
        due = sorted((one for one in running if self._due[one] <= now), key=self._due.__getitem__)
        due = due[:_TRIALS_PER_ROUND]
        self._due |= dict.fromkeys(due, now + _TRIALS_SECONDS)
        self.reads += len(due)
        # What is not answered is no news: the job itself has been read.
        await read_each({identity: asked[identity] for identity in due}, self.hook, found)
        return errors


def _lacks_trials(snapshot: Mapping[str, Any] | None) -> bool:
    """Tell whether a job runs and was read without its trials."""
    return (
        snapshot is not None and "tuning" not in snapshot and job_phase(snapshot["state"]) is JobPhase.RUNNING
    )


class ResourceSource:
    """
    Persistent resources. They are read one by one, since their list has no filter and may lack those that are
    being created, but each once for all tasks that wait for it.

    :param hook: Where to ask.
    :param region: Where the resources are.
    """

    def __init__(self, hook: PersistentResourceAsyncHook, region: str) -> None:
        self.hook: VertexAsyncHook = hook
        self.regions = (region,)
        self.reads = 0

    async def read_moving(self, found: Snapshots) -> Mapping[str, Exception]:
        """Read nothing: only what is asked for is read."""
        return {}

    async def read(
        self, asked: Mapping[Identity, PersistentResourceTrigger], found: Snapshots
    ) -> Mapping[str, Exception]:
        """Read the resources asked for."""
        self.reads += len(asked)  # none of them has been read yet
        return await read_each(asked, self.hook, found)


async def read_each(
    asked: Mapping[Identity, VertexTrigger], hook: VertexAsyncHook, found: Snapshots
) -> dict[str, Exception]:
    """Read things one by one, at the same time; return the errors that pass by themselves, by region."""

    async def read_one(identity: Identity, trigger: VertexTrigger) -> None:
        found[identity] = await trigger.look(hook)

    results = await asyncio.gather(*(read_one(*item) for item in asked.items()), return_exceptions=True)
    regions = [trigger.name.region for trigger in asked.values()]
    return {
        region: error for region, error in _errors(zip(regions, results, strict=True)) if is_transient(error)
    }


def _errors(results: Iterable[tuple[str, BaseException | None]]) -> Iterator[tuple[str, Exception]]:
    """Yield the errors of the service among results by region; one of our own is raised."""
    for region, error in results:
        if error is None:
            continue
        if not isinstance(error, Exception) or call_problem(error) is None:
            raise error
        yield region, error
