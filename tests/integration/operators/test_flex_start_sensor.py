# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from airflow.sdk import BaseOperator
from airflow.sdk.bases.operator import TRIGGER_FAIL_REPR, TriggerFailureReason
from airflow.sdk.exceptions import (
    AirflowFailException,
    AirflowSensorTimeout,
    AirflowSkipException,
    AirflowTaskTimeout,
)

from airflow_vertex_persistent.exceptions import (
    JobCancelledError,
    MaxWaitExceededError,
    ServiceUnreachableError,
    VertexTrainingError,
)
from airflow_vertex_persistent.operators.flex_start import FlexStartTrainingOperator
from airflow_vertex_persistent.sensors.flex_start import FlexStartSensor

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow.sdk import DAG

    from tests.conftest import Relay
    from tests.integration.conftest import Cloud
    from tests.integration.operators.conftest import Run

    Make = Callable[..., FlexStartSensor]

HERE = "europe-west4"
IMAGE = "europe-west4-docker.pkg.dev/acme/training/small:1"
L4: dict[str, Any] = {
    "machine_type": "g2-standard-4",
    "accelerator_type": "NVIDIA_L4",
    "accelerator_count": 1,
}
NOTHING = {"*/*": "never"}
JOB = "projects/1/locations/europe-west4/customJobs/2"
PULL = "{{ ti.xcom_pull(task_ids='submit', key='job') }}"
ONE_PULL = "{{ ti.xcom_pull(task_ids='submit', key='job', map_indexes=-1) }}"


@pytest.fixture
def sense(request: pytest.FixtureRequest, dag: DAG) -> Make:
    """Make the task ``sense`` with short pauses, in each mode; what it waits for is its own to say."""
    mode = request.param
    values: dict[str, Any] = {
        "task_id": "sense",
        "poll_interval": 0.05,
        "mode": "poke" if mode == "deferrable" else mode,
        "deferrable": mode == "deferrable",
    }
    return lambda **changes: FlexStartSensor(dag=dag, **{**values, **changes})


in_each_mode = pytest.mark.parametrize("sense", ["poke", "reschedule", "deferrable"], indirect=True)


def queued(cloud: Cloud, *args: str, **scheduling: Any) -> str:
    """Create a job that queues for a machine, and return its name."""
    pool = {
        "machine_spec": L4,
        "replica_count": 1,
        "container_spec": {"image_uri": IMAGE, "args": list(args) or ["sleep", "600"]},
    }
    spec = {"worker_pool_specs": [pool], "scheduling": {"strategy": "FLEX_START", **scheduling}}
    job: Any = {"display_name": "queued", "job_spec": spec}
    parent = f"projects/{cloud.PROJECT}/locations/{HERE}"
    name: str = cloud.jobs.create_custom_job(parent=parent, custom_job=job).name
    return name


@in_each_mode
def test_it_ends_when_the_machines_are_there(
    start_cloud: Callable[..., Cloud], sense: Make, run_dag: Callable[[], Run]
) -> None:
    """The task ends while the job runs, and tells how long it has queued."""
    cloud = start_cloud(stock={"*/*": "0, then 1 after 1 s"})
    name = queued(cloud)
    sense(job=name)
    result = run_dag().result("sense")
    assert (result["job"], result["state"], result["region"]) == (name, "JOB_STATE_RUNNING", HERE)
    assert result["queued_seconds"] > 0.3
    assert result["running_seconds"] is None


@in_each_mode
@pytest.mark.parametrize("args", [("succeed",), ("fail",)], ids=["succeeded", "failed"])
def test_one_that_has_run(
    start_cloud: Callable[..., Cloud], sense: Make, run_dag: Callable[[], Run], args: tuple[str, ...]
) -> None:
    """A job that has had its machines has had them, whatever became of it."""
    cloud = start_cloud()
    name = queued(cloud, *args)
    cloud.wait_for(lambda: cloud.jobs.get_custom_job(name=name).end_time, "the job has ended")
    sense(job=name)
    assert run_dag().result("sense")["running_seconds"] is not None


@in_each_mode
@pytest.mark.parametrize("expiry", ["failed", "cancelled", "expired"])
def test_machines_that_never_come(
    start_cloud: Callable[..., Cloud], sense: Make, run_dag: Callable[[], Run], expiry: str
) -> None:
    """A job that has waited in vain fails the task with the typed reason, however the service ends it."""
    cloud = start_cloud(stock=NOTHING, flex_start_expiry=expiry)
    sense(job=queued(cloud, max_wait_duration="0.3s"))
    error = run_dag().error("sense")
    assert type(error) is MaxWaitExceededError
    assert "Next step: " in str(error)


