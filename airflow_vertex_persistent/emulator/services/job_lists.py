# SPDX-License-Identifier: Apache-2.0
"""Lists of jobs of any kind: filter, read mask and pages."""

from __future__ import annotations

from datetime import timedelta
from itertools import dropwhile
from typing import TYPE_CHECKING, Any

from airflow_vertex_persistent.emulator.paging import first_page, last_place

from .job_filter import job_test, label_needs
from .read_mask import masking

if TYPE_CHECKING:
    from airflow_vertex_persistent.emulator.job_table import JobTable
    from airflow_vertex_persistent.emulator.lifecycle import Job
    from airflow_vertex_persistent.emulator.world import World

    from . import Call


def fill_page(world: World, jobs: JobTable[Job], request: Any, call: Call, found: Any) -> str:
    """
    Put the jobs that a list call asks for into its answer, newest first.

    Raw protocol buffers: wrapping and copying each job once more would take most of the time.

    :param request: of a list call for jobs.
    :param found: the field of the raw answer that is to hold them.
    :return: the token of the next page, or an empty string.
    """
    location = call.parent(request.parent)
    question = f"{location} {request.filter}"
    test = job_test(request.filter)
    copy = masking(found.add().DESCRIPTOR, request.read_mask)
    del found[:]
    before = last_place(request.page_token, question)
    rows = jobs.rows(location, before, label_needs(test))
    if lag := world.settings.list_lag_seconds:
        seen_until = world.clock() - timedelta(seconds=lag)
        rows = dropwhile(lambda row: row.create_time > seen_until, rows)
    chosen, token = first_page(
        filter(test, rows), lambda row: row.number, size=request.page_size, question=question
    )
    for row in chosen:
        copy(row.raw, found.add())
    return token
