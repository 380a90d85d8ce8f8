# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from airflow_vertex_persistent.exceptions import PersistentResourceError

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from tests.conftest import Relay
    from tests.integration.conftest import Cloud
    from tests.integration.operators.sharing.conftest import Night

    Meanwhile = Callable[[Callable[[], object]], AbstractContextManager[None]]

USES = {"create": "success"}


def test_another_run_keeps_it(cloud: Cloud, night: Night) -> None:
    """
    While another run is between setup and teardown the resource stays, without any job on it, and the task
    says why.
    """
    night.make()
    other = night.add_run(USES)
    result = night.result()
    assert result == {
        "persistent_resource_id": "nightly",
        "deleted": False,
        "used_by": [f"run {other} of DAG {night.dag.dag_id}"],
    }
    assert cloud.resource() is not None


def test_the_last_one_out_deletes_it(cloud: Cloud, night: Night) -> None:
    """When all other teardowns have started, or had their chance, this one deletes the resource."""
    night.make()
    night.add_run({**USES, "delete": "running"})
    night.add_run({**USES, "delete": "skipped"})
    result = night.result()
    assert result == {"persistent_resource_id": "nightly", "deleted": True, "used_by": []}
    assert cloud.resource() is None


def test_runs_that_have_ended(cloud: Cloud, night: Night) -> None:
    """A run that has ended without its teardown uses nothing any more."""
    night.make()
    night.add_run(USES, state="success")
    night.add_run(USES, state="failed")
    night.add_run({"create": "running"}, state="failed")
    assert night.result()["deleted"]
    assert cloud.resource() is None


@pytest.mark.parametrize("ends", ["success", "failed"])
def test_a_setup_under_way(
    relayed_cloud: Cloud,
    relay: Relay,
    night: Night,
    meanwhile: Meanwhile,
    ends: str,
) -> None:
    """Whether another run's setup will use the resource is waited for: it does if it succeeds, else it does not."""
    night.make()
    other = night.add_run({"create": "running"})

    def end() -> None:
        relayed_cloud.wait_for(lambda: relay.count("ListCustomJobs") > 1, "the teardown looks again")
        night.change(other, {"create": ends})

    with meanwhile(end):
        result = night.result()
    assert result["deleted"] == (ends == "failed") == (relayed_cloud.resource() is None)


def test_waiting_until_nobody_uses_it(
    relayed_cloud: Cloud,
    relay: Relay,
    night: Night,
    meanwhile: Meanwhile,
) -> None:
    """If it is told to, the teardown waits for the other run and deletes the resource itself."""
    night.make(when_in_use="wait")
    other = night.add_run(USES)

    def leave() -> None:
        relayed_cloud.wait_for(lambda: relay.count("ListCustomJobs") > 1, "the teardown looks again")
        night.change(other, {"delete": "running"})

    with meanwhile(leave):
        assert night.result()["deleted"]
    assert relayed_cloud.resource() is None


@pytest.mark.parametrize(
    ("setup", "arguments"), [("success", {"when_in_use": "wait"}), ("deferred", {"when_in_use": "leave"})]
)
def test_waiting_has_a_limit(
    cloud: Cloud,
    night: Night,
    setup: str,
    arguments: dict[str, str],
) -> None:
    """At its end the task fails and names what it waited for, and the resource is still there."""
    night.make(max_wait_duration="0.2s", **arguments)
    other = night.add_run({"create": setup})
    error = night.run().error("delete")
    assert type(error) is PersistentResourceError
    for part in ("/nightly is still there after", "max_wait_duration", f"run {other} of DAG", "Next step:"):
        assert part in str(error)
    assert cloud.resource() is not None


def test_a_run_elsewhere_does_not_keep_it(cloud: Cloud, night: Night) -> None:
    """A run whose setup has created a resource in another region does not use this one."""
    night.make()
    name = f"projects/{cloud.PROJECT}/locations/{{}}/persistentResources/nightly"
    other = night.add_run(USES)
    night.hand_over(other, "create", {"persistent_resource": name.format(cloud.REGION)})
    assert not night.result()["deleted"]
    night.hand_over(other, "create", {"persistent_resource": name.format("us-central1")})
    assert night.result()["deleted"]


def test_deleting_it_anyway(relayed_cloud: Cloud, relay: Relay, night: Night) -> None:
    """If it is told to, the task asks nobody."""
    night.make(when_in_use="{{ 'delete' }}")
    night.add_run(USES)
    assert night.result()["deleted"]
    assert relayed_cloud.resource() is None
    assert relay.count("ListCustomJobs") == 0


def test_what_has_changed_is_looked_at_again(relayed_cloud: Cloud, relay: Relay, night: Night) -> None:
    """A deletion without an answer is not repeated before it was asked again who uses the resource."""
    relay.refuse("DeletePersistentResource", times=2)
    night.make()
    night.add_run({**USES, "delete": "success"})
    assert night.result()["deleted"]
    assert relay.count("DeletePersistentResource") == relay.count("ListCustomJobs") == 3
    assert relayed_cloud.resource() is None
