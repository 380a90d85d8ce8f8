# SPDX-License-Identifier: Apache-2.0
"""How many machines there are at which time, as a user writes it."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_vertex_persistent.emulator import EmulatorSettings
from airflow_vertex_persistent.emulator.gpus import METRICS
from airflow_vertex_persistent.emulator.stock import Stock
from airflow_vertex_persistent.emulator.timetable import Change, Timetable, parse_stock

NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)
STEPS = "0, then 8 after 20 s, then 0 after 1 min, then 9 at 02:00, then unlimited after 0.5 h"
RANDOM = "random seed={} free=300 taken=900 machines=8"


def begun(text: str, where: str = "europe-west4/a3-highgpu-8g") -> Timetable:
    """A timetable that begins at noon."""
    return parse_stock(text)(NOON, where)


def changes(table: Timetable, count: int) -> list[Change]:
    """The first changes of a timetable after its beginning."""
    found, now = list[Change](), NOON
    while len(found) < count and (change := table.next_change(now)):
        found.append(change)
        now = change.moment
    return found


@pytest.mark.parametrize(("text", "machines"), [("8", 8), ("never", 0), (" 0 ", 0), ("unlimited", math.inf)])
def test_a_number_stays(text: str, machines: float) -> None:
    """At all times, and nothing is to come."""
    table = begun(text)
    assert [table.at(NOON + timedelta(days=days)) for days in (-1, 0, 9)] == [machines] * 3
    assert table.next_change(NOON) is None


def test_steps_count_from_the_step_before() -> None:
    """A time of day is the next one after that step, in UTC."""
    table = begun(STEPS)
    first, minute = NOON + timedelta(seconds=20), timedelta(minutes=1)
    night = datetime(2026, 2, 1, 2, tzinfo=UTC)
    assert changes(table, 9) == [
        (first, 8),
        (first + minute, 0),
        (night, 9),
        (night + timedelta(minutes=30), math.inf),
    ]
    assert table.at(NOON) == 0
    assert table.at(first) == 8  # looking back is possible
    assert table.at(first - timedelta(microseconds=1)) == 0
    assert table.at(night + timedelta(days=9)) == math.inf


def test_a_time_of_day_that_has_come_is_tomorrows() -> None:
    """At noon, 12:00 is in a day."""
    assert changes(begun("0, then 1 at 12:00"), 1) == [(NOON + timedelta(days=1), 1)]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "'' is no number of machines to begin with. A stock is 8, never"),
        ("-1", "'-1' is no number of machines"),
        ("8.5", "'8.5' is no number of machines"),
        ("often", "'often' is no number of machines"),
        ("never, then 8 after 20 s", "'never' is no number of machines"),
        ("0, 8 after 20 s", "step '8 after 20 s' is not of the form"),
        ("0, then 8 after 20", "step 'then 8 after 20' is not of the form"),
        (
            "0, then 8 after 20 s, then 8 in 20s",
            "step 'then 8 in 20s' is not of the form .* A stock is 8, never",
        ),
        ("0, then 8 at 24:00", "step 'then 8 at 24:00' is not of the form"),
        ("0, then 8 after 9999999 min", "at most 366 days"),
        ("random", "a random one is 'random seed=1"),
        ("random seed=1 free=300 taken=900", "a random one is"),
        ("random seed=x free=300 taken=900 machines=8", "a random one is"),
        ("random seed=1 free=0 taken=900 machines=8", "means of 0.1 s to 366 days"),
        ("random seed=1 free=300 taken=999999999 machines=8", "means of 0.1 s to 366 days"),
    ],
)
def test_what_makes_no_sense_is_told(text: str, words: str) -> None:
    """With what is possible, by the settings too."""
    with pytest.raises(ValueError, match=words):
        parse_stock(text)
    with pytest.raises(ValueError, match=words):
        EmulatorSettings(stock={"*/*": text})


@pytest.mark.parametrize("where", ["a3-highgpu-8g", "europe-west4/", "Europe/a3", "a/b/c", ""])
def test_a_stock_is_of_a_region_and_a_machine_type(where: str) -> None:
    """Anything else is refused."""
    with pytest.raises(ValueError, match="is not of the form REGION/MACHINE_TYPE"):
        EmulatorSettings(stock={where: "8"})


@pytest.mark.parametrize(
    ("quota", "words"),
    [
        (
            {"europe-west4/custom_model_training_nvidia_h100_80gb_gpus": 8},
            "mean custom_model_training_nvidia_a100",
        ),
        (
            {"europe-west4/h100": 8},
            "no metric 'h100'; Metrics are custom_model_training_GPU_gpus.* nvidia_h100,",
        ),
        ({"europe-west4": 8}, "no metric 'europe-west4'; Metrics are"),
        ({"custom_model_training_nvidia_l4_gpus": 8}, "is not of the form REGION/METRIC"),
        ({"*/custom_model_training_nvidia_l4_gpus": -1}, "use 0 or more"),
    ],
)
def test_a_quota_is_of_a_region_and_a_metric(quota: dict[str, int], words: str) -> None:
    """A metric that does not exist would never count."""
    with pytest.raises(ValueError, match=words):
        EmulatorSettings(quota=quota)


def test_metrics_are_called_as_the_service_does() -> None:
    """With the preemptible ones for Spot and Flex Start."""
    for gpu in ("l4", "a100", "a100_80gb", "h100", "h200", "b200", "t4"):
        assert {
            f"custom_model_training_nvidia_{gpu}_gpus",
            f"custom_model_training_preemptible_nvidia_{gpu}_gpus",
        } <= METRICS


@given(seed=st.integers(0, 10**6))
def test_a_random_stock_alternates_and_can_be_repeated(seed: int) -> None:
    """The same seed gives the same periods however it is asked, and each place has its own."""
    text = RANDOM.format(seed)
    found = changes(begun(text), 20)
    assert all(before.moment < after.moment for before, after in pairwise(found))
    assert [change.amount for change in found[:4]] in ([8, 0, 8, 0], [0, 8, 0, 8])
    other = begun(text)
    late = found[-2].moment
    assert other.at(late) == found[-2].amount
    assert other.next_change(late) == found[-1]
    assert [other.at(change.moment) for change in found] == [change.amount for change in found]
    assert changes(begun(text, "us-central1/a3-highgpu-8g"), 20) != found


def test_a_random_stock_has_the_means_that_it_says() -> None:
    """Over many periods, within a tenth."""
    found = changes(begun(RANDOM.format(7)), 4000)
    lengths: dict[float, list[float]] = {0: [], 8: []}
    for before, after in pairwise(found):
        lengths[before.amount].append((after.moment - before.moment).total_seconds())
    means = {amount: sum(some) / len(some) for amount, some in lengths.items()}
    assert means == pytest.approx({0: 900, 8: 300}, rel=0.1)


def test_the_most_exact_stock_counts() -> None:
    """Region and machine type, then region, then machine type, then anything; the rest is unlimited."""
    stock = Stock({"r/m": 1, "r/*": "2", "*/m": "3"}, NOON)
    asked = [("r", "m"), ("r", "x"), ("x", "m"), ("x", "x")]
    assert [stock.at(*where, NOON) for where in asked] == [1, 2, 3, math.inf]
    stock.set("*/*", "4", NOON)
    stock.set("r/m", "5, then 6 after 1 min", NOON)
    assert [stock.at(*where, NOON) for where in asked] == [5, 2, 3, 4]
    assert stock.next_change("r", "m", NOON) == (NOON + timedelta(minutes=1), 6)
    assert list(stock.named()) == [("r", "m")]
    assert [rule.where for rule in stock.wildcards()] == ["*/*", "*/m", "r/*"]
