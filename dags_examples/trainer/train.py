# SPDX-License-Identifier: Apache-2.0
"""
Train tonight's model: ``python train.py --data-date 2026-03-01``.

Writes a checkpoint every few epochs and starts from the newest one, so that a restarted machine loses
little.

With ``--validation-share`` a part of the training images is kept back to compare hyperparameters on, and the
night's held-out images are not touched: so train the trials of a tuning job. The best hyperparameters, without
that flag, then give the model that has learned from all training images.
"""

from __future__ import annotations

import logging
import sys
import time
from typing import TYPE_CHECKING, Any

import hyperparameters
import night
import storage
from command_line import parse
from trial import Reporter

if TYPE_CHECKING:
    import argparse

    from sklearn.neural_network import MLPClassifier

logger = logging.getLogger("train")

REPORT_EVERY = 5  # epochs


def train(arguments: argparse.Namespace) -> dict[str, Any]:
    """Train, write model and metrics, and return the metrics."""
    data = night.load(arguments.data_date)
    if arguments.validation_share:
        data = data.for_tuning(arguments.validation_share)
    reporter = Reporter(validating=arguments.validation_share > 0)
    if arguments.model == hyperparameters.SVM:
        resumed_at, epoch, model = 0, 1, hyperparameters.make_model(arguments)
        model.fit(data.images, data.labels)
    else:
        resumed_at, epoch, model = learn_in_epochs(arguments, data, reporter)
    scores = data.examine(model)
    # Early stopping compares what trials had reached after the same epochs: this is what they reach with all.
    reporter.report(scores, arguments.max_iter)
    examined = "validation_images" if arguments.validation_share else "held_out_images"
    metrics = {
        **scores,
        "data_date": str(arguments.data_date),
        **hyperparameters.chosen(arguments),
        "epochs": epoch,
        "resumed_at_epoch": resumed_at,
        "training_images": len(data.labels),
        examined: len(data.held_out_labels),
    }
    storage.write_object(storage.join(arguments.model_dir, "model.joblib"), model)
    storage.write_json(storage.join(arguments.model_dir, "metrics.json"), metrics)
    return metrics


def learn_in_epochs(
    arguments: argparse.Namespace, data: night.Night, reporter: Reporter
) -> tuple[int, int, MLPClassifier]:
    """Return the epoch at which the training was resumed, the last one, and the model."""
    epoch, model = resume(arguments)
    resumed_at = epoch
    while epoch < arguments.max_iter:
        model.partial_fit(data.images, data.labels, classes=night.DIGITS)
        epoch += 1
        logger.info("epoch %d of %d: loss %.4f", epoch, arguments.max_iter, model.loss_)
        time.sleep(arguments.pause_per_epoch)
        if epoch % arguments.checkpoint_every == 0:
            write_checkpoint(arguments, epoch, model)
        if reporter.is_needed and epoch % REPORT_EVERY == 0 and epoch < arguments.max_iter:
            reporter.report(data.examine(model), epoch)
    return resumed_at, epoch, model


def resume(arguments: argparse.Namespace) -> tuple[int, MLPClassifier]:
    """Return how many epochs are done already and the model as it was then."""
    checkpoints = storage.list_files(arguments.checkpoint_dir)
    if checkpoints:
        checkpoint = storage.read_object(checkpoints[-1])
        if checkpoint["work"] == work(arguments):
            logger.info("resuming from %s", checkpoints[-1])
            return checkpoint["epoch"], checkpoint["model"]
        logger.info("ignoring %s: it belongs to other settings", checkpoints[-1])
    return 0, hyperparameters.make_model(arguments)


def write_checkpoint(arguments: argparse.Namespace, epoch: int, model: MLPClassifier) -> None:
    """Write the model as it is after an epoch."""
    uri = storage.join(arguments.checkpoint_dir, f"epoch-{epoch:05d}.joblib")
    storage.write_object(uri, {"epoch": epoch, "model": model, "work": work(arguments)})


def work(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return what a checkpoint must agree on before it may be continued."""
    return {
        "data_date": str(arguments.data_date),
        "validation_share": arguments.validation_share,
        **hyperparameters.chosen(arguments),
    }


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    logger.info("trained: %s", train(parse()))
