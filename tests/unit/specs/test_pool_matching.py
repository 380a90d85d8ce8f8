# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_vertex_persistent.specs.pool_matching import PoolNeeds

    Ask = Callable[..., Any]

CPU = {"machine_type": "n1-standard-4"}
T4 = {"machine_type": "n1-standard-4", "accelerator_type": "NVIDIA_TESLA_T4", "accelerator_count": 2}
SSD = {"boot_disk_type": "pd-ssd", "boot_disk_size_gb": 100}
HDD = {"boot_disk_type": "pd-standard", "boot_disk_size_gb": 200}
CONTAINER = {"image_uri": "image"}


def fixed(pool_id: str, machine: Any, disk: Any, count: int, used: int = 0) -> dict[str, Any]:
    """Return a pool of some machines as the service's answer has it: 64-bit numbers as texts, no zeros."""
    busy = {"used_replica_count": str(used)} if used else {}
    return {
        "id": pool_id,
        "machine_spec": machine,
        "disk_spec": disk,
        "replica_count": str(count),
        **busy,
    }


def scaled(pool_id: str, machine: Any, disk: Any, most: int, used: int = 0) -> dict[str, Any]:
    """Return a pool that has one machine now, or as many as are used, and can have more."""
    scaling = {"min_replica_count": "1", "max_replica_count": str(most)}
    return {**fixed(pool_id, machine, disk, max(used, 1), used), "autoscaling_spec": scaling}


def live(*pools: dict[str, Any]) -> dict[str, Any]:
    """Return a resource as the service's answer has it."""
    name = "projects/123456789012/locations/europe-west4/persistentResources/nightly"
    return {"name": name, "state": "RUNNING", "resource_pools": list(pools)}


NETWORK = "projects/123456789012/global/networks/training"
BOTH = live(fixed("cpus", CPU, SSD, 4), scaled("gpus", T4, HDD, 3))


def pool(replicas: int = 1, **fields: Any) -> dict[str, Any]:
    """Return a worker pool."""
    return {"container_spec": CONTAINER, "replica_count": replicas, **fields}


def job(*pools: dict[str, Any], **fields: Any) -> dict[str, Any]:
    """Return a job of some worker pools, or of the short form if there are none."""
    work = {"worker_pool_specs": list(pools)} if pools else {"container_uri": "image"}
    return {**work, **fields}


def hardware(needs: PoolNeeds) -> list[tuple[Any, Any]]:
    """Return machine and disk of each worker pool that is sent."""
    return [
        (sent.get("machine_spec"), sent.get("disk_spec"))
        for sent in needs.job["job_spec"]["worker_pool_specs"]
    ]


@pytest.mark.parametrize(
    ("written", "machine", "disk"),
    [
        ({"machine_spec": CPU, "disk_spec": SSD}, CPU, SSD),
        ({"machine_spec": T4, "disk_spec": HDD, "resource_pool": "gpus"}, T4, HDD),
        ({"machine_spec": T4}, T4, HDD),
        ({"machine_spec": CPU}, CPU, SSD),
        ({"disk_spec": HDD}, T4, HDD),
        ({"disk_spec": {"boot_disk_type": "pd-standard"}}, T4, HDD),
        ({"disk_spec": {"boot_disk_size_gb": 200}}, T4, HDD),
        ({"machine_spec": T4, "disk_spec": {"boot_disk_size_gb": 200}}, T4, HDD),
        ({"machine_spec": {}, "disk_spec": {}, "resource_pool": "cpus"}, CPU, SSD),
        ({"resource_pool": "cpus"}, CPU, SSD),
        ({"resourcePool": "gpus"}, T4, HDD),
    ],
)
def test_what_is_left_out_is_that_of_the_pool(
    fit: Ask, written: dict[str, Any], machine: Any, disk: Any
) -> None:
    """Machine, disk and either half of a disk come from the pool that is named, or the only one that can fit."""
    needs = fit(job(pool(**written)), BOTH)
    assert hardware(needs) == [(machine, disk)]
    assert needs.machines == {"gpus" if machine is T4 else "cpus": 1}


def test_the_rest_of_the_job_stays_as_it_is(fit: Ask) -> None:
    """Nothing but machine and disk is filled in, and empty worker pools stay empty."""
    wanted = job(pool(resource_pool="cpus"), {}, pool(2, machine_spec=T4), labels={"team": "ranking"})
    sent = fit(wanted, BOTH).job
    primary, empty, workers = sent["job_spec"].pop("worker_pool_specs")
    assert primary == pool(machine_spec=CPU, disk_spec=SSD)
    assert empty == {}
    assert workers == pool(2, machine_spec=T4, disk_spec=HDD)
    assert sent == {
        "display_name": "n",
        "labels": {"team": "ranking"},
        "job_spec": {"persistent_resource_id": "nightly"},
    }


def test_a_pool_of_the_short_form_is_for_all_replicas(fit: Ask) -> None:
    """The primary and the others run on the pool that is named."""
    needs = fit(job(replica_count=3, resource_pool="gpus"), BOTH)
    assert hardware(needs) == [(T4, HDD), (T4, HDD)]
    assert needs.machines == {"gpus": 3}


