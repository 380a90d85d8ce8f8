# SPDX-License-Identifier: Apache-2.0
"""What the fields of a ListCustomJobs filter mean, as the API documents them."""

from __future__ import annotations

from google.cloud.aiplatform_v1.types import JobState

from airflow_vertex_persistent.emulator import filters
from airflow_vertex_persistent.emulator.errors import invalid

_LABELS = "labels."


def job_test(text: str) -> filters.Test:
    """
    Turn a filter into a test of one :class:`~airflow_vertex_persistent.emulator.job_table.JobRow`.

    :raises ApiError: INVALID_ARGUMENT when it cannot be read or asks for other fields.
    """
    try:
        return filters.parse(text, _meaning)
    except filters.FilterError as error:
        raise invalid(f"Invalid filter {text!r}: {error}.") from error


def label_needs(test: filters.Test) -> list[tuple[str, frozenset[str]]]:
    """Find labels, each with values of which a job must have one for a test to hold."""
    return [
        (field.removeprefix(_LABELS), values)
        for field, values in filters.needs(test)
        if field.startswith(_LABELS)
    ]


def _meaning(comparison: filters.Comparison) -> filters.Test:
    field, operator, value = comparison.field, comparison.operator, comparison.value
    if field == "display_name":
        return filters.text_test(comparison, lambda row: str(row.display_name))
    if field == "state":
        if operator not in {"=", "!="} or value not in JobState.__members__:
            raise filters.FilterError(f"state{operator}{value!r} is not a comparison with a JobState")
        return filters.text_test(comparison, lambda row: str(row.state))
    if field == "create_time":
        return filters.time_test(comparison, lambda row: row.create_time)
    if label := field.removeprefix(_LABELS) if field.startswith(_LABELS) else "":
        return filters.text_test(comparison, lambda row: row.labels.get(label))
    raise filters.FilterError(f"field {field!r} is not one of display_name, state, create_time, labels.KEY")
