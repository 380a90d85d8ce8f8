# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from attempts import before_retry
from google.cloud.aiplatform_v1.types import CustomJob, JobState

from airflow_vertex_persistent.exceptions import ServiceUnreachableError
from airflow_vertex_persistent.operators.training.execution import load_execution, save_execution

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


def forget_tries(context: Any) -> None:
    """
    Make the second attempt look like one after a clear.

    Clearing lets Airflow's count of tries grow, which ``dag.test`` cannot do; here what was kept shrinks.
    """
    execution = load_execution(context)
    if execution is not None and context["ti"].try_number == 2:
        assert execution.max_tries == context["ti"].max_tries
        save_execution(context, replace(execution, max_tries=execution.max_tries - 1))


def lose_sight_again(relay: Relay) -> Callable[[Any], None]:
    """Let the second attempt see the end of an older job, but lose sight of its own."""
    return before_retry(
        lambda: relay.before("CreateCustomJob", lambda: relay.refuse("GetCustomJob", times=2))
    )


@pytest.mark.durability(
    "Vertex AI gives no answer for longer than ``max_outage`` while the task waits, and attempts are left",
    "Fails with ``ServiceUnreachableError``; the retry takes the job over and succeeds.",
    "One: it runs on.",
)
def test_a_retry_takes_the_job_over(
    relayed_cloud: Cloud, relay: Relay, train: Make, run_dag: Callable[[], Run], *, deferrable: bool
) -> None:
    """An attempt that lost sight of its job leaves it to the next one, which pays for no second job."""
    relay.refuse("GetCustomJob", times=2)
    train("sleep", "1", retries=1, max_outage=SHORT, deferrable=deferrable)
    run = run_dag()
    (job,) = relayed_cloud.all_jobs()
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
    relayed_cloud: Cloud, relay: Relay, train: Make, run_dag: Callable[[], Run], *, deferrable: bool
) -> None:
    """What was trained between two attempts is not trained again."""
    relay.refuse("GetCustomJob", times=2)
    succeeded = before_retry(
        lambda: relayed_cloud.wait_for(
            lambda: relayed_cloud.settled_states() == [SUCCEEDED], "the job has succeeded"
        )
    )
    train("sleep", "0.3", retries=1, max_outage=SHORT, deferrable=deferrable, pre_execute=succeeded)
    run = run_dag()
    (job,) = relayed_cloud.all_jobs()
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
    relayed_cloud: Cloud, train: Make, run_dag: Callable[[], Run], *, deferrable: bool
) -> None:
    """Training code that failed runs again in a job of its own, under the same key."""
    train("fail", retries=1, deferrable=deferrable)
    run = run_dag()
    assert run.states == {"train": "failed"}
    jobs = relayed_cloud.settled_jobs()
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
    relayed_cloud: Cloud, relay: Relay, train: Make, run_dag: Callable[[], Run]
) -> None:
    """A job that is being cancelled when the retry looks is waited for, and then replaced."""
    relay.refuse("GetCustomJob", times=2)
    cancel = before_retry(relayed_cloud.cancel_running_job)
    train(*FIRST_SLEEPS, retries=1, max_outage=SHORT, pre_execute=cancel)
    result = run_dag().result()
    old, new = relayed_cloud.settled_jobs()
    assert (old.state, new.state) == (CANCELLED, SUCCEEDED)
    assert result["job"] == new.name
    assert new.create_time >= old.end_time


@pytest.mark.durability(
    "Vertex AI creates the job and the reply is lost",
    "Finds the job by its key and goes on, without a retry.",
    "One: it runs on.",
)
def test_a_create_whose_reply_is_lost(
    relayed_cloud: Cloud, relay: Relay, train: Make, run_dag: Callable[[], Run], *, deferrable: bool
) -> None:
    """A create that happened without an answer is found by its key, within the same attempt."""
    relay.lose_reply("CreateCustomJob")
    train("sleep", "0.3", deferrable=deferrable)
    result = run_dag().result()
    (job,) = relayed_cloud.all_jobs()
    assert result["job"] == job.name
    assert relay.count("CreateCustomJob") == 1


@pytest.mark.durability(
    "A create gets no answer and has not happened",
    "Finds no job by its key and repeats the create, without a retry.",
    "One.",
)
def test_a_create_that_did_not_happen(
    relayed_cloud: Cloud, relay: Relay, train: Make, run_dag: Callable[[], Run]
) -> None:
    """A create that reached nobody is repeated after a look for its job."""
    relay.refuse("CreateCustomJob")
    train("succeed", max_outage=100)
    run_dag().result()
    assert relayed_cloud.settled_states() == [SUCCEEDED]
    assert relay.count("CreateCustomJob") == 2


@pytest.mark.durability(
    "Vertex AI refuses a create: too many calls a minute",
    "Repeats the create, without a retry.",
    "One.",
)
def test_too_many_calls_a_minute(
    relayed_cloud: Cloud, relay: Relay, train: Make, run_dag: Callable[[], Run]
) -> None:
    """A create that came too early is repeated, since it cannot have made a job."""
    text = "Quota exceeded for quota metric 'Job create requests' and limit 'requests per minute per region'"
    relay.refuse("CreateCustomJob", code="RESOURCE_EXHAUSTED", text=text)
    train("succeed", max_outage=60)
    run_dag().result()
    assert relayed_cloud.settled_states() == [SUCCEEDED]
    assert relay.count("CreateCustomJob") == 2


