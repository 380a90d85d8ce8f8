# SPDX-License-Identifier: Apache-2.0
"""What the trainer reports to a tuning job, in the file that cloudml-hypertune writes."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import command_line
import pytest
import train

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def metric_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file of the trial that the test is."""
    file = tmp_path / "trial" / "output.metrics"
    monkeypatch.setenv("CLOUD_ML_HP_METRIC_FILE", str(file))
    monkeypatch.setenv("CLOUD_ML_TRIAL_ID", "7")
    return file


def trained(bucket: str, *more: str) -> dict[str, Any]:
    """Train and return the metrics."""
    folders = [f"--model-dir={bucket}/7/model", f"--checkpoint-dir={bucket}/7/points"]
    return train.train(command_line.parse(["--data-date=2026-03-01", *folders, *more]))


def reports(file: Path, metric: str) -> dict[int, float]:
    """Return what was reported of a metric, by epoch."""
    lines = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    assert {line["trial"] for line in lines} == {"7"}
    return {int(line["global_step"]): float(line[metric]) for line in lines if metric in line}


def test_a_network_reports_on_its_way(bucket: str, metric_file: Path) -> None:
    """Early stopping has something to look at every few epochs; the last report is what the metrics say."""
    metrics = trained(bucket, "--validation-share=0.3", "--max-iter=12")
    for metric in ("accuracy", "log_loss"):
        found = reports(metric_file, metric)
        assert list(found) == [5, 10, 12]
        assert found[12] == metrics[metric]
    assert reports(metric_file, "log_loss")[5] > metrics["log_loss"]


def test_each_epoch_is_reported_once(bucket: str, metric_file: Path) -> None:
    """Also when the last epoch is one of those that are reported anyway."""
    trained(bucket, "--validation-share=0.3", "--max-iter=10")
    assert len(metric_file.read_text(encoding="utf-8").splitlines()) == 4


def test_support_vectors_report_as_at_the_end(bucket: str, metric_file: Path) -> None:
    """Otherwise early stopping would stop every network that is at its beginning."""
    metrics = trained(bucket, "--validation-share=0.3", "--model=svm")
    assert reports(metric_file, "accuracy") == {40: metrics["accuracy"]}


def test_the_exam_chooses_no_hyperparameters(
    bucket: str, metric_file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Without validation images a trial reports nothing, and its log says what to do."""
    trained(bucket, "--max-iter=1")
    assert not metric_file.exists()
    assert "set --validation-share" in caplog.text


def test_outside_of_a_tuning_job_nothing_is_reported(
    bucket: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Not even to the file that cloudml-hypertune has when nobody names one."""
    monkeypatch.delenv("CLOUD_ML_HP_METRIC_FILE", raising=False)
    unnamed = tmp_path / "unnamed" / "output.metrics"
    monkeypatch.setattr("hypertune.hypertune._DEFAULT_METRIC_PATH", str(unnamed))
    trained(bucket, "--validation-share=0.3", "--max-iter=5")
    assert not unnamed.parent.exists()
