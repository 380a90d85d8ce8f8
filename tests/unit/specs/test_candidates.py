# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

from typing import Any

import pytest

from airflow_vertex_persistent.exceptions import InvalidRequestError
from airflow_vertex_persistent.specs.candidates import candidate, read_candidates, with_candidate
from airflow_vertex_persistent.specs.checks import Problems


def test_a_candidate_is_a_plain_mapping() -> None:
    """Only what is written is in it, so that templates work and everything else is the operator's."""
    assert candidate(region="us-central1", max_wait_duration=0, base_output_dir="gs://b/x") == {
        "region": "us-central1",
        "max_wait_duration": 0,
        "base_output_dir": "gs://b/x",
    }


def test_without_candidates_there_is_one() -> None:
    """It says nothing: the operator's own parameters hold."""
    assert read_candidates(None, Problems("custom job")) == {0: {}}


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ([], ["candidates: write a list of candidate(region=..., machine_type=...)"]),
        ("us-central1", ["candidates: write a list of candidate(region=..., machine_type=...)"]),
        ({"region": "r"}, ["candidates: write a list of candidate(region=..., machine_type=...)"]),
        (["us-central1"], ["candidates[0]: write a mapping, as candidate(...) returns it"]),
        (
            [{"regoin": "us-central1"}, {"wings": 2}],
            [
                "candidates[0].regoin: a candidate has no such field; did you mean 'region'?",
                "candidates[1].wings: ",
            ],
        ),
        (
            ["us-central1", {"wings": 2}],
            ["candidates[0]: write a mapping", "candidates[1].wings: a candidate has no such field"],
        ),
    ],
)
def test_wrong_candidates(value: Any, told: list[str]) -> None:
    """Every one is told, by its number and field, with the fix."""
    problems = Problems("custom job")
    read_candidates(value, problems)
    with pytest.raises(InvalidRequestError) as caught:
        problems.raise_if_any()
    for problem, start in zip(caught.value.problems, told, strict=True):
        assert problem.startswith(start)


def test_candidates_keep_their_numbers() -> None:
    """What is told of the one after an entry that is none carries its own number."""
    assert read_candidates(["us-central1", {"region": "a"}], Problems("custom job")) == {1: {"region": "a"}}


@pytest.mark.parametrize(
    ("wanted", "chosen", "result"),
    [
        ({"region": "a", "labels": {}}, {"region": "b"}, {"region": "b", "labels": {}}),
        (
            {"container_uri": "i", "machine_type": "m"},
            {"worker_pool_specs": [1]},
            {"container_uri": None, "machine_type": None, "worker_pool_specs": [1]},
        ),
        (
            {"worker_pool_specs": [1]},
            {"container_uri": "i", "machine_type": "m"},
            {"worker_pool_specs": None, "container_uri": "i", "machine_type": "m"},
        ),
    ],
)
def test_what_a_candidate_changes(
    wanted: dict[str, Any], chosen: dict[str, Any], result: dict[str, Any]
) -> None:
    """Its fields take the place of the operator's, and its way to write the work that of the other way."""
    found = with_candidate(wanted, chosen)
    assert {field: value for field, value in found.items() if field in result or value is not None} == result
