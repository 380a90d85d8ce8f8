# SPDX-License-Identifier: Apache-2.0
"""
Jobs with what a list call asks of each, read once per change and not once per call.

A filter over thousands of jobs is a matter of milliseconds only when it reads plain Python values.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import chain
from typing import TYPE_CHECKING, Any

from google.cloud.aiplatform_v1.types import JobState

from .lifecycle import Job
from .names import Location
from .table import EVERYWHERE, Table

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from .journal import Journal
    from .names import Key

_Group = tuple[Location] | tuple[Location, str, str]
_WORTH_SORTING = 4
_STATES = {int(state): name for name, state in JobState.__members__.items()}


@dataclass(frozen=True, slots=True)
class JobRow:
    """
    One job as list calls see it.

    :param number: its id; later jobs have larger ones.
    :param raw: its protocol buffer, not to be changed.
    :param state: name of its state.
    """

    number: int
    raw: Any
    state: str
    display_name: str
    labels: Mapping[str, str]

    @property
    def create_time(self) -> datetime:
        """When it was created."""
        created: datetime = self.raw.create_time.ToDatetime(tzinfo=UTC)
        return created


class JobTable(Table[Job]):
    """
    All jobs of a kind.

    :param kind: type of the jobs.
    :param journal: has what an emulator before us left, and gets every change.
    """

    def __init__(self, kind: type[Job], journal: Journal) -> None:
        super().__init__(kind, journal)
        self._shown: dict[int, JobRow] = {}
        self._groups: dict[_Group, list[int]] = {}
        for key, job in reversed(self.newest_first()):
            self._show(key, job)

    def put(self, key: Key, message: Job) -> None:
        """Keep a job, in place of its older self."""
        super().put(key, message)
        self._show(key, message)

    def _show(self, key: Key, job: Job) -> None:
        raw, number = type(job).pb(job), int(key.id)
        row = JobRow(number, raw, _STATES[raw.state], raw.display_name, dict(raw.labels.items()))
        if number not in self._shown:  # labels never change
            for group in _groups(key.location, row):
                insort(self._groups.setdefault(group, []), number)
        self._shown[number] = row

    def remove(self, key: Key) -> None:
        """Forget a job; unknown ones are no error."""
        super().remove(key)
        if (row := self._shown.pop(int(key.id), None)) is None:
            return
        for group in _groups(key.location, row):
            numbers = self._groups[group]
            del numbers[bisect_left(numbers, row.number)]
            if not numbers:
                del self._groups[group]

    def rows(
        self, location: Location, before: int | None = None, labels: Iterable[tuple[str, frozenset[str]]] = ()
    ) -> Iterator[JobRow]:
        """
        Yield the jobs of one location, or of :data:`~.table.EVERYWHERE`, newest first.

        :param before: begin with the newest that is older than the one of this number.
        :param labels: keys, each with values of which a job must have one to be of interest. Only a hint: it spares
            looking at jobs, and others may come as well.
        """
        numbers = self._groups.get((location,), [])
        for label, values in labels if location != EVERYWHERE else ():
            groups = [self._groups.get((location, label, value), []) for value in values]
            if sum(map(len, groups)) * _WORTH_SORTING < len(numbers):
                numbers = sorted(chain.from_iterable(groups))
        end = len(numbers) if before is None else bisect_left(numbers, before)
        for index in range(end - 1, -1, -1):
            yield self._shown[numbers[index]]


def _groups(location: Location, row: JobRow) -> Iterator[_Group]:
    """Yield everything under which a job can be found: its place, all places, its labels in its place."""
    yield (location,)
    yield (EVERYWHERE,)
    for item in row.labels.items():
        yield (location, *item)
