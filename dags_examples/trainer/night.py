# SPDX-License-Identifier: Apache-2.0
"""The data of one night: the digits that scikit-learn ships, sampled by date."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.datasets import load_digits
from sklearn.metrics import accuracy_score, log_loss

if TYPE_CHECKING:
    from datetime import date

DIGITS = np.arange(10)
TRAINING_POOL = 1_200
TRAINING_IMAGES = 900
HELD_OUT_IMAGES = 400


@dataclass(frozen=True)
class Night:
    """What was collected until one night: images to learn from, and images to be examined on."""

    images: Any
    labels: Any
    held_out_images: Any
    held_out_labels: Any

    def examine(self, model: Any) -> dict[str, float]:
        """Score a model on the images that no model has ever learned from."""
        probabilities = model.predict_proba(self.held_out_images)
        return {
            "accuracy": round(float(accuracy_score(self.held_out_labels, probabilities.argmax(axis=1))), 4),
            "log_loss": round(float(log_loss(self.held_out_labels, probabilities, labels=DIGITS)), 4),
        }

    def for_tuning(self, validation_share: float) -> Night:
        """
        Return a night whose exam is a part of these training images.

        Hyperparameters are chosen by it. The images that this night holds out are not in it: who chooses has not
        seen the exam.

        :param validation_share: How much of the training images, above 0 and below 1.
        """
        learned = round(len(self.labels) * (1 - validation_share))  # they are in random order
        return Night(
            self.images[:learned], self.labels[:learned], self.images[learned:], self.labels[learned:]
        )


def load(data_date: date) -> Night:
    """Return the data of a night; the same date always gives the same images."""
    images, labels = load_digits(return_X_y=True)
    images = images / 16  # grey levels from 0 to 16, as numbers from 0 to 1
    # One split for all nights: yesterday's model must not have learned from tonight's exam.
    order = np.random.default_rng(0).permutation(len(labels))
    sample = np.random.default_rng(data_date.toordinal())
    training = sample.choice(order[:TRAINING_POOL], TRAINING_IMAGES, replace=False)
    held_out = sample.choice(order[TRAINING_POOL:], HELD_OUT_IMAGES, replace=False)
    return Night(images[training], labels[training], images[held_out], labels[held_out])