def test_worker_pools_of_one_resource_pool_add_up(fit: Ask) -> None:
    """Wherever in the job they stand."""
    pools = [pool(machine_spec=CPU), pool(2, machine_spec=T4), pool(3, resource_pool="cpus")]
    assert fit(job(*pools), BOTH).machines == {"cpus": 4, "gpus": 2}


def test_pools_of_the_same_hardware_are_one_choice(fit: Ask) -> None:
    """The service fills them one after the other, so that none has to be named, and a name does not choose one."""
    resource = live(fixed("a", CPU, SSD, 1), fixed("b", CPU, SSD, 3))
    for request in (job(replica_count=3), job(replica_count=3, resource_pool="b")):
        needs = fit(request, resource)
        assert hardware(needs) == [(CPU, SSD), (CPU, SSD)]
        assert needs.machines == {"a": 1, "b": 2}


def test_a_pool_that_can_never_have_the_machines_does_not_fit(fit: Ask) -> None:
    """A worker pool that only one pool is large enough for runs there."""
    assert fit(job(pool(resource_pool="gpus"), pool(4)), BOTH).machines == {"gpus": 1, "cpus": 4}


def test_a_resource_that_does_not_tell_its_disk_has_the_default(fit: Ask) -> None:
    """What is sent says it all the same."""
    resource = live({"id": "cpus", "machine_spec": CPU, "replica_count": "1"})
    assert hardware(fit(job(), resource)) == [(CPU, SSD)]


def test_every_field_of_a_machine_counts(fit: Ask, misfit: Ask) -> None:
    """Two kinds of the same machine type are told apart by any field that the API has."""
    tpus = [{"machine_type": "ct5lp-hightpu-4t", "tpu_topology": topology} for topology in ("2x2", "4x4")]
    resource = live(*(fixed(tpu["tpu_topology"], tpu, SSD, 1) for tpu in tpus))
    assert fit(job(pool(machine_spec=tpus[1])), resource).machines == {"4x4": 1}
    (told,) = misfit(job(pool(machine_spec={"machine_type": "ct5lp-hightpu-4t"})), resource)
    assert told.startswith("worker_pool_specs[0].machine_spec.tpu_topology = None: write '2x2', as in ")
    (told,) = misfit(job(), resource)
    assert "2x2  ct5lp-hightpu-4t  none              none               2x2           pd-ssd" in told


SEVERAL = """\
resource_pool: several pools fit; write the id of one:
      id    machine_type   accelerator_type  accelerator_count  boot_disk_type  boot_disk_size_gb  machines
      cpus  n1-standard-4  none              none               pd-ssd          100                at most 4
      gpus  n1-standard-4  NVIDIA_TESLA_T4   2                  pd-standard     200                at most 3"""


def test_several_pools_that_fit_are_listed(misfit: Ask) -> None:
    """By id, with their hardware, once for the short form however many replicas there are."""
    assert misfit(job(), BOTH) == (SEVERAL,)
    assert misfit(job(replica_count=2), BOTH) == (SEVERAL,)
    assert misfit(job(pool()), BOTH) == (f"worker_pool_specs[0].{SEVERAL}",)
    (told,) = misfit(job(pool(resource_pool="gpus"), pool()), BOTH)
    assert told == f"worker_pool_specs[1].{SEVERAL}"


def test_a_pool_that_is_not_there_is_told_with_those_that_are(misfit: Ask) -> None:
    """The list is that of all pools."""
    (told,) = misfit(job(resource_pool="gpu", machine_type="n1-standard-4"), BOTH)
    expected = SEVERAL.replace(": several pools fit", " = 'gpu': the persistent resource has no such pool")
    assert told == expected


SIDE_BY_SIDE = """\
worker_pool_specs[0].machine_spec.accelerator_count = 1: write 2, as in resource pool 'gpus', the nearest
worker_pool_specs[0].disk_spec.boot_disk_size_gb = 100: write 200, as in resource pool 'gpus', the nearest
         field              worker pool      resource pool 'gpus', the nearest
         machine_type       n1-standard-4    n1-standard-4
         accelerator_type   NVIDIA_TESLA_T4  NVIDIA_TESLA_T4
      *  accelerator_count  1                2
         boot_disk_type     left out         pd-standard
      *  boot_disk_size_gb  100              200
         replica_count      1                at most 3"""


def test_a_worker_pool_that_fits_nowhere_stands_beside_the_nearest_pool(misfit: Ask) -> None:
    """Each field that differs is told with what to write, and after the last one comes the whole comparison."""
    machine = {**T4, "accelerator_count": 1}
    told = misfit(job(pool(machine_spec=machine, disk_spec={"boot_disk_size_gb": 100})), BOTH)
    assert "\n".join(told) == SIDE_BY_SIDE


def test_the_short_form_is_told_by_its_own_parameters(misfit: Ask) -> None:
    """Nobody hears of worker pools who wrote none, and each problem is told once."""
    told = misfit(job(machine_type="n1-standard-8", boot_disk_type="pd-balanced", replica_count=4), BOTH)
    assert [line.partition(":")[0] for line in told] == [
        "machine_type = 'n1-standard-8'",
        "boot_disk_type = 'pd-balanced'",
    ]


