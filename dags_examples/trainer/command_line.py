# SPDX-License-Identifier: Apache-2.0
"""How ``train.py`` is told what to do: flags, with dashes or underscores, and the folders that Vertex AI names."""

from __future__ import annotations

import argparse
import math
import os
import sys
from datetime import date
from typing import TYPE_CHECKING

import hyperparameters
from hyperparameters import whole_number

if TYPE_CHECKING:
    from collections.abc import Sequence

VALIDATION_SHARES = 0.05, 0.5  # smallest and largest


def parse(command_line: Sequence[str] | None = None) -> argparse.Namespace:
    """
    Read the command line.

    A job that has a base output directory is told both folders by Vertex AI.
    """
    parser = argparse.ArgumentParser(description="Train tonight's model.")
    parser.add_argument("--data-date", type=date.fromisoformat, required=True, help="night to learn from")
    parser.add_argument("--max-iter", type=whole_number, default=40, help="epochs (%(default)s)")
    parser.add_argument(
        "--checkpoint-every", type=whole_number, default=10, help="epochs between two (%(default)s)"
    )
    parser.add_argument(
        "--validation-share", type=float, default=0, help="of the images, to tune on (%(default)s)"
    )
    parser.add_argument("--pause-per-epoch", type=float, default=0, help="seconds, for a look (%(default)s)")
    parser.add_argument("--model-dir", default=os.environ.get("AIP_MODEL_DIR"))
    parser.add_argument("--checkpoint-dir", default=os.environ.get("AIP_CHECKPOINT_DIR"))
    hyperparameters.add_flags(parser)
    given = sys.argv[1:] if command_line is None else command_line
    arguments = parser.parse_args([hyperparameters.with_dashes(argument) for argument in given])
    try:
        hyperparameters.check(arguments)
        check(arguments)
    except ValueError as wrong:
        parser.error(str(wrong))
    return arguments


def check(arguments: argparse.Namespace) -> None:
    """
    Check what is no hyperparameter.

    :raises ValueError: It is out of its range, or there is nowhere to write.
    """
    if arguments.max_iter < 1 or arguments.checkpoint_every < 1:
        raise ValueError("--max-iter and --checkpoint-every must be at least 1")
    low, high = VALIDATION_SHARES
    if arguments.validation_share and not low <= arguments.validation_share <= high:
        raise ValueError(
            f"--validation-share {arguments.validation_share} must be 0, or between {low} and {high}"
        )
    if not 0 <= arguments.pause_per_epoch < math.inf:
        raise ValueError(
            f"--pause-per-epoch {arguments.pause_per_epoch} must be a number of 0 or more seconds"
        )
    if not arguments.model_dir or not arguments.checkpoint_dir:
        raise ValueError(
            "nowhere to write: set the job's base output directory, or --model-dir and --checkpoint-dir"
        )
