# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

from typing import Any

import pytest

from airflow_vertex_persistent.exceptions import InvalidRequestError
from airflow_vertex_persistent.specs.checks import Problems
from airflow_vertex_persistent.specs.sharing import Span, sharing_spans

OWN = Span("night", ("create",), "delete")
OTHER = {"dag_id": "week", "setup": "warm.up", "teardown": "cool.down"}


def problems_of(shared_with: Any, own: Span = OWN) -> tuple[str, ...]:
    """Return what is wrong with it."""
    problems = Problems("deletion")
    sharing_spans(shared_with, own, problems)
    with pytest.raises(InvalidRequestError) as caught:
        problems.raise_if_any()
    return caught.value.problems


@pytest.mark.parametrize(
    ("shared_with", "expected"),
    [
        ((), [OWN]),
        (["week"], [OWN, Span("week", ("create",), "delete")]),
        (
            (OTHER, "month"),
            [OWN, Span("week", ("warm.up",), "cool.down"), Span("month", ("create",), "delete")],
        ),
        (["night", "week", "week"], [OWN, Span("week", ("create",), "delete")]),
        ([{**OTHER, "dag_id": "night"}], [OWN, Span("night", ("warm.up",), "cool.down")]),
    ],
)
def test_the_dags_that_share(shared_with: Any, expected: list[Span]) -> None:
    """The own DAG is always among them, each once, with the ids of here unless others are given."""
    problems = Problems("deletion")
    assert sharing_spans(shared_with, OWN, problems) == expected
    problems.raise_if_any()


def test_without_a_setup_the_own_dag_says_nothing() -> None:
    """A task that tears nothing down has no runs of its own DAG to look at, but those of others."""
    own, problems = Span("night", (), "delete"), Problems("deletion")
    assert sharing_spans((), own, problems) == []
    assert sharing_spans([OTHER], own, problems) == [Span("week", ("warm.up",), "cool.down")]
    problems.raise_if_any()
    (line,) = problems_of(["week"], own)
    assert (
        line
        == "shared_with[0] = 'week': this task has no setup whose id could be meant; write dag_id, setup and teardown"
    )


@pytest.mark.parametrize("shared_with", ["week", None, OTHER, 5, {"week"}])
def test_what_is_no_list_is_refused(shared_with: Any) -> None:
    """A single id, whose letters would be taken for ids, is refused like everything else that is no list."""
    (line,) = problems_of(shared_with)
    assert line == "shared_with: write a list of DAG ids, or of mappings with dag_id, setup and teardown"


def test_every_wrong_entry_is_told() -> None:
    """All that is wrong is told at once, each by its place in the list."""
    wrong = [
        "",
        5,
        None,
        ["week"],
        {},
        {**OTHER, "setup": ["a", "b"], "teardown": ""},
        {**OTHER, "dag": "week"},
    ]
    found = [line.partition(" = ")[0].partition(": ")[0] for line in problems_of(wrong)]
    assert found == [
        "shared_with[0]",
        "shared_with[1]",
        "shared_with[2]",
        "shared_with[3]",
        "shared_with[4].dag_id",
        "shared_with[4].setup",
        "shared_with[4].teardown",
        "shared_with[5].setup",
        "shared_with[5].teardown",
        "shared_with[6].dag",
    ]
