# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from airflow.sdk.exceptions import AirflowTaskTimeout
from google.cloud.aiplatform_v1.types import CustomJob, JobState

from airflow_vertex_persistent.exceptions import ServiceUnreachableError, VertexTrainingError
from airflow_vertex_persistent.operators.execution import load_execution, save_execution

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_vertex_persistent.operators.base import VertexOperator
    from tests.conftest import Relay
    from tests.integration.conftest import Cloud
    from tests.integration.operators.conftest import Run

    Make = Callable[..., VertexOperator]

RUNNING = JobState.JOB_STATE_RUNNING
SUCCEEDED = JobState.JOB_STATE_SUCCEEDED
FAILED = JobState.JOB_STATE_FAILED
CANCELLED = JobState.JOB_STATE_CANCELLED
# The service does not answer twice: an outage longer than this.
SHORT = 0.01
# Both attempts lose sight of their job, and the last one leaves it alone: nothing depends on how long it runs.
NEVER_SEEN: dict[str, Any] = {"retries": 1, "max_outage": SHORT, "cancel_on_kill": False}
# Another training in each attempt: the first would go on for ever.
FIRST_SLEEPS = ("sleep", "{{ 600 if ti.try_number == 1 else 0.1 }}")


@pytest.fixture
def cloud(empty_cloud: Cloud, relay: Relay) -> Cloud:
    """An emulator behind a relay, with the persistent resource ``nightly``."""
    assert relay.address != empty_cloud.address
    empty_cloud.create_resource()
    return empty_cloud


def before_retry(action: Callable[[], object]) -> Callable[[Any], None]:
    """Do something when the second attempt begins, before anything of the operator runs."""

    def run(context: Any) -> None:
        if context["ti"].try_number == 2:
            action()

    return run


def forget_tries(context: Any) -> None:
    """
    Make the second attempt look like one after a clear.

    Clearing lets Airflow's count of tries grow, which ``dag.test`` cannot do; here what was kept shrinks.
    """
    execution = load_execution(context)
    if execution is not None and context["ti"].try_number == 2:
        assert execution.max_tries == context["ti"].max_tries
        save_execution(context, replace(execution, max_tries=execution.max_tries - 1))


def jobs_of(cloud: Cloud) -> list[Any]:
    """Return all jobs, the oldest first, when none is on its way to its end."""
    settled = {RUNNING, SUCCEEDED, FAILED, CANCELLED}

    def find() -> list[Any] | None:
        jobs: list[Any] = sorted(cloud.all_jobs(), key=lambda job: str(job.create_time))
        return jobs if {job.state for job in jobs} <= settled else None

    jobs: list[Any] = cloud.wait_for(find, "no job is on its way to its end")
    return jobs


def states_of(cloud: Cloud) -> list[JobState]:
    """Return the states of all jobs, the oldest first."""
    return [job.state for job in jobs_of(cloud)]


@pytest.mark.durability(
    "Vertex AI gives no answer for longer than ``max_outage`` while the task waits, and attempts are left",
    "Fails with ``ServiceUnreachableError``; the retry takes the job over and succeeds.",
    "One: it runs on.",
)
def test_a_retry_takes_the_job_over(
    cloud: Cloud, relay: Relay, train: Make, run_dag: Callable[[], Run], *, deferrable: bool
) -> None:
    """An attempt that lost sight of its job leaves it to the next one, which pays for no second job."""
    relay.refuse("GetCustomJob", times=2)
    train("sleep", "1", retries=1, max_outage=SHORT, deferrable=deferrable)
    run = run_dag()
    (job,) = cloud.all_jobs()
    assert run.result()["job"] == job.name
    (error,) = run.errors["train"]
    assert type(error) is ServiceUnreachableError
    assert job.name in str(error)
    assert relay.count("CreateCustomJob") == 1
    assert relay.count("CancelCustomJob") == 0


@pytest.mark.durability(
    "The job succeeds between two attempts",
    "The retry returns the result of the job that has succeeded.",
    "One: it is not run again.",
)
def test_a_retry_gives_the_result_of_a_job_that_has_succeeded(
    cloud: Cloud, relay: Relay, train: Make, run_dag: Callable[[], Run], *, deferrable: bool
) -> None:
    """What was trained between two attempts is not trained again."""
    relay.refuse("GetCustomJob", times=2)
    succeeded = before_retry(
        lambda: cloud.wait_for(lambda: states_of(cloud) == [SUCCEEDED], "the job has succeeded")
    )
    train("sleep", "0.3", retries=1, max_outage=SHORT, deferrable=deferrable, pre_execute=succeeded)
    run = run_dag()
    (job,) = cloud.all_jobs()
    assert run.result()["job"] == job.name
    assert run.result()["state"] == "JOB_STATE_SUCCEEDED"
    assert run.result()["running_seconds"] is not None
    assert relay.count("CreateCustomJob") == 1


