# SPDX-License-Identifier: Apache-2.0
"""The examples that queue for GPUs, as they are, with the real trainer; only their pauses are shorter."""

from __future__ import annotations

import json
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from airflow.dag_processing.dagbag import DagBag
from google.cloud.aiplatform_v1.types import JobState

from airflow_vertex_persistent.emulator import EmulatorControl, EmulatorSettings, VertexEmulator
from airflow_vertex_persistent.exceptions import MaxWaitExceededError
from airflow_vertex_persistent.retry import TrainingRetryPolicy

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from airflow.sdk import DAG

    from tests.integration.conftest import Cloud
    from tests.integration.operators.conftest import Run

    Start = Callable[..., Cloud]
    Meanwhile = Callable[[Callable[[], object]], AbstractContextManager[None]]

EXAMPLES = Path(__file__).parents[3] / "dags_examples"
REGIONS = ("europe-west4", "us-central1", "asia-southeast1")
IMAGES = [f"{region}-docker.pkg.dev/acme/training/digits:1" for region in REGIONS]
BUCKETS = ["nightly-models", "nightly-models-us", "nightly-models-asia"]


@pytest.fixture
def dag(request: pytest.FixtureRequest) -> DAG:
    """The example's DAG."""
    example: Any = DagBag(EXAMPLES / f"{request.param}.py").dags[request.param]
    for task in example.tasks:
        if hasattr(task, "poll_interval"):
            task.poll_interval = 0.05
    return example  # type: ignore[no-any-return]


@pytest.fixture
def start(cloud_at: Callable[[str, Path], Cloud], monkeypatch: pytest.MonkeyPatch) -> Iterator[Start]:
    """Start an emulator with the trainer, the buckets, and some settings, and point Airflow to it."""
    with ExitStack() as stack:

        def begin(**settings: Any) -> Cloud:
            emulator = stack.enter_context(
                VertexEmulator(
                    images=dict.fromkeys(IMAGES, EXAMPLES / "trainer"),
                    buckets=BUCKETS,
                    settings=EmulatorSettings(**settings),
                )
            )
            for name, value in emulator.environment.items():
                monkeypatch.setenv(name, value)
            return cloud_at(emulator.address, emulator.data_dir)

        yield begin


def jobs(cloud: Cloud) -> list[tuple[str, str]]:
    """Return region and state of the jobs, in the order of the regions."""
    parents = [f"projects/{cloud.PROJECT}/locations/{region}" for region in REGIONS]
    found = [job for parent in parents for job in cloud.jobs.list_custom_jobs(parent=parent)]
    return [(job.name.split("/")[3], job.state.name.removeprefix("JOB_STATE_").lower()) for job in found]


def machines_come(cloud: Cloud, where: str) -> None:
    """Let there be a machine when somebody has waited for it."""
    with EmulatorControl(cloud.address) as control:
        cloud.wait_for(lambda: control.call_counts().get("GetCustomJob", 0) > 2, "a task waits")
        (job,) = cloud.all_jobs()
        assert job.state == JobState.JOB_STATE_PENDING
        control.set_stock(where, 1)


@pytest.mark.parametrize("dag", ["flex_start_training"], indirect=True)
def test_a_night_in_the_queue(start: Start, run_dag: Callable[[], Run], meanwhile: Meanwhile) -> None:
    """The job trains when a machine becomes free, and the document names the model that came of it."""
    cloud = start(stock={"europe-west4/g2-standard-4": "never"})
    with meanwhile(lambda: machines_come(cloud, "europe-west4/g2-standard-4")):
        run = run_dag()
    result = run.result()
    assert (result["strategy"], run.result("hand_on")) == ("FLEX_START", result["model_dir"])
    bucket = cloud.data_dir / "storage" / "nightly-models"
    assert json.loads((bucket / "digits/gpu/latest.json").read_bytes()) == {"model_dir": result["model_dir"]}
    assert (bucket / result["model_dir"].removeprefix("gs://nightly-models/") / "model.joblib").exists()


@pytest.mark.parametrize("dag", ["flex_start_training"], indirect=True)
def test_a_night_without_machines(start: Start, dag: DAG, run_dag: Callable[[], Run]) -> None:
    """A job that has waited for the whole night is not submitted for another one."""
    cloud = start(stock={"*/*": "never"})
    train: Any = dag.get_task("train")
    train.max_wait_duration = 0.3
    run = run_dag()
    assert type(run.error()) is MaxWaitExceededError
    assert run.states == {"train": "failed", "hand_on": "upstream_failed"}
    assert jobs(cloud) == [("europe-west4", "failed")]


@pytest.mark.parametrize("dag", ["gpu_failover_across_regions"], indirect=True)
def test_one_region_after_the_other(start: Start, dag: DAG, run_dag: Callable[[], Run]) -> None:
    """The region that has machines trains, with its own image and into its own bucket."""
    cloud = start(stock={"*/*": "never", "asia-southeast1/a3-highgpu-8g": "1"})
    train: Any = dag.get_task("train")
    train.max_wait_duration = 0.3
    run = run_dag()
    assert run.result("say_where") == "asia-southeast1"
    assert run.result()["candidate"] == 2
    assert run.result()["model_dir"].startswith("gs://nightly-models-asia/digits/failover/")
    assert jobs(cloud) == list(zip(REGIONS, ("failed", "failed", "succeeded"), strict=True))


@pytest.mark.parametrize("dag", ["when_gpus_arrive"], indirect=True)
def test_the_moment_when_gpus_arrive(start: Start, run_dag: Callable[[], Run], meanwhile: Meanwhile) -> None:
    """The sensor waits while the job queues, and what follows it knows where to look."""
    cloud = start(stock={"*/*": "never"})
    with meanwhile(lambda: machines_come(cloud, "europe-west4/a3-highgpu-8g")):
        run = run_dag()
    submitted, arrived = run.result("submit"), run.result("gpus_are_there")
    assert (submitted["job"], submitted["start_time"]) == (arrived["job"], None)
    assert arrived["queued_seconds"] > 0
    assert run.result("tell") == arrived["console_url"]


@pytest.mark.parametrize("dag", ["spot_with_checkpoints"], indirect=True)
@pytest.mark.parametrize(
    ("restarts", "states"),
    [(6, ["succeeded"]), (0, ["failed", "succeeded"])],
    ids=["the same job", "the next job"],
)
def test_a_preempted_training_goes_on(  # noqa: PLR0917 - one row of a table
    start: Start,
    dag: DAG,
    run_dag: Callable[[], Run],
    meanwhile: Meanwhile,
    restarts: int,
    states: list[str],
) -> None:
    """Whether the service runs the job again or a retry creates another one, it begins with the newest checkpoint."""
    cloud = start(spot_restarts=restarts)
    train: Any = dag.get_task("train")
    train.retry_policy = TrainingRetryPolicy(capacity_delay=timedelta(0))

    def preempt() -> None:
        folder = cloud.data_dir / "storage"
        cloud.wait_for(lambda: list(folder.rglob("epoch-*.joblib")), "there is a checkpoint")
        with EmulatorControl(cloud.address) as control:
            control.preempt(cloud.running_job().name)

    with meanwhile(preempt):
        run = run_dag()
    assert run.result()["strategy"] == "SPOT"
    assert run.result("say_how") > 0
    assert sorted(jobs(cloud)) == [("europe-west4", state) for state in states]
