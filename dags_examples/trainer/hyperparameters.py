# SPDX-License-Identifier: Apache-2.0
"""What can be tuned: the flags of the two kinds of models, and how a model is made of them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from sklearn.calibration import CalibratedClassifierCV
from sklearn.neural_network import MLPClassifier
from sklearn.svm import SVC

if TYPE_CHECKING:
    import argparse

NETWORK, SVM = "mlp", "svm"
# Which hyperparameters go with which model; a tuning job sends no others.
OF_MODEL = {
    NETWORK: ("learning_rate", "hidden_units", "alpha", "batch_size"),
    SVM: ("C", "gamma"),
}


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Add a flag for each hyperparameter."""
    parser.add_argument(
        "--model", choices=OF_MODEL, default=NETWORK, help="neural network or support vectors (%(default)s)"
    )
    network = parser.add_argument_group("neural network")
    network.add_argument("--learning-rate", type=float, default=0.005, help="step size (%(default)s)")
    network.add_argument("--hidden-units", type=whole_number, default=64, help="neurons (%(default)s)")
    network.add_argument("--alpha", type=float, default=0.0001, help="L2 penalty (%(default)s)")
    network.add_argument("--batch-size", type=whole_number, default=200, help="images a step (%(default)s)")
    vectors = parser.add_argument_group("support vectors")
    vectors.add_argument("--C", type=float, default=1.0, help="weight of errors (%(default)s)")
    vectors.add_argument("--gamma", type=float, default=0.05, help="1 / width of a kernel (%(default)s)")


def check(arguments: argparse.Namespace) -> None:
    """
    Check the values of all hyperparameters.

    :raises ValueError: One is out of its range.
    """
    for name in ("learning_rate", "C", "gamma"):
        if not 0 < getattr(arguments, name) < math.inf:
            raise ValueError(f"{flag(name)} {getattr(arguments, name)} must be above 0, and finite")
    if not 0 <= arguments.alpha < math.inf:
        raise ValueError(f"--alpha {arguments.alpha} must be 0 or more, and finite")
    if arguments.hidden_units < 1 or arguments.batch_size < 1:
        raise ValueError("--hidden-units and --batch-size must be at least 1")


def chosen(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return the model and its hyperparameters, by name."""
    names = ("model", *OF_MODEL[arguments.model])
    return {name: getattr(arguments, name) for name in names}


def make_model(arguments: argparse.Namespace) -> Any:
    """Return a model that has learned nothing yet."""
    if arguments.model == SVM:
        # Support vectors give no probabilities, which the exam asks for: they are calibrated.
        return CalibratedClassifierCV(
            SVC(C=arguments.C, gamma=arguments.gamma), method="temperature", ensemble=False
        )
    return MLPClassifier(
        (arguments.hidden_units,),
        learning_rate_init=arguments.learning_rate,
        alpha=arguments.alpha,
        batch_size=arguments.batch_size,
        random_state=0,
    )


def whole_number(text: str) -> int:
    """Read a whole number, also one that a tuning job writes with a point: ``64.0``."""
    number = float(text)
    if not number.is_integer():
        raise ValueError(f"{text} is no whole number")
    return int(number)


def flag(name: str) -> str:
    """Return the flag of a hyperparameter."""
    return "--" + name.replace("_", "-")


def with_dashes(argument: str) -> str:
    """Return a command-line argument with dashes in its flag: tuning jobs send ``--learning_rate=0.01``."""
    name, equals, value = argument.partition("=")
    return flag(name.removeprefix("--")) + equals + value if name.startswith("--") else argument