@in_each_mode
def test_one_that_was_cancelled(
    start_cloud: Callable[..., Cloud], sense: Make, run_dag: Callable[[], Run]
) -> None:
    """A job that somebody cancelled while it waited never runs."""
    cloud = start_cloud(stock=NOTHING)
    name = queued(cloud)
    cloud.jobs.cancel_custom_job(name=name)
    sense(job=name)
    assert type(run_dag().error("sense")) is JobCancelledError


@in_each_mode
def test_the_job_of_another_task(
    start_cloud: Callable[..., Cloud], dag: DAG, sense: Make, run_dag: Callable[[], Run]
) -> None:
    """The result of a task that has only submitted its job is enough."""
    cloud = start_cloud()
    submit = FlexStartTrainingOperator(
        dag=dag,
        task_id="submit",
        region=HERE,
        container_uri=IMAGE,
        args=["sleep", "600"],
        wait_for_completion=False,
        **L4,
    )
    sense(job=submit.output)
    run = run_dag()
    assert run.result("sense")["job"] == run.result("submit")["job"]
    (job,) = cloud.jobs.list_custom_jobs(parent=f"projects/{cloud.PROJECT}/locations/{HERE}")
    assert job.labels["airflow_keep"] == "true"


@pytest.mark.parametrize("sense", ["poke", "reschedule"], indirect=True)
def test_the_sensors_own_limit(
    start_cloud: Callable[..., Cloud], sense: Make, run_dag: Callable[[], Run]
) -> None:
    """Past its ``timeout`` the sensor ends, and the job waits on."""
    cloud = start_cloud(stock=NOTHING)
    name = queued(cloud)
    sense(job=name, timeout=0.3)
    assert type(run_dag().error("sense")) is AirflowSensorTimeout
    assert cloud.jobs.get_custom_job(name=name).state.name == "JOB_STATE_PENDING"


@in_each_mode
def test_an_outage_that_lasts(
    relay: Relay, empty_cloud: Cloud, sense: Make, run_dag: Callable[[], Run]
) -> None:
    """When there is no answer for max_outage the task ends with an error that says so."""
    name = queued(empty_cloud)
    relay.refuse("GetCustomJob", times=1000)
    sense(job=name, max_outage=0.3)
    assert type(run_dag().error("sense")) is ServiceUnreachableError


@in_each_mode
@pytest.mark.usefixtures("empty_cloud")
@pytest.mark.parametrize(
    "job",
    [
        "1234",
        None,
        {"state": "JOB_STATE_RUNNING"},
        "projects/acme/locations/europe-west4/persistentResources/nightly",
        "projects/acme/locations/europe-west4/hyperparameterTuningJobs/1234",
    ],
    ids=["id", "none", "mapping", "resource", "tuning"],
)
def test_what_is_no_job(sense: Make, run_dag: Callable[[], Run], job: Any) -> None:
    """A name that is none of a custom job is told at once, with what it should be."""
    sense(job=job, poll_interval=0, retries=3)
    error = run_dag().error("sense")
    assert type(error) is AirflowFailException
    for part in ("\n  - job = ", "customJobs/1234", "\n  - poll_interval = 0"):
        assert part in str(error)


@in_each_mode
def test_a_job_that_is_not_there(empty_cloud: Cloud, sense: Make, run_dag: Callable[[], Run]) -> None:
    """A job that somebody has deleted is told in the same words, however the task waits."""
    name = f"projects/{empty_cloud.PROJECT}/locations/{HERE}/customJobs/1234"
    sense(job=name)
    error = run_dag().error("sense")
    assert type(error) is VertexTrainingError
    assert str(error).startswith(
        f"Vertex AI refused to answer about {name}: 404 The CustomJob does not exist."
    )
    assert "\nNext step: look whether it still exists" in str(error)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"deferrable": False}, "deferrable=True"),
        ({"job": PULL}, "job = "),
        ({"job": {"job": PULL}}, "job = "),
        ({"job": f"{ONE_PULL} or {PULL}"}, "job = "),
        ({"job": 1234}, "a full name, a template of it, or the output of a task"),
        ({"job": {"state": "JOB_STATE_RUNNING"}}, "a full name, a template of it, or the output of a task"),
        ({"gcp_conn_id": PULL}, "gcp_conn_id = "),
        ({"impersonation_chain": PULL}, "impersonation_chain = "),
        ({"impersonation_chain": ["trainer@acme.iam.gserviceaccount.com", PULL]}, "impersonation_chain = "),
        ({"poll_interval": PULL}, "poll_interval = "),
        ({"max_outage": PULL}, "max_outage = "),
    ],
)
def test_what_cannot_begin_in_the_triggerer(changes: dict[str, Any], told: str) -> None:
    """A wait that the triggerer could not begin is refused while the DAG file is read, with the fix."""
    values = {"job": JOB, "deferrable": True, **changes}
    with pytest.raises(ValueError, match="start_from_trigger") as caught:
        FlexStartSensor(task_id="sense", start_from_trigger=True, **values)
    assert told in str(caught.value)
    if PULL in str(changes):
        assert "add map_indexes=-1" in str(caught.value)


