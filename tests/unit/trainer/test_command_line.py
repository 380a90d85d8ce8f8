# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import command_line
import hyperparameters
import pytest

COMPLETE = [
    "--data-date=2026-03-01",
    "--model-dir=gs://models/my_night/",
    "--checkpoint-dir",
    "gs://models/my_points/",
]


def test_without_further_flags_it_is_the_network_of_every_night() -> None:
    """Nothing is tuned, and no image is kept back from the training."""
    parsed = command_line.parse(COMPLETE)
    assert hyperparameters.chosen(parsed) == {
        "model": "mlp",
        "learning_rate": 0.005,
        "hidden_units": 64,
        "alpha": 0.0001,
        "batch_size": 200,
    }
    assert (parsed.max_iter, parsed.checkpoint_every, parsed.validation_share) == (40, 10, 0)


def test_flags_may_have_underscores_and_whole_numbers_a_point() -> None:
    """As Vertex AI writes the parameters of a trial, after the job's own arguments; values stay as they are."""
    trial = ["--learning_rate=0.01", "--hidden_units=96.0", "--batch_size", "64.0", "--max_iter=5.0"]
    parsed = command_line.parse([*COMPLETE, "--learning-rate=0.5", *trial])
    assert (parsed.learning_rate, parsed.hidden_units, parsed.batch_size) == (0.01, 96, 64)
    assert parsed.max_iter == 5
    assert (parsed.model_dir, parsed.checkpoint_dir) == ("gs://models/my_night/", "gs://models/my_points/")


def test_the_command_line_is_that_of_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Unless another one is given."""
    monkeypatch.setattr("sys.argv", ["train.py", *COMPLETE, "--hidden_units=32"])
    assert command_line.parse().hidden_units == 32


@pytest.mark.parametrize("model", ["mlp", "svm"])
def test_a_model_is_what_the_flags_say(model: str) -> None:
    """Each hyperparameter arrives in scikit-learn's model under its own name."""
    flags = [
        "--learning-rate=0.01",
        "--hidden-units=96",
        "--alpha=0.5",
        "--batch-size=64",
        "--C=7",
        "--gamma=0.2",
    ]
    made = hyperparameters.make_model(command_line.parse([*COMPLETE, f"--model={model}", *flags]))
    if model == "svm":
        assert (made.estimator.C, made.estimator.gamma) == (7.0, 0.2)
    else:
        assert (made.learning_rate_init, made.hidden_layer_sizes, made.alpha) == (0.01, (96,), 0.5)
        assert made.batch_size == 64


def test_the_folders_are_those_that_vertex_ai_names(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without flags, model and checkpoints go where the job's environment says."""
    monkeypatch.setenv("AIP_MODEL_DIR", "gs://models/run/model/")
    monkeypatch.setenv("AIP_CHECKPOINT_DIR", "gs://models/run/checkpoints/")
    parsed = command_line.parse(["--data-date=2026-03-01"])
    assert (parsed.model_dir, parsed.checkpoint_dir) == (
        "gs://models/run/model/",
        "gs://models/run/checkpoints/",
    )


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ("--learning-rate=0", "--learning-rate 0.0 must be above 0"),
        ("--learning-rate=nan", "--learning-rate nan must be above 0"),
        ("--learning-rate=inf", "--learning-rate inf must be above 0, and finite"),
        ("--C=0", "--C 0.0 must be above 0"),
        ("--gamma=-1", "--gamma -1.0 must be above 0"),
        ("--alpha=-1", "--alpha -1.0 must be 0 or more"),
        ("--hidden_units=0", "--hidden-units and --batch-size must be at least 1"),
        ("--batch_size=0.0", "--hidden-units and --batch-size must be at least 1"),
        ("--batch_size=64.5", "argument --batch-size: invalid whole_number value: '64.5'"),
        ("--batch_size=inf", "argument --batch-size: invalid whole_number value: 'inf'"),
        ("--model=forest", "argument --model: invalid choice: 'forest'"),
        ("--validation-share=0.01", "--validation-share 0.01 must be 0, or between 0.05 and 0.5"),
        ("--validation-share=1", "--validation-share 1.0 must be 0, or between 0.05 and 0.5"),
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
        command_line.parse([*COMPLETE, wrong])
    assert words in capsys.readouterr().err
