# SPDX-License-Identifier: Apache-2.0
"""A tuning job is as safe as any other: what custom jobs survive, it survives, and there is one."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from airflow.sdk import BaseOperator
from airflow.sdk.exceptions import AirflowTaskTimeout
from google.cloud.aiplatform_v1.types import HyperparameterTuningJob, JobState

from airflow_vertex_persistent.exceptions import ServiceUnreachableError
from airflow_vertex_persistent.operators.custom_job import PersistentResourceCustomJobOperator
from airflow_vertex_persistent.operators.hyperparameter_tuning import HyperparameterTuningOperator
from airflow_vertex_persistent.specs.study import integer

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow.sdk import DAG, Context

    from airflow_vertex_persistent.operators.base import VertexOperator
    from tests.conftest import Relay
    from tests.integration.conftest import Cloud
    from tests.integration.operators.conftest import Run

    Make = Callable[..., VertexOperator]

GET = "GetHyperparameterTuningJob"
CREATE = "CreateHyperparameterTuningJob"
CANCEL = "CancelHyperparameterTuningJob"
RUNNING = JobState.JOB_STATE_RUNNING
SUCCEEDED = JobState.JOB_STATE_SUCCEEDED
CANCELLED = JobState.JOB_STATE_CANCELLED
# The service does not answer twice: an outage longer than this.
SHORT = 0.01
TWO_TRIALS: dict[str, Any] = {"max_trial_count": 2, "parallel_trial_count": 2}
# Longer than a test lasts, in the first attempt.
FIRST_SLEEPS = "--seconds={{ 600 if ti.try_number == 1 else 0 }}"


def before_retries(*actions: Callable[[], object]) -> Callable[[Any], None]:
    """Do something when the second attempt begins, the third, ..., before anything of the operator runs."""

    def run(context: Any) -> None:
        retry = context["ti"].try_number - 1
        if 0 < retry <= len(actions):
            actions[retry - 1]()

    return run


def running(cloud: Cloud) -> HyperparameterTuningJob:
    """Wait for the one tuning job to run."""

    def find() -> HyperparameterTuningJob | None:
        jobs = cloud.tuning_jobs()
        assert len(jobs) < 2, jobs
        return jobs[0] if jobs and jobs[0].state == RUNNING else None

    found: HyperparameterTuningJob = cloud.wait_for(find, "a tuning job runs")
    return found


def wait_for_states(cloud: Cloud, *states: int) -> list[HyperparameterTuningJob]:
    """Wait until the tuning jobs are in these states, the oldest first, and return them."""

    def reached() -> bool:
        return [job.state for job in cloud.tuning_jobs()] == list(states)

    cloud.wait_for(reached, f"the tuning jobs are {[JobState(state).name for state in states]}")
    return cloud.tuning_jobs()


def trials_at_work(cloud: Cloud) -> int:
    """Return how many custom jobs have not ended."""
    return sum("end_time" not in job for job in cloud.all_jobs())


def check_result(run: Run, job: HyperparameterTuningJob) -> None:
    """Check that a task has handed over the best trial of a tuning job."""
    result = run.result()
    assert result["job"] == job.name
    best = result["best_trial"]
    assert best["custom_job"] in {trial.custom_job for trial in job.trials}
    assert best["metrics"]["loss"] == min(trial.final_measurement.metrics[0].value for trial in job.trials)


@pytest.mark.durability(
    "Vertex AI gives no answer for longer than ``max_outage`` while the task waits, and attempts are left",
    "Fails with ``ServiceUnreachableError``; the retry takes the job over and succeeds.",
    "One: it runs on.",
    tuning=True,
)
def test_a_retry_takes_the_tuning_job_over(
    relayed_cloud: Cloud, relay: Relay, tune: Make, run_dag: Callable[[], Run], *, deferrable: bool
) -> None:
    """An attempt that lost sight of its job leaves it to the next one, and no trial runs twice."""
    relay.refuse(GET, times=2)
    tune("--seconds=1", retries=1, max_outage=SHORT, deferrable=deferrable)
    run = run_dag()
    (job,) = relayed_cloud.tuning_jobs()
    check_result(run, job)
    (error,) = run.errors["train"]
    assert type(error) is ServiceUnreachableError
    assert job.name in str(error)
    assert (relay.count(CREATE), relay.count(CANCEL)) == (1, 0)
    assert {trial.custom_job for trial in job.trials} == {run.name for run in relayed_cloud.all_jobs()}


@pytest.mark.durability(
    "Vertex AI creates the job and the reply is lost",
    "Finds the job by its key and goes on, without a retry.",
    "One: it runs on.",
    tuning=True,
)
def test_a_create_of_a_tuning_job_whose_reply_is_lost(
    relayed_cloud: Cloud, relay: Relay, tune: Make, run_dag: Callable[[], Run], *, deferrable: bool
) -> None:
    """A create that happened without an answer is found by its key, within the same attempt."""
    relay.lose_reply(CREATE)
    tune(**TWO_TRIALS, deferrable=deferrable)
    run = run_dag()
    (job,) = relayed_cloud.tuning_jobs()
    check_result(run, job)
    assert relay.count(CREATE) == 1


@pytest.mark.durability(
    "An attempt that was thought dead has created another job",
    "The next attempt takes the oldest job over.",
    "The oldest runs on; the others are cancelled.",
    tuning=True,
)
def test_two_tuning_jobs_of_one_execution(
    relayed_cloud: Cloud, relay: Relay, tune: Make, run_dag: Callable[[], Run]
) -> None:
    """Where an attempt that was thought dead made another one, the oldest stays and the other is cancelled."""
    relay.refuse(GET, times=2)

    def create_another() -> None:
        job = running(relayed_cloud)
        kept = ("display_name", "study_spec", "trial_job_spec", "max_trial_count", "parallel_trial_count")
        again = HyperparameterTuningJob({field: getattr(job, field) for field in kept})
        again.labels = dict(job.labels)
        parent = job.name.partition("/hyperparameterTuningJobs/")[0]
        relayed_cloud.jobs.create_hyperparameter_tuning_job(parent=parent, hyperparameter_tuning_job=again)

    tune(
        "--seconds=8",
        **TWO_TRIALS,
        retries=1,
        max_outage=SHORT,
        cancel_on_kill=False,
        pre_execute=before_retries(create_another),
    )
    run = run_dag()
    old, _ = wait_for_states(relayed_cloud, SUCCEEDED, CANCELLED)
    check_result(run, old)
    assert trials_at_work(relayed_cloud) == 0


@pytest.mark.durability(
    "The DAG is changed between two attempts",
    "The retry starts anew and succeeds.",
    "Is cancelled; another takes its place.",
    tuning=True,
)
def test_a_tuning_task_that_was_changed(
    relayed_cloud: Cloud, relay: Relay, tune: Make, run_dag: Callable[[], Run], *, deferrable: bool
) -> None:
    """A job that would search something else than the DAG now says is cancelled and replaced."""
    relay.refuse(GET, times=2)
    tune(FIRST_SLEEPS, **TWO_TRIALS, retries=1, max_outage=SHORT, deferrable=deferrable)
    run = run_dag()
    old, new = wait_for_states(relayed_cloud, CANCELLED, SUCCEEDED)
    check_result(run, new)
    assert old.labels["airflow_execution"] == new.labels["airflow_execution"]
    assert old.labels["airflow_request"] != new.labels["airflow_request"]


class Rewritten(BaseOperator):
    """One operator in its first attempt, another one later: somebody has rewritten the DAG in between."""

    def __init__(self, *, first: BaseOperator, then: BaseOperator, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.first, self.then = first, then

    def execute(self, context: Context) -> Any:
        """Run the one or the other."""
        return (self.first if context["ti"].try_number == 1 else self.then).execute(context)


@pytest.mark.durability(
    "The DAG is changed between two attempts",
    "The retry starts anew and succeeds.",
    "Is cancelled; another takes its place.",
    tuning=True,
)
def test_a_task_that_came_to_tune(
    relayed_cloud: Cloud, relay: Relay, dag: DAG, run_dag: Callable[[], Run]
) -> None:
    """The custom job of a task that now wants a tuning job is cancelled, though it is of another kind."""
    relay.refuse("GetCustomJob", times=2)
    shared: dict[str, Any] = {
        "task_id": "train",
        "region": relayed_cloud.REGION,
        "persistent_resource_id": "nightly",
        "container_uri": relayed_cloud.IMAGE,
        "machine_type": "n1-standard-4",
        "poll_interval": 0.05,
        "retries": 1,
        "max_outage": SHORT,
    }
    first = PersistentResourceCustomJobOperator(**shared, args=["sleep", "600"])
    then = HyperparameterTuningOperator(
        **shared, **TWO_TRIALS, args=["tune"], metrics={"loss": "minimize"}, parameters={"x": integer(1, 8)}
    )
    Rewritten(task_id="train", dag=dag, first=first, then=then, retries=1)
    run = run_dag()
    (job,) = wait_for_states(relayed_cloud, SUCCEEDED)
    check_result(run, job)
    (trained,) = [job for job in relayed_cloud.all_jobs() if "airflow_execution" in job.labels]
    assert trained.state == CANCELLED


@pytest.mark.durability(
    "Vertex AI gives no answer for less than ``max_outage`` while the task waits",
    "Goes on, without a retry.",
    "One: it runs on.",
    tuning=True,
)
def test_an_outage_is_waited_out_while_tuning(
    relayed_cloud: Cloud, relay: Relay, tune: Make, run_dag: Callable[[], Run], *, deferrable: bool
) -> None:
    """Looks that fail while the service is away do not end the task."""
    relay.refuse(GET, times=4)
    tune(**TWO_TRIALS, max_outage=60, deferrable=deferrable)
    run = run_dag()
    (job,) = relayed_cloud.tuning_jobs()
    check_result(run, job)
    assert relay.count(GET) > 4


@pytest.mark.durability(
    "The job succeeds between two attempts",
    "The retry returns the result of the job that has succeeded.",
    "One: it is not run again.",
    tuning=True,
)
def test_trials_that_are_not_answered_at_once(
    relayed_cloud: Cloud, relay: Relay, tune: Make, run_dag: Callable[[], Run]
) -> None:
    """An error while the trials of a job that has succeeded are read is waited out."""
    relay.refuse(GET, times=2)

    def succeeded() -> None:
        wait_for_states(relayed_cloud, SUCCEEDED)
        relay.refuse(GET)

    tune(
        **TWO_TRIALS,
        retries=1,
        max_outage=f"{{{{ {SHORT} if ti.try_number == 1 else 60 }}}}",
        pre_execute=before_retries(succeeded),
    )
    run = run_dag()
    (job,) = relayed_cloud.tuning_jobs()
    check_result(run, job)
    assert len(run.errors["train"]) == 1


@pytest.mark.durability(
    "Vertex AI gives no answer for longer than ``max_outage`` when the trials of a job that has succeeded are read",
    "Fails with ``ServiceUnreachableError``; the retry returns the result.",
    "One: it is not run again.",
    tuning=True,
)
@pytest.mark.parametrize("retries", [1, 2])
def test_trials_that_are_not_answered(
    relayed_cloud: Cloud, relay: Relay, tune: Make, run_dag: Callable[[], Run], retries: int
) -> None:
    """A result that could not be read is read by the next attempt; a job that has succeeded is never cancelled."""
    relay.refuse(GET, times=2)

    def succeeded() -> None:
        wait_for_states(relayed_cloud, SUCCEEDED)
        relay.refuse(GET, times=2)

    tune(**TWO_TRIALS, retries=retries, max_outage=SHORT, pre_execute=before_retries(succeeded))
    run = run_dag()
    (job,) = relayed_cloud.tuning_jobs()
    assert [type(error) for error in run.errors["train"]] == [ServiceUnreachableError] * 2
    assert (relay.count(CREATE), relay.count(CANCEL)) == (1, 0)
    if retries == 2:
        check_result(run, job)


@pytest.mark.durability(
    "Vertex AI gives no answer for longer than ``max_outage`` while the task waits, in the last attempt",
    "Fails with ``ServiceUnreachableError``.",
    "Is cancelled; with ``cancel_on_kill=False`` it runs on.",
    tuning=True,
)
@pytest.mark.parametrize(("cancel_on_kill", "state"), [(True, CANCELLED), (False, RUNNING)])
def test_the_last_attempt_of_a_tuning_task_fails(  # noqa: PLR0917 - one row of a table
    relayed_cloud: Cloud,
    relay: Relay,
    tune: Make,
    run_dag: Callable[[], Run],
    cancel_on_kill: bool,
    state: JobState,
) -> None:
    """A job that nobody will come back to is cancelled with its trials, unless the user wants to keep it."""
    relay.refuse(GET, times=2)
    tune("--seconds=600", max_outage=SHORT, cancel_on_kill=cancel_on_kill)
    assert type(run_dag().error()) is ServiceUnreachableError
    wait_for_states(relayed_cloud, state)
    assert (trials_at_work(relayed_cloud) == 0) == cancel_on_kill
    assert relay.count(CANCEL) == int(cancel_on_kill)


@pytest.mark.durability(
    "Longer than ``execution_timeout`` while it runs or is deferred",
    "Fails with that error.",
    "Is cancelled.",
    tuning=True,
)
def test_an_execution_timeout_while_tuning(
    relayed_cloud: Cloud, relay: Relay, tune: Make, run_dag: Callable[[], Run]
) -> None:
    """A task that ran too long ends, and its tuning job with it; that of a deferred one is for the system tests."""
    tune("--seconds=600", execution_timeout=timedelta(seconds=5), deferrable=False)
    assert type(run_dag().error()) is AirflowTaskTimeout
    wait_for_states(relayed_cloud, CANCELLED)
    assert trials_at_work(relayed_cloud) == 0
    assert relay.count(CANCEL) == 1