@pytest.mark.durability(
    "The training code fails",
    "Fails with ``JobFailedError``; the retry starts anew.",
    "Has failed; another takes its place.",
)
def test_a_retry_replaces_a_failed_job(
    cloud: Cloud, train: Make, run_dag: Callable[[], Run], *, deferrable: bool
) -> None:
    """Training code that failed runs again in a job of its own, under the same key."""
    train("fail", retries=1, deferrable=deferrable)
    run = run_dag()
    assert run.states == {"train": "failed"}
    jobs = jobs_of(cloud)
    assert [job.state for job in jobs] == [FAILED, FAILED]
    assert len({job.labels["airflow_execution"] for job in jobs}) == 1
    for job, error in zip(jobs, run.errors["train"], strict=True):
        assert job.name.rpartition("/")[2] in str(error)


@pytest.mark.durability(
    "Somebody cancels the job between two attempts",
    "The retry waits for its end, starts anew and succeeds.",
    "Is cancelled; another takes its place.",
)
def test_a_retry_replaces_a_cancelled_job(
    cloud: Cloud, relay: Relay, train: Make, run_dag: Callable[[], Run]
) -> None:
    """A job that is being cancelled when the retry looks is waited for, and then replaced."""
    relay.refuse("GetCustomJob", times=2)
    cancel = before_retry(cloud.cancel_running_job)
    train(*FIRST_SLEEPS, retries=1, max_outage=SHORT, pre_execute=cancel)
    result = run_dag().result()
    old, new = jobs_of(cloud)
    assert (old.state, new.state) == (CANCELLED, SUCCEEDED)
    assert result["job"] == new.name
    assert new.create_time >= old.end_time


@pytest.mark.durability(
    "Vertex AI creates the job and the reply is lost",
    "Finds the job by its key and goes on, without a retry.",
    "One: it runs on.",
)
def test_a_create_whose_reply_is_lost(
    cloud: Cloud, relay: Relay, train: Make, run_dag: Callable[[], Run], *, deferrable: bool
) -> None:
    """A create that happened without an answer is found by its key, within the same attempt."""
    relay.lose_reply("CreateCustomJob")
    train("sleep", "0.3", deferrable=deferrable)
    result = run_dag().result()
    (job,) = cloud.all_jobs()
    assert result["job"] == job.name
    assert relay.count("CreateCustomJob") == 1


@pytest.mark.durability(
    "A create gets no answer and has not happened",
    "Finds no job by its key and repeats the create, without a retry.",
    "One.",
)
def test_a_create_that_did_not_happen(
    cloud: Cloud, relay: Relay, train: Make, run_dag: Callable[[], Run]
) -> None:
    """A create that reached nobody is repeated after a look for its job."""
    relay.refuse("CreateCustomJob")
    train("succeed", max_outage=3)
    run_dag().result()
    assert states_of(cloud) == [SUCCEEDED]
    assert relay.count("CreateCustomJob") == 2


@pytest.mark.durability(
    "Vertex AI refuses a create: too many calls a minute",
    "Repeats the create, without a retry.",
    "One.",
)
def test_too_many_calls_a_minute(cloud: Cloud, relay: Relay, train: Make, run_dag: Callable[[], Run]) -> None:
    """A create that came too early is repeated, since it cannot have made a job."""
    text = "Quota exceeded for quota metric 'Job create requests' and limit 'requests per minute per region'"
    relay.refuse("CreateCustomJob", code="RESOURCE_EXHAUSTED", text=text)
    train("succeed", max_outage=60)
    run_dag().result()
    assert states_of(cloud) == [SUCCEEDED]
    assert relay.count("CreateCustomJob") == 2


