# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import time

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
    metrics = train.train(train.parse(arguments(bucket)))
    assert metrics["accuracy"] > 0.9
    assert storage.list_files(f"{bucket}/night/model") == [
        f"{bucket}/night/model/metrics.json",
        f"{bucket}/night/model/model.joblib",
    ]
    assert storage.read_json(f"{bucket}/night/model/metrics.json") == metrics


def test_an_interrupted_training_ends_as_an_uninterrupted_one(bucket: str) -> None:
    """Going on from a checkpoint gives the very same model as never having stopped."""
    through = train.train(train.parse(arguments(bucket, "--max-iter=8", f"--checkpoint-dir={bucket}/other")))
    train.train(train.parse(arguments(bucket, "--max-iter=5", "--checkpoint-every=2")))
    resumed = train.train(train.parse(arguments(bucket, "--max-iter=8", "--checkpoint-every=2")))
    assert resumed["resumed_at_epoch"] == 4
    assert [resumed[score] for score in SCORES] == [through[score] for score in SCORES]


def test_there_is_time_to_look_at_a_training(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a pause after each epoch, and none unless somebody asks for it."""
    pauses = list[float]()
    monkeypatch.setattr(time, "sleep", pauses.append)
    train.train(train.parse(arguments(bucket, "--max-iter=2", "--pause-per-epoch=0.5")))
    assert pauses == [0.5, 0.5]
    assert train.parse(arguments(bucket)).pause_per_epoch == 0


@pytest.mark.parametrize("other", ["--learning-rate=0.1", "--data-date=2026-03-02"])
def test_checkpoints_of_other_work_are_left_alone(bucket: str, other: str) -> None:
    """A checkpoint is continued only by the same night with the same learning rate."""
    train.train(train.parse(arguments(bucket, "--max-iter=2", "--checkpoint-every=1")))
    assert train.train(train.parse(arguments(bucket, "--max-iter=2", other)))["resumed_at_epoch"] == 0


def test_the_folders_are_those_that_vertex_ai_names(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without flags, model and checkpoints go where the job's environment says."""
    monkeypatch.setenv("AIP_MODEL_DIR", "gs://models/run/model/")
    monkeypatch.setenv("AIP_CHECKPOINT_DIR", "gs://models/run/checkpoints/")
    parsed = train.parse(["--data-date=2026-03-01"])
    assert (parsed.model_dir, parsed.checkpoint_dir) == (
        "gs://models/run/model/",
        "gs://models/run/checkpoints/",
    )


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ("--learning-rate=0", "--learning-rate 0.0 must be above 0"),
        ("--learning-rate=nan", "--learning-rate nan must be above 0"),
        ("--max-iter=0", "must be at least 1"),
        ("--pause-per-epoch=-1", "--pause-per-epoch -1.0 must be a number of 0 or more seconds"),
        ("--data-date=tonight", "invalid fromisoformat value: 'tonight'"),
        ("--model-dir=", "nowhere to write"),
    ],
)
def test_a_wrong_flag_ends_the_job_with_words(
    wrong: str, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A wrong value is named, and nothing is trained."""
    with pytest.raises(SystemExit):
        train.parse(arguments("gs://models", wrong))
    assert words in capsys.readouterr().err
