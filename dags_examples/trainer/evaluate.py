# SPDX-License-Identifier: Apache-2.0
"""
Compare tonight's model with yesterday's: ``python evaluate.py --candidate gs://... --champion gs://...``.

Both sit the same exam: tonight's held-out images. The decision is written down, not acted upon.
"""

from __future__ import annotations

import argparse
import logging
import sys
from datetime import date
from typing import Any

import night
import storage

logger = logging.getLogger("evaluate")


def evaluate(arguments: argparse.Namespace) -> dict[str, Any]:
    """Examine both models, write the evaluation and return it."""
    data = night.load(arguments.data_date)
    candidate = data.examine(storage.read_object(storage.join(arguments.candidate, "model.joblib")))
    pointer = storage.read_json(arguments.champion)
    champion = pointer and data.examine(
        storage.read_object(storage.join(pointer["model_dir"], "model.joblib"))
    )
    promote, reason = decide(candidate, champion)
    evaluation = {
        "promote": promote,
        "reason": reason,
        "candidate": {"model_dir": arguments.candidate, **candidate},
        "champion": pointer and champion and {"model_dir": pointer["model_dir"], **champion},
        "data_date": str(arguments.data_date),
    }
    storage.write_json(arguments.output, evaluation)
    return evaluation


def decide(candidate: dict[str, float], champion: dict[str, float] | None) -> tuple[bool, str]:
    """Say whether the candidate replaces the champion, and why."""
    if champion is None:
        return True, f"first model, accuracy {candidate['accuracy']:.4f}: there is nothing to compare it with"
    comparison = f"accuracy {candidate['accuracy']:.4f} against {champion['accuracy']:.4f} of the champion"
    if candidate["accuracy"] < champion["accuracy"]:
        return False, f"worse: {comparison}"
    # Equals are replaced: the newer model has seen the newer data.
    return True, f"at least as good: {comparison}"


def parse(command_line: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description="Compare tonight's model with yesterday's.")
    parser.add_argument("--data-date", type=date.fromisoformat, required=True, help="night of the exam")
    parser.add_argument("--candidate", required=True, help="folder of tonight's model")
    parser.add_argument("--champion", required=True, help="document that names the champion; may not exist")
    parser.add_argument("--output", required=True, help="where the evaluation goes")
    return parser.parse_args(command_line)


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    logger.info("evaluated: %s", evaluate(parse()))
