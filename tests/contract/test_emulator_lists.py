# SPDX-License-Identifier: Apache-2.0
"""ListCustomJobs through the real client: filters, read masks and pages."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from google.api_core import exceptions
from google.protobuf.field_mask_pb2 import FieldMask

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.contract.conftest import Cloud

PARENT = "projects/list-project/locations/us-central1"


@pytest.fixture(scope="module")
def jobs(cloud: Cloud) -> Sequence[str]:
    """Names of five finished jobs in a project of their own, oldest first; odd ones failed."""
    created = [
        cloud.create(
            cloud.job(
                cloud.pool(f"raise SystemExit({number % 2})"),
                display_name=f"night_{number}",
                labels={"number": str(number), **({"odd": "yes"} if number % 2 else {})},
            ),
            parent=PARENT,
        )
        for number in range(5)
    ]
    return [cloud.ended(job).name for job in created]


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("", "43210"),
        ('display_name="night_3"', "3"),
        ('display_name!="night_3"', "4210"),
        ('display_name:"night_*"', "43210"),
        ('display_name:"*_1"', "1"),
        ('NOT display_name="night_3"', "4210"),
        ('state="JOB_STATE_FAILED"', "31"),
        ("state!=JOB_STATE_FAILED", "420"),
        ("labels.number=2", "2"),
        ('labels.number="1" OR labels.number="4"', "41"),
        ("labels.odd:*", "31"),
        ("NOT labels.odd:*", "420"),
        ('state="JOB_STATE_FAILED" AND (labels.number=1 OR labels.number=2)', "1"),
        ('create_time>"2020-01-01T00:00:00Z"', "43210"),
        ('create_time<"2020-01-01T00:00:00Z"', ""),
        ("labels.nobody=1", ""),
    ],
)
def test_filters_choose_jobs(cloud: Cloud, jobs: Sequence[str], text: str, numbers: str) -> None:
    """Each documented form of filter gives exactly its jobs, newest first."""
    found = cloud.jobs.list_custom_jobs({"parent": PARENT, "filter": text})
    assert [job.name for job in found] == [jobs[int(number)] for number in numbers]


@pytest.mark.parametrize(
    "text",
    [
        "display_name",
        "display_name=",
        'persistent_resource_id="x"',
        'state="RUNNING"',
        'create_time>"yesterday"',
        "(labels.a=1",
        "labels.a=1)",
        "labels.a=1 labels.b=2",
        "labels.a=1 AND",
        'display_name="open',
        "display_name<3",
        "labels.=1",
        "(" * 1000,
        "\0",
    ],
)
def test_bad_filters_are_refused(cloud: Cloud, text: str) -> None:
    """A filter that cannot be read, or asks for other fields, is INVALID_ARGUMENT."""
    with pytest.raises(exceptions.InvalidArgument, match="Invalid filter"):
        list(cloud.jobs.list_custom_jobs({"parent": PARENT, "filter": text}))


def test_read_masks_leave_out_the_rest(cloud: Cloud, jobs: Sequence[str]) -> None:
    """Only the fields of the mask come back."""
    mask = FieldMask(paths=["name", "state", "labels"])
    found = list(cloud.jobs.list_custom_jobs({"parent": PARENT, "read_mask": mask}))
    assert [job.name for job in found] == list(reversed(jobs))
    for job in found:
        assert job.state
        assert job.labels["number"]
        assert not job.display_name
        assert "job_spec" not in job
        assert "create_time" not in job


def test_read_masks_reach_into_messages(cloud: Cloud, jobs: Sequence[str]) -> None:
    """A path may name a field of a field."""
    mask = FieldMask(paths=["error.code"])
    found = list(cloud.jobs.list_custom_jobs({"parent": PARENT, "read_mask": mask, "filter": "labels.odd:*"}))
    assert len(jobs) == 5
    assert [(job.error.code, job.error.message) for job in found] == [(3, ""), (3, "")]


def test_unknown_read_mask_paths_are_refused(cloud: Cloud) -> None:
    """A path that is no field is INVALID_ARGUMENT."""
    with pytest.raises(exceptions.InvalidArgument, match="read_mask"):
        list(cloud.jobs.list_custom_jobs({"parent": PARENT, "read_mask": FieldMask(paths=["colour"])}))


def test_pages_hold_every_job_once(cloud: Cloud, jobs: Sequence[str]) -> None:
    """Pages of two give all five jobs, each once and in order."""
    pages = list(cloud.jobs.list_custom_jobs({"parent": PARENT, "page_size": 2}).pages)
    assert [len(page.custom_jobs) for page in pages] == [2, 2, 1]
    assert [job.name for page in pages for job in page.custom_jobs] == list(reversed(jobs))


def test_wrong_page_requests_are_refused(cloud: Cloud, jobs: Sequence[str]) -> None:
    """Negative sizes, foreign tokens and tokens of another filter are INVALID_ARGUMENT."""
    assert jobs
    token = next(iter(cloud.jobs.list_custom_jobs({"parent": PARENT, "page_size": 2}).pages)).next_page_token
    for wrong in (
        {"page_size": -1},
        {"page_token": "nonsense"},
        {"page_token": "W10="},
        {"page_token": token, "filter": "labels.odd:*"},
    ):
        with pytest.raises(exceptions.InvalidArgument):
            list(cloud.jobs.list_custom_jobs({"parent": PARENT, **wrong}))


def test_other_places_are_not_listed(cloud: Cloud, jobs: Sequence[str]) -> None:
    """Another region, another project: no jobs; all regions at once: refused, as the service does."""
    assert jobs
    for parent in (
        "projects/list-project/locations/us-east1",
        "projects/other-project/locations/us-central1",
    ):
        assert list(cloud.jobs.list_custom_jobs(parent=parent)) == []
    with pytest.raises(exceptions.InvalidArgument):
        list(cloud.jobs.list_custom_jobs(parent="projects/list-project/locations/-"))