@pytest.mark.durability(
    "Vertex AI answers no create for ``max_outage``",
    "Fails with ``ServiceUnreachableError``.",
    "None.",
)
def test_a_service_that_creates_nothing(
    relayed_cloud: Cloud, relay: Relay, train: Make, run_dag: Callable[[], Run]
) -> None:
    """Without an answer to any create the task ends after max_outage, with a next step and without a job."""
    relay.refuse("CreateCustomJob", times=1000)
    train("succeed", max_outage=1)
    error = run_dag().error()
    assert type(error) is ServiceUnreachableError
    assert "Next step:" in str(error)
    assert relayed_cloud.all_jobs() == []


@pytest.mark.durability(
    "An attempt that was thought dead has created another job",
    "The next attempt takes the oldest job over.",
    "The oldest runs on; the others are cancelled.",
)
def test_two_jobs_of_one_execution(
    relayed_cloud: Cloud, relay: Relay, train: Make, run_dag: Callable[[], Run]
) -> None:
    """Where an attempt that was thought dead made another job, the oldest stays and the other is cancelled."""
    relay.refuse("GetCustomJob", times=2)

    def create_another() -> None:
        job = relayed_cloud.running_job()
        again = CustomJob(display_name=job.display_name, job_spec=job.job_spec, labels=dict(job.labels))
        relayed_cloud.jobs.create_custom_job(parent=job.name.partition("/customJobs/")[0], custom_job=again)

    train("sleep", "10", **NEVER_SEEN, pre_execute=before_retry(create_another))
    assert run_dag().states == {"train": "success"}
    old, new = relayed_cloud.settled_jobs()
    assert (old.state, new.state) == (SUCCEEDED, CANCELLED)


@pytest.mark.durability(
    "The DAG is changed between two attempts",
    "The retry starts anew and succeeds.",
    "Is cancelled; another takes its place.",
)
def test_a_dag_that_was_changed(
    relayed_cloud: Cloud, relay: Relay, train: Make, run_dag: Callable[[], Run], *, deferrable: bool
) -> None:
    """A job that would train something else than the DAG now says is cancelled and replaced."""
    relay.refuse("GetCustomJob", times=2)
    train(*FIRST_SLEEPS, retries=1, max_outage=SHORT, deferrable=deferrable)
    result = run_dag().result()
    old, new = relayed_cloud.settled_jobs()
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
    relayed_cloud: Cloud, relay: Relay, train: Make, run_dag: Callable[[], Run], *, deferrable: bool
) -> None:
    """With durable=False a retry cancels the job of the attempt before and starts one of its own."""
    relay.refuse("GetCustomJob", times=2)
    train(
        "sleep",
        "600",
        **NEVER_SEEN,
        durable=False,
        deferrable=deferrable,
        pre_execute=lose_sight_again(relay),
    )
    assert run_dag().states == {"train": "failed"}
    old, new = relayed_cloud.settled_jobs()
    assert (old.state, new.state) == (CANCELLED, RUNNING)
    assert old.labels["airflow_request"] == new.labels["airflow_request"]
    assert old.labels["airflow_execution"] != new.labels["airflow_execution"]


@pytest.mark.durability(
    "Cleared when it has failed and left its job running, as with ``cancel_on_kill=False``",
    "Starts anew.",
    "Is cancelled; another takes its place.",
)
def test_a_cleared_task(
    relayed_cloud: Cloud, relay: Relay, train: Make, run_dag: Callable[[], Run], *, deferrable: bool
) -> None:
    """Clearing a task means that its job, which may still run, is not wanted any more."""
    relay.refuse("GetCustomJob", times=2)

    def cleared(context: Any) -> None:
        forget_tries(context)
        lose_sight_again(relay)(context)

    train("sleep", "600", **NEVER_SEEN, deferrable=deferrable, pre_execute=cleared)
    assert run_dag().states == {"train": "failed"}
    old, new = relayed_cloud.settled_jobs()
    assert (old.state, new.state) == (CANCELLED, RUNNING)
    assert old.labels["airflow_request"] == new.labels["airflow_request"]
    assert old.labels["airflow_execution"] != new.labels["airflow_execution"]


@pytest.mark.durability(
    "Cleared when its job has succeeded",
    "Starts anew and succeeds.",
    "Has succeeded; another is created.",
)
def test_a_cleared_task_trains_again(
    relayed_cloud: Cloud, relay: Relay, train: Make, run_dag: Callable[[], Run]
) -> None:
    """Clearing a task trains once more, even if its job has succeeded meanwhile."""
    relay.refuse("GetCustomJob", times=2)

    def wait_and_forget(context: Any) -> None:
        before_retry(
            lambda: relayed_cloud.wait_for(
                lambda: relayed_cloud.settled_states() == [SUCCEEDED], "it has succeeded"
            )
        )(context)
        forget_tries(context)

    train("sleep", "0.3", retries=1, max_outage=SHORT, pre_execute=wait_and_forget)
    result = run_dag().result()
    old, new = relayed_cloud.settled_jobs()
    assert (old.state, new.state) == (SUCCEEDED, SUCCEEDED)
    assert result["job"] == new.name
