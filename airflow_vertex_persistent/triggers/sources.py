# SPDX-License-Identifier: Apache-2.0
"""Where the shared loops read: many things with few calls."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from airflow_vertex_persistent.exceptions import call_problem, is_transient
from airflow_vertex_persistent.names import INSTALLATION_LABEL, KEY_LABEL, ResourceName
from airflow_vertex_persistent.states import NOT_ENDED_FILTER

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

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


class JobSource:
    """
    Custom jobs, read by list calls.

    :param hook: Where to ask.
    :param project: Of the jobs, id or number.
    :param regions: Where the jobs are.
    :param installation: Value of the label that all these jobs carry; ``None``: they are not of our making.
    """

    def __init__(
        self, hook: TrainingJobAsyncHook, project: str, regions: Sequence[str], installation: str | None
    ) -> None:
        self.hook = hook
        self.reads = 0
        self._project = project
        self._regions = regions
        self._installation = installation

    async def read_moving(self, found: Snapshots) -> None:
        """Read the jobs of this installation that have not ended: of a region that does not answer, none."""
        if self._installation is not None:
            filter_ = f'labels.{INSTALLATION_LABEL}="{self._installation}" AND {NOT_ENDED_FILTER}'
            errors = await self._list_each({region: [filter_] for region in self._regions}, found)
            if len(errors) == len(self._regions):
                raise errors[0]

    async def read(self, asked: Mapping[Identity, TrainingJobTrigger], found: Snapshots) -> None:
        """Read the jobs asked for, fifty with one call where their label is known."""
        keys: dict[str, set[str]] = {}
        alone: dict[Identity, VertexTrigger] = {}
        for identity, trigger in asked.items():
            if trigger.execution_key is not None:
                keys.setdefault(trigger.name.region, set()).add(trigger.execution_key)
            else:
                alone[identity] = trigger
        self.reads += len(alone)
        await read_each(alone, self.hook, found)
        filters: dict[str, list[str]] = {}
        for region, wanted in keys.items():
            labels = [f'labels.{KEY_LABEL}="{key}"' for key in sorted(wanted)]
            chunks = range(0, len(labels), _KEYS_PER_LIST)
            filters[region] = [" OR ".join(labels[start : start + _KEYS_PER_LIST]) for start in chunks]
        if errors := await self._list_each(filters, found):
            raise errors[0]

    async def _list_each(self, filters: Mapping[str, Sequence[str]], found: Snapshots) -> list[Exception]:
        """List in each region, and return their errors: one that does not answer keeps no other from being read."""
        errors: list[Exception] = []
        for region, texts in filters.items():
            try:
                for text in texts:
                    await self._list(region, text, found)
            except Exception as error:  # noqa: BLE001 - for the caller to judge
                errors.append(error)
        return errors

    async def _list(self, region: str, filter_: str, found: Snapshots) -> None:
        token = ""
        while True:
            self.reads += 1
            snapshots, token = await self.hook.custom_job_page(self._project, region, filter_, token)
            found.update((ResourceName.parse(snapshot["job"]).identity, snapshot) for snapshot in snapshots)
            if not token:
                return


class ResourceSource:
    """
    Persistent resources. They are read one by one, since their list has no filter and may lack those that are
    being created, but each once for all tasks that wait for it.

    :param hook: Where to ask.
    """

    def __init__(self, hook: PersistentResourceAsyncHook) -> None:
        self.hook: VertexAsyncHook = hook
        self.reads = 0

    async def read_moving(self, found: Snapshots) -> None:
        """Read nothing: only what is asked for is read."""

    async def read(self, asked: Mapping[Identity, PersistentResourceTrigger], found: Snapshots) -> None:
        """Read the resources asked for."""
        self.reads += len(asked)
        await read_each(asked, self.hook, found)


async def read_each(asked: Mapping[Identity, VertexTrigger], hook: VertexAsyncHook, found: Snapshots) -> None:
    """
    Read things one by one, at the same time; what is refused is left out.

    :raises Exception: The first that passes by itself, or that is ours, once all have been asked for.
    """

    async def read_one(identity: Identity, trigger: VertexTrigger) -> None:
        try:
            found[identity] = await trigger.look(hook)
        except Exception as error:
            if is_transient(error) or call_problem(error) is None:
                raise

    results = await asyncio.gather(*(read_one(*item) for item in asked.items()), return_exceptions=True)
    if errors := [result for result in results if result is not None]:
        raise errors[0]
