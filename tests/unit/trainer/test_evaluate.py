# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import Any

import command_line
import evaluate
import pytest
import storage
import train


def trained(bucket: str, name: str, *more: str) -> str:
    """Train a model and return its folder."""
    folder = f"{bucket}/{name}/model"
    points = f"{bucket}/{name}/checkpoints"
    train.train(
        command_line.parse(
            ["--data-date=2026-03-01", f"--model-dir={folder}", f"--checkpoint-dir={points}", *more]
        )
    )
    return folder


def evaluated(bucket: str, candidate: str) -> dict[str, Any]:
    """Run the evaluation, check that it was written, and return it."""
    evaluation = evaluate.evaluate(
        evaluate.parse(
            [
                "--data-date=2026-03-02",
                f"--candidate={candidate}",
                f"--champion={bucket}/champion.json",
                f"--output={bucket}/evaluation.json",
            ]
        )
    )
    assert storage.read_json(f"{bucket}/evaluation.json") == evaluation
    return evaluation


def test_the_first_model_is_promoted(bucket: str) -> None:
    """Without a champion there is nothing to lose."""
    evaluation = evaluated(bucket, trained(bucket, "first", "--max-iter=2"))
    assert evaluation["promote"] is True
    assert evaluation["champion"] is None
    assert "first model" in evaluation["reason"]


@pytest.mark.parametrize(
    ("candidate", "promote", "word"), [("weak", False, "worse"), ("strong", True, "at least as good")]
)
def test_the_better_model_stays(bucket: str, candidate: str, promote: bool, word: str) -> None:
    """A worse candidate is not promoted, one that is as good or better is, and the reason says it in words."""
    folders = {"weak": trained(bucket, "weak", "--max-iter=1"), "strong": trained(bucket, "strong")}
    champion = folders["strong" if candidate == "weak" else "weak"]
    storage.write_json(f"{bucket}/champion.json", {"model_dir": champion})
    evaluation = evaluated(bucket, folders[candidate])
    assert evaluation["promote"] is promote
    assert evaluation["reason"].startswith(word)
    assert evaluation["champion"]["model_dir"] == champion


def test_equals_are_promoted() -> None:
    """Of two equal models the newer one has seen the newer data."""
    score = {"accuracy": 0.9, "log_loss": 0.3}
    assert evaluate.decide(score, score)[0] is True