@pytest.mark.durability(
    "Vertex AI answers no create for ``max_outage``",
    "Fails with ``ServiceUnreachableError``.",
    "None.",
)
def test_a_service_that_creates_nothing(
    cloud: Cloud, relay: Relay, train: Make, run_dag: Callable[[], Run]
) -> None:
    """Without an answer to any create the task ends after max_outage, with a next step and without a job."""
    relay.refuse("CreateCustomJob", times=1000)
    train("succeed", max_outage=1)
    error = run_dag().error()
    assert type(error) is ServiceUnreachableError
    assert "Next step:" in str(error)
    assert cloud.all_jobs() == []


@pytest.mark.durability(
    "An attempt that was thought dead has created another job",
    "The next attempt takes the oldest job over.",
    "The oldest runs on; the others are cancelled.",
)
def test_two_jobs_of_one_execution(
    cloud: Cloud, relay: Relay, train: Make, run_dag: Callable[[], Run]
) -> None:
    """Where an attempt that was thought dead made another job, the oldest stays and the other is cancelled."""
    relay.refuse("GetCustomJob", times=4)

    def create_another() -> None:
        job = cloud.running_job()
        again = CustomJob(display_name=job.display_name, job_spec=job.job_spec, labels=dict(job.labels))
        cloud.jobs.create_custom_job(parent=job.name.partition("/customJobs/")[0], custom_job=again)

    train("sleep", "600", **NEVER_SEEN, pre_execute=before_retry(create_another))
    assert run_dag().states == {"train": "failed"}
    old, new = jobs_of(cloud)
    assert (old.state, new.state) == (RUNNING, CANCELLED)


@pytest.mark.durability(
    "The DAG is changed between two attempts",
    "The retry starts anew and succeeds.",
    "Is cancelled; another takes its place.",
)
def test_a_dag_that_was_changed(
    cloud: Cloud, relay: Relay, train: Make, run_dag: Callable[[], Run], *, deferrable: bool
) -> None:
    """A job that would train something else than the DAG now says is cancelled and replaced."""
    relay.refuse("GetCustomJob", times=2)
    train(*FIRST_SLEEPS, retries=1, max_outage=SHORT, deferrable=deferrable)
    result = run_dag().result()
    old, new = jobs_of(cloud)
    assert (old.state, new.state) == (CANCELLED, SUCCEEDED)
    assert result["job"] == new.name
    assert old.labels["airflow_execution"] == new.labels["airflow_execution"]
    assert old.labels["airflow_request"] != new.labels["airflow_request"]


@pytest.mark.durability(
    "A retry with ``durable=False``",
    "The retry starts anew.",
    "Is cancelled; another takes its place.",
)
def test_a_task_that_is_not_durable(
    cloud: Cloud, relay: Relay, train: Make, run_dag: Callable[[], Run], *, deferrable: bool
) -> None:
    """With durable=False a retry cancels the job of the attempt before and starts one of its own."""
    relay.refuse("GetCustomJob", times=4)
    train("sleep", "600", **NEVER_SEEN, durable=False, deferrable=deferrable)
    assert run_dag().states == {"train": "failed"}
    old, new = jobs_of(cloud)
    assert (old.state, new.state) == (CANCELLED, RUNNING)
    assert old.labels["airflow_request"] == new.labels["airflow_request"]
    assert old.labels["airflow_execution"] != new.labels["airflow_execution"]


@pytest.mark.durability(
    "Cleared when it has failed and left its job running, as with ``cancel_on_kill=False``",
    "Starts anew.",
    "Is cancelled; another takes its place.",
)
def test_a_cleared_task(
    cloud: Cloud, relay: Relay, train: Make, run_dag: Callable[[], Run], *, deferrable: bool
) -> None:
    """Clearing a task means that its job, which may still run, is not wanted any more."""
    relay.refuse("GetCustomJob", times=4)
    train("sleep", "600", **NEVER_SEEN, deferrable=deferrable, pre_execute=forget_tries)
    assert run_dag().states == {"train": "failed"}
    old, new = jobs_of(cloud)
    assert (old.state, new.state) == (CANCELLED, RUNNING)
    assert old.labels["airflow_request"] == new.labels["airflow_request"]
    assert old.labels["airflow_execution"] != new.labels["airflow_execution"]


