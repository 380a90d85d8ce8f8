# SPDX-License-Identifier: Apache-2.0
"""
What the trials of a tuning job say: which is the best, how many there are, what is kept of them.

Goals say what is better, by metric id: ``"maximize"`` or ``"minimize"``, the metric that decides first. The API
does not mark the best trial.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from typing import Any, TypedDict

Goals = Mapping[str, str]
"""``"maximize"`` or ``"minimize"`` by metric id, the metric that decides first."""

MAXIMIZE, MINIMIZE = "maximize", "minimize"
SUCCEEDED, INFEASIBLE = "SUCCEEDED", "INFEASIBLE"


class TrialSnapshot(TypedDict):
    """
    What one look at a trial says.

    It is ready for JSON except that metrics may be NaN or infinite. ``state`` is ``REQUESTED``, ``ACTIVE``,
    ``STOPPING``, ``SUCCEEDED`` or ``INFEASIBLE``: the API has none for a trial that failed, which is
    ``INFEASIBLE`` too. ``metrics`` and ``step`` are those of the final measurement, empty and ``None`` when there
    is none. Each of ``measurements`` has ``step``, ``elapsed_seconds`` and ``metrics``; there are none where nobody
    asked for them. Times are RFC 3339 in UTC. ``custom_job`` is the job's full name.
    """

    id: str
    state: str
    parameters: dict[str, int | float | str]
    metrics: dict[str, float]
    step: int | None
    measurements: list[dict[str, Any]]
    start_time: str | None
    end_time: str | None
    custom_job: str | None
    infeasible_reason: str


class TuningSnapshot(TypedDict):
    """What one look at a tuning job says of its search. ``max_failed_trial_count`` is 0 for the service's rule."""

    display_name: str
    goals: dict[str, str]
    max_trial_count: int
    max_failed_trial_count: int
    trials: list[TrialSnapshot]


def best_trial(trials: Iterable[TrialSnapshot], goals: Goals) -> TrialSnapshot | None:
    """
    Return the best trial, ``None`` if there is none.

    Only trials that succeeded and whose first metric is a finite number take part: not NaN, not infinite, not
    missing. The first metric decides. Trials that are equal there are told apart by the next metric, and so on; a
    trial that has no finite number there comes after those that have one. What is still equal: the smallest trial
    number.
    """
    candidates = [trial for trial in trials if takes_part(trial, goals)]
    return min(candidates, key=lambda trial: _rank(trial, goals), default=None)


def best_first(trials: Iterable[TrialSnapshot], goals: Goals) -> list[TrialSnapshot]:
    """Return the trials that may be the best, by the rule of :func:`best_trial`, the best first."""
    return sorted(
        (trial for trial in trials if takes_part(trial, goals)), key=lambda trial: _rank(trial, goals)
    )


def takes_part(trial: TrialSnapshot, goals: Goals) -> bool:
    """Tell whether a trial may be the best: it succeeded and its first metric is a finite number."""
    first = next(iter(goals), None)
    return trial["state"] == SUCCEEDED and first is not None and finite_metric(trial, first) is not None


def finite_metric(trial: TrialSnapshot, metric: str) -> float | None:
    """Return a metric of the final measurement, ``None`` if it is missing, NaN or infinite."""
    value = trial["metrics"].get(metric)
    return value if value is not None and math.isfinite(value) else None


def has_ended(trial: TrialSnapshot) -> bool:
    """Tell whether a trial will not change any more."""
    return trial["state"] in {SUCCEEDED, INFEASIBLE}


def trial_number(trial: TrialSnapshot) -> int:
    """Return the number that a trial's id is."""
    return int(trial["id"])


def trial_counts(trials: Iterable[TrialSnapshot]) -> dict[str, int]:
    """
    Return how many trials ``succeeded``, are ``infeasible`` and are ``running``, and the ``total`` of these.

    Running are all that have not ended, requested and stopping ones included, and those in a state of a newer
    service.
    """
    states = [trial["state"] for trial in trials]
    succeeded, infeasible = states.count(SUCCEEDED), states.count(INFEASIBLE)
    return {
        "succeeded": succeeded,
        "infeasible": infeasible,
        "running": len(states) - succeeded - infeasible,
        "total": len(states),
    }


def best_trial_result(
    trials: Iterable[TrialSnapshot], goals: Goals, output_dir: str | None
) -> dict[str, Any] | None:
    """
    Return what a tuning task hands on of its best trial, ``None`` if there is none.

    ``id``, ``parameters``, ``metrics`` (``None`` for what is NaN or infinite), ``model_dir`` and ``custom_job``: as
    small for a thousand trials as for one.

    :param output_dir: Of the tuning job; each trial has a folder there by the name of its number.
    """
    best = best_trial(trials, goals)
    if best is None:
        return None
    return {
        "id": best["id"],
        "parameters": dict(best["parameters"]),
        "metrics": _without_nan(best["metrics"]),
        "model_dir": output_dir and f"{output_dir.rstrip('/')}/{best['id']}/model",
        "custom_job": best["custom_job"],
    }


def json_lines(trials: Iterable[TrialSnapshot]) -> str:
    """
    Return one line of JSON for each trial, by trial number; each line ends with a newline.

    What is NaN or infinite is ``null``, as JSON has neither.
    """
    lines = [json.dumps(_without_nan(trial), allow_nan=False) for trial in sorted(trials, key=trial_number)]
    return "".join(f"{line}\n" for line in lines)


def _rank(trial: TrialSnapshot, goals: Goals) -> tuple[Any, ...]:
    """Return what orders trials from the best to the worst."""
    ranks = []
    for metric, goal in goals.items():
        value = finite_metric(trial, metric)
        ranks.append((1, 0.0) if value is None else (0, value if goal == MINIMIZE else -value))
    return (*ranks, trial_number(trial))


def _without_nan(value: Any) -> Any:
    """Return a copy of a value that JSON can say, with ``None`` for every number that is NaN or infinite."""
    if isinstance(value, Mapping):
        return {key: _without_nan(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_without_nan(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
