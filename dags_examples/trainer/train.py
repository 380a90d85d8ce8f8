# SPDX-License-Identifier: Apache-2.0
"""
Train tonight's model: ``python train.py --data-date 2026-03-01``.

Writes a checkpoint every few epochs and starts from the newest one, so that a restarted machine loses
little. The folders come from Vertex AI, which sets them when the job has a base output directory.
"""

from __future__ import annotations

import argparse
import logging
import math
import os
import sys
import time
from datetime import date
from typing import Any

import night
import storage
from sklearn.neural_network import MLPClassifier

logger = logging.getLogger("train")


def train(arguments: argparse.Namespace) -> dict[str, Any]:
    """Train, write model and metrics, and return the metrics."""
    data = night.load(arguments.data_date)
    epoch, model = resume(arguments)
    resumed_at = epoch
    while epoch < arguments.max_iter:
        model.partial_fit(data.images, data.labels, classes=night.DIGITS)
        epoch += 1
        logger.info("epoch %d of %d: loss %.4f", epoch, arguments.max_iter, model.loss_)
        time.sleep(arguments.pause_per_epoch)
        if epoch % arguments.checkpoint_every == 0:
            write_checkpoint(arguments, epoch, model)
    metrics = {
        **data.examine(model),
        "data_date": str(arguments.data_date),
        "learning_rate": arguments.learning_rate,
        "epochs": epoch,
        "resumed_at_epoch": resumed_at,
        "training_images": len(data.labels),
        "held_out_images": len(data.held_out_labels),
    }
    storage.write_object(storage.join(arguments.model_dir, "model.joblib"), model)
    storage.write_json(storage.join(arguments.model_dir, "metrics.json"), metrics)
    return metrics


def resume(arguments: argparse.Namespace) -> tuple[int, MLPClassifier]:
    """Return how many epochs are done already and the model as it was then."""
    checkpoints = storage.list_files(arguments.checkpoint_dir)
    if checkpoints:
        checkpoint = storage.read_object(checkpoints[-1])
        if checkpoint["work"] == work(arguments):
            logger.info("resuming from %s", checkpoints[-1])
            return checkpoint["epoch"], checkpoint["model"]
        logger.info("ignoring %s: it belongs to other settings", checkpoints[-1])
    model = MLPClassifier((64,), learning_rate_init=arguments.learning_rate, random_state=0)
    return 0, model


def write_checkpoint(arguments: argparse.Namespace, epoch: int, model: MLPClassifier) -> None:
    """Write the model as it is after an epoch."""
    uri = storage.join(arguments.checkpoint_dir, f"epoch-{epoch:05d}.joblib")
    storage.write_object(uri, {"epoch": epoch, "model": model, "work": work(arguments)})


def work(arguments: argparse.Namespace) -> tuple[str, float]:
    """Return what a checkpoint must agree on before it may be continued."""
    return str(arguments.data_date), arguments.learning_rate


def parse(command_line: list[str] | None = None) -> argparse.Namespace:
    """Read the command line and the folders that Vertex AI names."""
    parser = argparse.ArgumentParser(description="Train tonight's model.")
    parser.add_argument("--data-date", type=date.fromisoformat, required=True, help="night to learn from")
    parser.add_argument("--learning-rate", type=float, default=0.005, help="step size, above 0 (%(default)s)")
    parser.add_argument("--max-iter", type=int, default=40, help="epochs, at least 1 (%(default)s)")
    parser.add_argument("--checkpoint-every", type=int, default=10, help="epochs between two (%(default)s)")
    parser.add_argument("--pause-per-epoch", type=float, default=0, help="seconds, for a look (%(default)s)")
    parser.add_argument("--model-dir", default=os.environ.get("AIP_MODEL_DIR"))
    parser.add_argument("--checkpoint-dir", default=os.environ.get("AIP_CHECKPOINT_DIR"))
    arguments = parser.parse_args(command_line)
    if not arguments.learning_rate > 0:
        parser.error(f"--learning-rate {arguments.learning_rate} must be above 0")
    if arguments.max_iter < 1 or arguments.checkpoint_every < 1:
        parser.error("--max-iter and --checkpoint-every must be at least 1")
    if not 0 <= arguments.pause_per_epoch < math.inf:
        parser.error(f"--pause-per-epoch {arguments.pause_per_epoch} must be a number of 0 or more seconds")
    if not arguments.model_dir or not arguments.checkpoint_dir:
        parser.error(
            "nowhere to write: set the job's base output directory, or --model-dir and --checkpoint-dir"
        )
    return arguments


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    logger.info("trained: %s", train(parse()))
