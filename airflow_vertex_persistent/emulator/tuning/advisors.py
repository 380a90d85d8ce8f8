# SPDX-License-Identifier: Apache-2.0
"""
What is tried next: by Optuna for the default algorithm and for random search, point by point for grid search.

Optuna takes a while to import, so only the first suggestion pays for it. Everything here may take its time, and is
called in a thread.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, Protocol

from google.cloud.aiplatform_v1.types import StudySpec

from .measurements import sign
from .space import choose, grid

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .space import Value

_Algorithm = StudySpec.Algorithm


class Advisor(Protocol):
    """Chooses the parameters of trials, one trial after the other."""

    def ask(self) -> dict[str, Value] | None:
        """Choose the parameters of the next trial, ``None`` when everything has been tried."""

    def tell(self, trial: int, values: Mapping[str, float] | None) -> None:
        """
        Learn from a trial that is done.

        :param trial: how many trials were asked for before it.
        :param values: what counts of its metrics, ``None`` for an infeasible one.
        """


def advisor_for(study: StudySpec, seed: int) -> Advisor:
    """
    Make what chooses the parameters for a study.

    :param seed: of what is random.
    """
    if study.algorithm == _Algorithm.GRID_SEARCH:
        return GridAdvisor(study)
    return OptunaAdvisor(study, seed)


class GridAdvisor:
    """Tries all points of a space, in order."""

    def __init__(self, study: StudySpec) -> None:
        self._points = grid(list(study.parameters))

    def ask(self) -> dict[str, Value] | None:
        """Choose the next point."""
        return next(self._points, None)

    def tell(self, trial: int, values: Mapping[str, float] | None) -> None:
        """A grid learns nothing."""


class OptunaAdvisor:
    """
    Lets Optuna choose: by its tree-structured Parzen estimator, or at random.

    :param seed: the same seed and the same results give the same parameters.
    """

    def __init__(self, study: StudySpec, seed: int) -> None:
        self._spec = study
        self._seed = seed
        self._study: Any = None
        self._trials: list[Any] = []

    def _begin(self) -> Any:
        import optuna

        if self._spec.algorithm == _Algorithm.RANDOM_SEARCH:
            sampler: Any = optuna.samplers.RandomSampler(seed=self._seed)
        else:
            # Trials that run at the same time should not all look at the same place.
            sampler = optuna.samplers.TPESampler(seed=self._seed, constant_liar=True)
        directions: list[Literal["maximize", "minimize"]] = [
            "maximize" if sign(metric) > 0 else "minimize" for metric in self._spec.metrics
        ]
        verbosity = optuna.logging.get_verbosity()
        optuna.logging.set_verbosity(optuna.logging.WARNING)  # it would tell of each study
        try:
            return optuna.create_study(sampler=sampler, directions=directions)
        finally:
            optuna.logging.set_verbosity(verbosity)

    def ask(self) -> dict[str, Value] | None:
        """Choose parameters from what is known so far."""
        self._study = self._study or self._begin()
        trial = self._study.ask()
        self._trials.append(trial)
        return choose(self._spec.parameters, trial)

    def tell(self, trial: int, values: Mapping[str, float] | None) -> None:
        """Learn from a trial; an infeasible one teaches nothing."""
        from optuna.trial import TrialState

        if values is None:
            self._study.tell(self._trials[trial], state=TrialState.FAIL)
        else:
            self._study.tell(self._trials[trial], [values[metric.metric_id] for metric in self._spec.metrics])