def test_a_named_pool_is_the_one_to_compare_with(misfit: Ask) -> None:
    """Even if another one is nearer, or fits."""
    told = misfit(job(pool(machine_spec=CPU, disk_spec=SSD, resource_pool="gpus")), BOTH)
    assert [line.partition("\n")[0] for line in told] == [
        (
            "worker_pool_specs[0].machine_spec.accelerator_type = None: "
            "write 'NVIDIA_TESLA_T4', as in resource pool 'gpus'"
        ),
        "worker_pool_specs[0].machine_spec.accelerator_count = None: write 2, as in resource pool 'gpus'",
        "worker_pool_specs[0].disk_spec.boot_disk_type = 'pd-ssd': write 'pd-standard', as in resource pool 'gpus'",
        "worker_pool_specs[0].disk_spec.boot_disk_size_gb = 100: write 200, as in resource pool 'gpus'",
    ]


def test_a_machine_that_names_no_accelerator_has_none(misfit: Ask) -> None:
    """A machine type alone is no machine with accelerators that were left out."""
    told = misfit(job(machine_type="n1-standard-4"), live(fixed("gpus", T4, SSD, 1)))
    assert [line.partition(":")[0] for line in told] == [
        "accelerator_type = None",
        "accelerator_count = None",
    ]
    told = misfit(job(pool(machine_spec=T4)), live(fixed("cpus", CPU, SSD, 1)))
    assert all("leave it out, as in resource pool 'cpus'" in line for line in told)


TOO_MANY = """\
replica_count: 1 + 4 machines are more than resource pool 'cpus' can have, 4
         field              worker pool    resource pool 'cpus'
         machine_type       n1-standard-4  n1-standard-4
         accelerator_type   none           none
         accelerator_count  none           none
         boot_disk_type     left out       pd-ssd
         boot_disk_size_gb  left out       100
      *  replica_count      1 + 4          at most 4"""


def test_more_machines_than_a_pool_can_have_are_told(fit: Ask, misfit: Ask) -> None:
    """The worker pool that is too large is compared as well; a fixed pool can have its count, others their most."""
    resource = live(fixed("cpus", CPU, SSD, 4))
    assert misfit(job(machine_type="n1-standard-4", replica_count=5), resource) == (TOO_MANY,)
    assert fit(job(replica_count=4), resource).machines == {"cpus": 4}
    (told,) = misfit(job(pool(resource_pool="gpus"), pool(3, resource_pool="gpus")), BOTH)
    assert told.startswith(
        "worker_pool_specs[1].replica_count: 1 + 3 machines are more than resource pool 'gpus' can have, 3\n"
    )


def test_a_worker_pool_without_any_room_is_told_to_go_elsewhere(misfit: Ask) -> None:
    """No replica count would do then."""
    (told,) = misfit(job(pool(), pool()), live(fixed("cpus", CPU, SSD, 1)))
    assert told.startswith(
        "worker_pool_specs[1]: 1 + 1 machines are more than resource pool 'cpus' can have, 1; "
        "leave this worker pool out, or use other machines\n"
    )


def test_everything_is_told_at_once(misfit: Ask) -> None:
    """Each worker pool by itself, and what the whole job disagrees in."""
    pools = [pool(machine_spec={"machine_type": "n1-standard-8"}), pool(resource_pool="tpus"), pool()]
    told = misfit(job(*pools, network=NETWORK), BOTH)
    assert [line.partition(":")[0] for line in told] == [
        f"network = '{NETWORK}'",
        "worker_pool_specs[0].machine_spec.machine_type = 'n1-standard-8'",
        "worker_pool_specs[1].resource_pool = 'tpus'",
        "worker_pool_specs[2].resource_pool",
    ]


def test_machines_that_others_use_are_no_problem_of_the_request(fit: Ask) -> None:
    """They are told apart, as they are now: by pool, in the words of the one who waits."""
    needs = fit(job(pool(resource_pool="cpus"), pool(2, resource_pool="gpus")), BOTH)
    assert needs.short_of(BOTH) == []
    assert needs.short_of(live(fixed("cpus", CPU, SSD, 4, used=3), scaled("gpus", T4, HDD, 3, used=1))) == []
    assert needs.short_of(live(fixed("cpus", CPU, SSD, 4, used=4), scaled("gpus", T4, HDD, 3, used=2))) == [
        "resource pool 'cpus' has 0 of 4 machines free, the job needs 1",
        "resource pool 'gpus' has 1 of 3 machines free, the job needs 2",
    ]


def test_a_pool_that_has_gone_has_no_free_machines(fit: Ask) -> None:
    """A resource may be another one by the time it is looked at again."""
    needs = fit(job(resource_pool="gpus"), BOTH)
    assert needs.short_of(live(fixed("cpus", CPU, SSD, 4))) == [
        "resource pool 'gpus' has 0 of 0 machines free, the job needs 1"
    ]
