# SPDX-License-Identifier: Apache-2.0
"""What a trial of a tuning job measures, told to Vertex AI with cloudml-hypertune."""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING

from hypertune import HyperTune

if TYPE_CHECKING:
    from collections.abc import Mapping

logger = logging.getLogger("trial")


class Reporter:
    """
    Reports to the tuning job, if this is a trial of one; otherwise it does nothing.

    :param validating: Whether there are validation images. Without them nothing is reported: what is measured on
        images that a model has learned from, or is examined on in the end, must not choose the model.
    """

    def __init__(self, *, validating: bool) -> None:
        is_trial = "CLOUD_ML_HP_METRIC_FILE" in os.environ
        if is_trial and not validating:
            logger.warning("nothing is reported to a tuning job: set --validation-share, for example to 0.3")
        self._hypertune = HyperTune() if is_trial and validating else None

    @property
    def is_needed(self) -> bool:
        """Whether anybody wants to know; measuring takes time."""
        return self._hypertune is not None

    def report(self, scores: Mapping[str, float], epoch: int) -> None:
        """Report what a model has reached after an epoch."""
        if self._hypertune:
            for metric, value in scores.items():
                self._hypertune.report_hyperparameter_tuning_metric(metric, value, global_step=epoch)
            logger.info("after epoch %d, on the validation images: %s", epoch, scores)