@pytest.mark.parametrize("field", ["gcp_conn_id", "impersonation_chain", "poll_interval", "max_outage"])
def test_an_output_that_cannot_begin_in_the_triggerer(dag: DAG, field: str) -> None:
    """Another task's output is made a template for the job alone; elsewhere it is refused like one of one's own."""
    output = BaseOperator(dag=dag, task_id="choose").output
    with pytest.raises(ValueError, match=f"{field} = .*xcom_pull.*add map_indexes=-1$"):
        FlexStartSensor(task_id="sense", start_from_trigger=True, deferrable=True, job=JOB, **{field: output})


def test_pulls_that_can_begin_in_the_triggerer() -> None:
    """What names its map index is rendered in the triggerer, in every parameter."""
    texts = dict.fromkeys(("gcp_conn_id", "poll_interval", "max_outage"), ONE_PULL)
    sensor = FlexStartSensor(
        task_id="sense",
        start_from_trigger=True,
        deferrable=True,
        job={"job": ONE_PULL},
        impersonation_chain=[ONE_PULL],
        **texts,
    )
    arguments = sensor.start_trigger_args
    assert arguments is not None
    wanted = {**texts, "job": ONE_PULL, "impersonation_chain": [ONE_PULL]}
    assert wanted.items() <= (arguments.trigger_kwargs or {}).items()


@pytest.mark.parametrize("changes", [{}, {"soft_fail": True}, {"never_fail": True}])
def test_a_wrong_parameter_of_a_wait_that_could_not_begin(changes: dict[str, Any]) -> None:
    """A wrong parameter fails the task as it does where the wait begins on a worker, whatever is skipped else."""
    sensor = FlexStartSensor(task_id="sense", job="nope", deferrable=True, start_from_trigger=True, **changes)
    arguments = sensor.start_trigger_args
    assert arguments is not None
    context: Any = {}
    with pytest.raises(AirflowFailException, match="job = 'nope'"):
        sensor.resume_execution(arguments.next_method, {"event": None}, context)


@pytest.mark.parametrize(
    ("changes", "error", "told"),
    [
        ({}, AirflowSensorTimeout, "timeout, 7 d;"),
        ({"execution_timeout": timedelta(days=8)}, AirflowSensorTimeout, "timeout, 7 d;"),
        ({"execution_timeout": timedelta(minutes=5)}, AirflowTaskTimeout, "execution_timeout, 5 min;"),
        ({"execution_timeout": timedelta(minutes=5), "soft_fail": True}, AirflowSkipException, "soft_fail"),
    ],
)
def test_the_time_that_is_over(changes: dict[str, Any], error: type[BaseException], told: str) -> None:
    """After a wait in the triggerer it is the smaller of both limits that is over, and ends retries or does not."""
    sensor = FlexStartSensor(task_id="sense", job=JOB, deferrable=True, **changes)
    context: Any = {}
    reason = {"error": TriggerFailureReason.TRIGGER_TIMEOUT}
    with pytest.raises(error, match=told):
        sensor.resume_execution(TRIGGER_FAIL_REPR, reason, context)


def test_a_mapped_output_cannot_begin_in_the_triggerer(dag: DAG) -> None:
    """The output of a mapped task names many jobs."""
    submit = FlexStartTrainingOperator.partial(
        dag=dag, task_id="submit", container_uri=IMAGE, wait_for_completion=False, **L4
    ).expand(region=[HERE, "us-central1"])
    with pytest.raises(ValueError, match="not mapped"):
        FlexStartSensor(dag=dag, task_id="sense", job=submit.output, deferrable=True, start_from_trigger=True)