@pytest.mark.durability(
    "Cleared when its job has succeeded",
    "Starts anew and succeeds.",
    "Has succeeded; another is created.",
)
def test_a_cleared_task_trains_again(
    cloud: Cloud, relay: Relay, train: Make, run_dag: Callable[[], Run]
) -> None:
    """Clearing a task trains once more, even if its job has succeeded meanwhile."""
    relay.refuse("GetCustomJob", times=2)

    def wait_and_forget(context: Any) -> None:
        before_retry(lambda: cloud.wait_for(lambda: states_of(cloud) == [SUCCEEDED], "it has succeeded"))(
            context
        )
        forget_tries(context)

    train("sleep", "0.3", retries=1, max_outage=SHORT, pre_execute=wait_and_forget)
    result = run_dag().result()
    old, new = jobs_of(cloud)
    assert (old.state, new.state) == (SUCCEEDED, SUCCEEDED)
    assert result["job"] == new.name


@pytest.mark.durability(
    "Vertex AI gives no answer for longer than ``max_outage`` while the task waits, in the last attempt",
    "Fails with ``ServiceUnreachableError``.",
    "Is cancelled; with ``cancel_on_kill=False`` it runs on.",
)
@pytest.mark.parametrize(("cancel_on_kill", "state"), [(True, CANCELLED), (False, RUNNING)])
def test_the_last_attempt_fails(  # noqa: PLR0917 - one row of a table
    cloud: Cloud,
    relay: Relay,
    train: Make,
    run_dag: Callable[[], Run],
    cancel_on_kill: bool,
    state: JobState,
    *,
    deferrable: bool,
) -> None:
    """A job that nobody will come back to is cancelled, unless the user wants to keep it."""
    relay.refuse("GetCustomJob", times=2)
    train("sleep", "600", max_outage=SHORT, cancel_on_kill=cancel_on_kill, deferrable=deferrable)
    assert type(run_dag().error()) is ServiceUnreachableError
    cloud.wait_for(lambda: states_of(cloud) == [state], f"the job is {state.name}")
    assert relay.count("CancelCustomJob") == int(cancel_on_kill)


@pytest.mark.durability(
    "The connection's account loses the permission to read the job while the task waits",
    "Fails with ``VertexTrainingError`` at once, in each attempt.",
    "Runs on, until the last attempt cancels it.",
)
def test_only_the_last_attempt_cancels(
    cloud: Cloud, relay: Relay, train: Make, run_dag: Callable[[], Run]
) -> None:
    """With attempts left the job stays; after the last one it does not."""
    relay.refuse("GetCustomJob", code="PERMISSION_DENIED", times=2)
    train("sleep", "600", retries=1)
    run = run_dag()
    assert [type(error) for error in run.errors["train"]] == [VertexTrainingError, VertexTrainingError]
    cloud.wait_for(lambda: states_of(cloud) == [CANCELLED], "the one job is cancelled")
    assert relay.count("CreateCustomJob") == 1
    assert relay.count("CancelCustomJob") == 1


@pytest.mark.durability(
    "The last attempt fails, and Vertex AI refuses to cancel the job",
    "Fails with its own error.",
    "Runs on.",
)
def test_a_job_that_cannot_be_cancelled(
    cloud: Cloud, relay: Relay, train: Make, run_dag: Callable[[], Run]
) -> None:
    """A task ends with the error that made it fail, even when cancelling its job fails as well."""
    relay.refuse("GetCustomJob", times=2)
    relay.refuse("CancelCustomJob", code="PERMISSION_DENIED", times=1000)
    train("sleep", "600", max_outage=SHORT)
    assert type(run_dag().error()) is ServiceUnreachableError
    assert states_of(cloud) == [RUNNING]


@pytest.mark.durability(
    "Longer than ``execution_timeout`` while it runs or is deferred",
    "Fails with that error.",
    "Is cancelled.",
)
@pytest.mark.parametrize(("cancel_on_kill", "state"), [(True, CANCELLED), (False, RUNNING)])
def test_an_execution_timeout_while_running(  # noqa: PLR0917 - one row of a table
    cloud: Cloud, relay: Relay, train: Make, run_dag: Callable[[], Run], cancel_on_kill: bool, state: JobState
) -> None:
    """A task that ran too long ends, and its job with it, unless the user wants to keep it."""
    train(
        "sleep",
        "600",
        execution_timeout=timedelta(seconds=5),
        cancel_on_kill=cancel_on_kill,
        deferrable=False,
    )
    assert type(run_dag().error()) is AirflowTaskTimeout
    cloud.wait_for(lambda: states_of(cloud) == [state], f"the job is {state.name}")
    assert relay.count("CancelCustomJob") == int(cancel_on_kill)
