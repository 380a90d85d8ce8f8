# SPDX-License-Identifier: Apache-2.0
"""Hands the parameters of a best trial to the training task that comes next."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, overload

from airflow.sdk import XComArg
from airflow.sdk.definitions.xcom_arg import ConcatXComArg
from airflow.sdk.exceptions import AirflowFailException, XComNotFound


@overload
def trial_args(best_trial: XComArg, *args: str | XComArg) -> XComArg: ...
@overload
def trial_args(best_trial: Mapping[str, Any] | None, *args: str | XComArg) -> list[str | XComArg]: ...
def trial_args(
    best_trial: Mapping[str, Any] | XComArg | None, *args: str | XComArg
) -> list[str | XComArg] | XComArg:
    """
    Return command-line arguments with the parameters of a best trial: ``args``, then ``--name=value`` for each.

    They are the parameters of the trial, so that the same training code can train once more, longer or on more data::

        train = PersistentResourceCustomJobOperator(
            task_id="train", args=trial_args(tune.output["best_trial"], "--epochs=50"), ...
        )

    Whole numbers are written ``3``, others with all their digits, texts as they are.

    :param best_trial: What a tuning task hands on under ``best_trial``; or, in a DAG file, the reference to it: then
        the list is made when the task runs, and the task comes after the one that tunes.
    :param args: Arguments before the parameters, each a text of its own: ``trial_args(best, "--epochs=50", "-v")``.
        With a reference they may be templates or references themselves.
    :raises TypeError: ``args`` holds a list.
    :raises ValueError: There is no best trial, or it is none of a tuning task.
    :raises AirflowFailException: The same with a reference, when the task runs: it fails without retries.
    """
    if any(isinstance(arg, list | tuple) for arg in args):
        raise TypeError(
            'trial_args takes each argument as a text of its own: trial_args(best, "--epochs=50", "-v")'
        )
    if isinstance(best_trial, XComArg):
        return TrialArgs(best_trial, args)
    return [*args, *_flags(best_trial)]


class TrialArgs(ConcatXComArg):
    """
    Arguments that are put together when the task runs, as :func:`trial_args` makes them in a DAG file.

    It is one of the few kinds of references that Airflow can write down with a DAG: several put into one.

    :param best_trial: Reference to the best trial.
    :param before: Arguments before its parameters: texts, templates, references.
    """

    def __init__(self, best_trial: XComArg, before: tuple[str | XComArg, ...]) -> None:
        super().__init__([best_trial, *(arg for arg in before if isinstance(arg, XComArg))])
        self.best_trial = best_trial
        self.before = before

    def __repr__(self) -> str:
        return f"trial_args({', '.join(map(repr, (self.best_trial, *self.before)))})"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, TrialArgs):
            return NotImplemented
        return (self.best_trial, self.before) == (other.best_trial, other.before)

    __hash__ = None  # as that of every reference

    def concat(self, *others: XComArg) -> ConcatXComArg:
        """Return a reference to these arguments and more."""
        return ConcatXComArg([self, *others])

    def resolve(self, context: Mapping[str, Any]) -> list[Any]:
        """Return the arguments as a list."""
        try:
            best = self.best_trial.resolve(context)
        except XComNotFound:  # also what Airflow says of one that is None
            best = None
        before = context["task"].render_template(list(self.before), context)
        try:
            return [*before, *_flags(best)]
        except ValueError as error:
            raise AirflowFailException(str(error)) from error  # a retry would find the same


def _flags(best_trial: Any) -> list[str]:
    """Return the parameters of a best trial as flags."""
    if best_trial is None:
        raise ValueError(
            "There is no best trial to take parameters from: no trial succeeded with a finite value of the first "
            "metric, or the task that tunes handed on nothing. Its log has a table of the trials, with the reason "
            "of each that is infeasible. To go on without one, branch on best_trial before this task."
        )
    parameters = best_trial.get("parameters") if isinstance(best_trial, Mapping) else None
    if not isinstance(parameters, Mapping):
        raise ValueError(  # noqa: TRY004 # the same to whoever reads it: there is nothing to train with
            'trial_args takes the best trial of a tuning task, such as tune.output["best_trial"]: it got '
            f"a {type(best_trial).__name__} that has no parameters."
        )
    return [f"--{name}={_text(value)}" for name, value in parameters.items()]


def _text(value: float | str) -> str:
    """Return a parameter as the command line says it."""
    return repr(value) if isinstance(value, float) else str(value)
