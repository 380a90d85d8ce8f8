# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from datetime import date

import night
import numpy as np


def rows(images: np.ndarray) -> set[bytes]:
    """Return the images in a form that can be compared as sets."""
    return {image.tobytes() for image in images}


def test_a_date_always_gives_the_same_night() -> None:
    """A night that is trained again sees exactly the images that it saw before."""
    first, again = night.load(date(2026, 3, 1)), night.load(date(2026, 3, 1))
    assert np.array_equal(first.images, again.images)
    assert np.array_equal(first.held_out_labels, again.held_out_labels)


def test_nights_differ() -> None:
    """Another date brings other images to learn from and another exam."""
    first, second = night.load(date(2026, 3, 1)), night.load(date(2026, 3, 2))
    assert rows(first.images) != rows(second.images)
    assert rows(first.held_out_images) != rows(second.held_out_images)


def test_no_exam_holds_an_image_that_any_night_learned_from() -> None:
    """Yesterday's model has no advantage in tonight's exam."""
    nights = [night.load(date(2026, 3, day)) for day in range(1, 8)]
    learned = set().union(*(rows(one.images) for one in nights))
    examined = set().union(*(rows(one.held_out_images) for one in nights))
    assert not learned & examined


def test_a_night_for_tuning_knows_training_images_only() -> None:
    """They are shared out between learning and choosing; none is in both, and no held-out image is in either."""
    one = night.load(date(2026, 3, 1))
    tuning = one.for_tuning(0.2)
    assert (len(tuning.labels), len(tuning.held_out_labels)) == (720, 180)
    assert rows(tuning.images) | rows(tuning.held_out_images) == rows(one.images)
    assert not rows(tuning.images) & rows(tuning.held_out_images)
    assert not rows(one.held_out_images) & (rows(tuning.images) | rows(tuning.held_out_images))


def test_all_trials_of_a_night_are_compared_on_the_same_images() -> None:
    """Luck with the images chooses no hyperparameters."""
    first, again = (night.load(date(2026, 3, 1)).for_tuning(0.3) for _ in range(2))
    assert np.array_equal(first.held_out_images, again.held_out_images)
    assert set(first.held_out_labels) == set(night.DIGITS)
