# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import time
from datetime import date

import command_line
import night
import pytest
import storage
import train

SCORES = ("accuracy", "log_loss")


def arguments(bucket: str, *more: str) -> list[str]:
    """Return a command line that is complete; later flags win over earlier ones."""
    return [
        "--data-date=2026-03-01",
        f"--model-dir={bucket}/night/model/",
        f"--checkpoint-dir={bucket}/night/points/",
        *more,
    ]


def test_a_model_learns_and_is_written_with_its_metrics(bucket: str) -> None:
    """With its default settings training gives a useful model, and says so beside it."""
    metrics = train.train(command_line.parse(arguments(bucket)))
    assert metrics["accuracy"] > 0.9
    assert storage.list_files(f"{bucket}/night/model") == [
        f"{bucket}/night/model/metrics.json",
        f"{bucket}/night/model/model.joblib",
    ]
    assert storage.read_json(f"{bucket}/night/model/metrics.json") == metrics


def test_an_interrupted_training_ends_as_an_uninterrupted_one(bucket: str) -> None:
    """Going on from a checkpoint gives the very same model as never having stopped."""
    through = train.train(
        command_line.parse(arguments(bucket, "--max-iter=8", f"--checkpoint-dir={bucket}/other"))
    )
    train.train(command_line.parse(arguments(bucket, "--max-iter=5", "--checkpoint-every=2")))
    resumed = train.train(command_line.parse(arguments(bucket, "--max-iter=8", "--checkpoint-every=2")))
    assert resumed["resumed_at_epoch"] == 4
    assert [resumed[score] for score in SCORES] == [through[score] for score in SCORES]


def test_there_is_time_to_look_at_a_training(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a pause after each epoch, and none unless somebody asks for it."""
    pauses = list[float]()
    monkeypatch.setattr(time, "sleep", pauses.append)
    train.train(command_line.parse(arguments(bucket, "--max-iter=2", "--pause-per-epoch=0.5")))
    assert pauses == [0.5, 0.5]
    assert command_line.parse(arguments(bucket)).pause_per_epoch == 0


@pytest.mark.parametrize(
    "other",
    [
        "--learning-rate=0.1",
        "--hidden-units=32",
        "--alpha=0.01",
        "--batch-size=64",
        "--data-date=2026-03-02",
        "--validation-share=0.3",
    ],
)
def test_checkpoints_of_other_work_are_left_alone(bucket: str, other: str) -> None:
    """A checkpoint is continued only by the same work: the same images, and all hyperparameters the same."""
    train.train(command_line.parse(arguments(bucket, "--max-iter=2", "--checkpoint-every=1")))
    assert train.train(command_line.parse(arguments(bucket, "--max-iter=2", other)))["resumed_at_epoch"] == 0


def test_the_settings_of_the_other_model_do_not_matter(bucket: str) -> None:
    """A network goes on from its checkpoint whatever is said of support vectors, which it does not have."""
    train.train(command_line.parse(arguments(bucket, "--max-iter=2", "--checkpoint-every=1")))
    again = train.train(command_line.parse(arguments(bucket, "--max-iter=3", "--gamma=0.2", "--C=7")))
    assert again["resumed_at_epoch"] == 2


def test_support_vectors_learn_at_once(bucket: str) -> None:
    """They have no epochs and no checkpoints, and their model is examined like any other."""
    chosen = ["--model=svm", "--C=10.0", "--gamma=0.1"]
    metrics = train.train(command_line.parse(arguments(bucket, *chosen)))
    assert metrics["accuracy"] > 0.95
    assert (metrics["model"], metrics["C"], metrics["gamma"], metrics["epochs"]) == ("svm", 10.0, 0.1, 1)
    assert "learning_rate" not in metrics
    assert storage.list_files(f"{bucket}/night/points") == []
    model = storage.read_object(f"{bucket}/night/model/model.joblib")
    examined = night.load(date(2026, 3, 1)).examine(model)
    assert examined == {score: metrics[score] for score in SCORES}


def test_support_vectors_do_not_go_on_from_a_network(bucket: str) -> None:
    """A folder that holds checkpoints of a network is no obstacle."""
    train.train(command_line.parse(arguments(bucket, "--max-iter=2", "--checkpoint-every=1")))
    metrics = train.train(command_line.parse(arguments(bucket, "--model=svm")))
    assert metrics["resumed_at_epoch"] == 0


@pytest.mark.parametrize("model", ["mlp", "svm"])
def test_while_tuning_the_exam_is_not_seen(bucket: str, model: str) -> None:
    """With a validation share the scores are those on a part of the training images, and the metrics say so."""
    more = [f"--model={model}", "--max-iter=3"]
    trial = train.train(command_line.parse(arguments(bucket, "--validation-share=0.3", *more)))
    assert (trial["training_images"], trial["validation_images"]) == (630, 270)
    assert "held_out_images" not in trial
    images = night.load(date(2026, 3, 1)).for_tuning(0.3)
    examined = images.examine(storage.read_object(f"{bucket}/night/model/model.joblib"))
    assert examined == {score: trial[score] for score in SCORES}
    final = train.train(command_line.parse(arguments(bucket, *more)))
    assert (final["training_images"], final["held_out_images"]) == (900, 400)
