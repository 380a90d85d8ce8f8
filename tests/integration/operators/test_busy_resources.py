# SPDX-License-Identifier: Apache-2.0
"""Other jobs have the machines of a persistent resource, in each way in which the service may say so."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from attempts import before_retry
from google.cloud.aiplatform_v1.types import JobState

from airflow_vertex_persistent.exceptions import CapacityError, MaxWaitExceededError
from airflow_vertex_persistent.operators.custom_job import PersistentResourceCustomJobOperator

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow.sdk import DAG, Context

    from airflow_vertex_persistent.triggers.base import VertexTrigger
    from tests.conftest import Relay
    from tests.integration.conftest import Cloud
    from tests.integration.operators.conftest import Run

    Make = Callable[..., PersistentResourceCustomJobOperator]

RUNNING = JobState.JOB_STATE_RUNNING
SUCCEEDED = JobState.JOB_STATE_SUCCEEDED
FAILED = JobState.JOB_STATE_FAILED
CANCELLED = JobState.JOB_STATE_CANCELLED
POLICIES = ("queue", "fail", "reject")
# Seconds that the machines are taken where a task gets them in the end.
FOR_A_WHILE = 1.5


@pytest.fixture(params=POLICIES)
def busy_policy(request: pytest.FixtureRequest) -> str:
    """What the service does with a job whose machines are taken."""
    return str(request.param)


@pytest.fixture
def cloud(start_cloud: Callable[..., Cloud], busy_policy: str) -> Cloud:
    """An emulator with that policy and the persistent resource ``nightly``."""
    started = start_cloud(busy_policy=busy_policy)
    started.create_resource()
    return started


@pytest.fixture
def relay(cloud: Cloud, relay_to: Callable[[Cloud], Relay]) -> Relay:
    """A relay between Airflow and ``cloud``."""
    return relay_to(cloud)


def ours(cloud: Cloud) -> list[Any]:
    """Return the jobs of the task under test, the oldest first, once all but those that run have ended."""
    return [job for job in cloud.settled_jobs() if "airflow_execution" in job.labels]


def states(cloud: Cloud) -> list[JobState]:
    """Return the states of the jobs of the task under test, the oldest first."""
    return [job.state for job in ours(cloud)]


def winner(cloud: Cloud) -> Any:
    """Return the job that has the machines, or had them first."""
    (job,) = [job for job in cloud.all_jobs() if "airflow_execution" not in job.labels]
    return job


def release(cloud: Cloud) -> None:
    """Cancel that job, and wait until its machines are free."""
    cloud.jobs.cancel_custom_job(name=winner(cloud).name)
    cloud.wait_for(lambda: winner(cloud).state == CANCELLED, "the machines are free")


def test_a_lost_race_with_queue(
    cloud: Cloud, relay: Relay, train: Make, run_dag: Callable[[], Run], busy_policy: str, *, deferrable: bool
) -> None:
    """Who lost the last machine to a job that was quicker gets it when that has ended."""
    relay.before("CreateCustomJob", lambda: cloud.occupy(seconds=FOR_A_WHILE))
    train("succeed", when_busy="queue", deferrable=deferrable)
    result = run_dag().result()
    *earlier, last = ours(cloud)
    assert winner(cloud).state == last.state == SUCCEEDED
    assert last.start_time >= winner(cloud).end_time
    assert result["job"] == last.name
    assert (result["persistent_resource_id"], result["fallback"]) == ("nightly", None)
    assert [job.state for job in earlier] == [FAILED] * len(earlier)
    assert bool(earlier) is (busy_policy == "fail")


def test_a_lost_race_with_fail(
    cloud: Cloud, relay: Relay, train: Make, run_dag: Callable[[], Run], busy_policy: str, *, deferrable: bool
) -> None:
    """Who does not want to wait hears that the machines are taken, and has no job left."""
    relay.before("CreateCustomJob", cloud.occupy)
    train("succeed", when_busy="fail", max_wait_duration=1, deferrable=deferrable)
    error = run_dag().error()
    assert type(error) is CapacityError
    assert "Next step:" in str(error)
    assert states(cloud) == {"queue": [CANCELLED], "fail": [FAILED], "reject": []}[busy_policy]
    assert winner(cloud).state == RUNNING


@pytest.mark.durability(
    'The persistent resource is busy, with ``when_busy="on_demand"``',
    "Runs the same job on demand, without a retry.",
    "Has ended before another, on demand, takes its place.",
)
def test_a_lost_race_with_on_demand(
    cloud: Cloud, relay: Relay, train: Make, run_dag: Callable[[], Run], busy_policy: str, *, deferrable: bool
) -> None:
    """Who may run elsewhere does, says so, and never has two jobs at once."""
    relay.before("CreateCustomJob", cloud.occupy)
    train("succeed", when_busy="on_demand", max_wait_duration=1, deferrable=deferrable)
    result = run_dag().result()
    *earlier, last = ours(cloud)
    assert [job.state for job in earlier] == {"queue": [CANCELLED], "fail": [FAILED], "reject": []}[
        busy_policy
    ]
    assert all(job.end_time <= last.create_time for job in earlier)
    assert result["job"] == last.name
    assert (result["persistent_resource_id"], result["fallback"]) == (None, "on_demand")
    assert last.job_spec.persistent_resource_id == ""
    assert last.labels["airflow_fallback"] == "on_demand"
    assert all("airflow_fallback" not in job.labels for job in earlier)
    assert len({(job.labels["airflow_execution"], job.labels["airflow_request"]) for job in ours(cloud)}) == 1
    assert winner(cloud).state == RUNNING


@pytest.mark.durability(
    "The persistent resource is busy for longer than ``max_wait_duration``",
    "Fails with ``MaxWaitExceededError``.",
    "Is cancelled.",
)
def test_the_longest_wait(
    cloud: Cloud, train: Make, run_dag: Callable[[], Run], busy_policy: str, *, deferrable: bool
) -> None:
    """A task that waited for max_wait_duration says so, and leaves no job."""
    cloud.occupy()
    train("succeed", max_wait_duration="2s", deferrable=deferrable)
    error = run_dag().error()
    assert type(error) is MaxWaitExceededError
    for part in ("max_wait_duration, 2 seconds", "nightly", "Next step:"):
        assert part in str(error)
    assert set(states(cloud)) == {"queue": {CANCELLED}, "fail": {FAILED}, "reject": set()}[busy_policy]


@pytest.mark.parametrize("busy_policy", ["queue"])
def test_a_retry_waits_no_longer(cloud: Cloud, train: Make, run_dag: Callable[[], Run]) -> None:
    """The limit counts over all retries: after it, each has only the time that a job needs to start."""
    cloud.occupy()
    train("succeed", max_wait_duration=1, retries=1)
    run = run_dag()
    assert run.states["train"] == "failed"
    assert [type(error) for error in run.errors["train"]] == [MaxWaitExceededError] * 2
    assert states(cloud) == [CANCELLED, CANCELLED]


@pytest.mark.parametrize("busy_policy", ["queue"])
def test_a_retry_that_finds_the_machines_free(
    cloud: Cloud, train: Make, run_dag: Callable[[], Run], *, deferrable: bool
) -> None:
    """An attempt after the limit gets machines that are free now."""
    cloud.occupy()
    retry = before_retry(lambda: release(cloud))
    train("succeed", max_wait_duration=1, retries=1, deferrable=deferrable, pre_execute=retry)
    assert run_dag().result()["fallback"] is None
    assert states(cloud) == [CANCELLED, SUCCEEDED]


@pytest.mark.parametrize("busy_policy", ["queue"])
@pytest.mark.parametrize(("when_busy", "kind"), [("fail", CapacityError), ("on_demand", None)])
def test_busy_before_the_create(  # noqa: PLR0917 - one row of a table
    cloud: Cloud,
    relay: Relay,
    train: Make,
    run_dag: Callable[[], Run],
    when_busy: str,
    kind: type[Exception] | None,
    *,
    deferrable: bool,
) -> None:
    """Where too few machines are free to begin with, nothing is created on the resource."""
    cloud.occupy()
    train("succeed", when_busy=when_busy, deferrable=deferrable)
    run = run_dag()
    if kind is None:
        assert run.result()["fallback"] == "on_demand"
        assert states(cloud) == [SUCCEEDED]
        assert relay.count("CreateCustomJob") == 1
    else:
        assert type(run.error()) is kind
        assert "has 0 of 2 machines free, the job needs 1" in str(run.error())
        assert relay.count("CreateCustomJob") == 0


@pytest.mark.parametrize("busy_policy", ["queue"])
@pytest.mark.parametrize(
    ("code", "text"),
    [("RESOURCE_EXHAUSTED", "no more of them"), ("FAILED_PRECONDITION", "try later")],
)
def test_a_refusal_in_words_that_nobody_knows(  # noqa: PLR0917 - one row of a table
    cloud: Cloud,
    relay: Relay,
    train: Make,
    run_dag: Callable[[], Run],
    code: str,
    text: str,
    *,
    deferrable: bool,
) -> None:
    """Whatever a refusal says: while the machines are taken that is what it means."""
    relay.before("CreateCustomJob", cloud.occupy)
    relay.refuse("CreateCustomJob", code=code, text=text)
    train("succeed", when_busy="on_demand", deferrable=deferrable)
    assert run_dag().result()["fallback"] == "on_demand"
    assert relay.count("CreateCustomJob") == 2


@pytest.mark.parametrize("busy_policy", ["queue"])
def test_machines_that_are_free_again_just_after_a_refusal(
    cloud: Cloud, relay: Relay, train: Make, run_dag: Callable[[], Run], *, deferrable: bool
) -> None:
    """A refusal on a resource that was busy means that, though its machines have become free meanwhile."""
    cloud.occupy()
    relay.before("CreateCustomJob", lambda: release(cloud))
    relay.refuse("CreateCustomJob", code="FAILED_PRECONDITION", text="try later")
    train("succeed", when_busy="queue", deferrable=deferrable)
    assert run_dag().result()["fallback"] is None
    assert states(cloud) == [SUCCEEDED]


class StartsMeanwhile(PersistentResourceCustomJobOperator):
    """Hears that its job is overdue, and does something before it does anything about that."""

    def __init__(self, *, meanwhile: Callable[[], object], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.meanwhile = meanwhile

    def wait_for_event(self, trigger: VertexTrigger, context: Context, **kwargs: Any) -> dict[str, Any]:
        """Hear of it on the worker."""
        return self._heard(super().wait_for_event(trigger, context, **kwargs))

    def execute_complete(self, context: Context, event: dict[str, Any]) -> Any:
        """Hear of it from the triggerer."""
        return super().execute_complete(context, self._heard(event))

    def _heard(self, event: dict[str, Any]) -> dict[str, Any]:
        if event["status"] == "overdue":
            self.meanwhile()
        return event


@pytest.mark.parametrize("busy_policy", ["queue"])
def test_a_job_that_starts_at_the_last_moment(
    cloud: Cloud, dag: DAG, run_dag: Callable[[], Run], *, deferrable: bool
) -> None:
    """A job that gets its machines when its time has just passed is watched to its end."""
    other = cloud.occupy()
    heard: list[str] = []

    def start() -> None:
        def started() -> bool:
            return any(job.state == RUNNING for job in cloud.all_jobs() if "airflow_execution" in job.labels)

        cloud.jobs.cancel_custom_job(name=other.name)
        cloud.wait_for(started, "the job runs")
        heard.append("overdue")

    StartsMeanwhile(
        dag=dag,
        task_id="train",
        region=cloud.REGION,
        persistent_resource_id="nightly",
        container_uri=cloud.IMAGE,
        machine_type="n1-standard-4",
        args=["sleep", "1"],
        poll_interval=0.05,
        max_wait_duration=1,
        deferrable=deferrable,
        meanwhile=start,
    )
    assert run_dag().result()["fallback"] is None
    assert states(cloud) == [SUCCEEDED]
    assert heard == ["overdue"]
