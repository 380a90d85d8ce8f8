# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import re
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_vertex_persistent.names import (
    ResourceName,
    job_console_url,
    job_logs_url,
    label_value,
    location_name,
    persistent_resource_name,
    persistent_resources_console_url,
)

JOB = ResourceName("123456", "europe-west4", "customJobs", "789")
# https://cloud.google.com/vertex-ai/docs: up to 63 lowercase letters, digits, "_" and "-".
VALID_VALUE = re.compile(r"[a-z0-9_-]{0,63}")
PART = st.from_regex(r"[a-z0-9-]+", fullmatch=True)
IDS = st.text(alphabet="aB1-_.:+ é/", max_size=80) | st.text(max_size=80)


@given(project=PART, region=PART, kind=st.sampled_from(["customJobs", "persistentResources"]), id_=PART)
def test_a_name_survives_being_written_and_read(project: str, region: str, kind: str, id_: str) -> None:
    """Reading a written name gives its parts back."""
    name = ResourceName(project, region, kind, id_)
    assert ResourceName.parse(str(name)) == name


def test_a_name_is_written_as_the_service_writes_it() -> None:
    """A name is the service's own text."""
    assert str(JOB) == "projects/123456/locations/europe-west4/customJobs/789"
    assert location_name("acme", "us-central1") == "projects/acme/locations/us-central1"
    resource = persistent_resource_name("acme", "us-central1", "nightly")
    assert str(resource) == "projects/acme/locations/us-central1/persistentResources/nightly"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "789",
        "projects/p/locations/r/customJobs",
        "projects/p/locations/r/customJobs/",
        "projects//locations/r/customJobs/1",
        "projects/p/locations/r/customJobs/1/operations/2",
        "https://console/projects/p/locations/r/customJobs/1",
    ],
)
def test_what_is_no_name_is_refused(text: str) -> None:
    """Something else than a full name is an error that shows it and how one looks."""
    with pytest.raises(ValueError, match="is not a resource name; write it like") as caught:
        ResourceName.parse(text)
    assert repr(text) in str(caught.value)


def test_console_addresses() -> None:
    """Links open the job, exactly its log lines, and the list of persistent resources."""
    console = "https://console.cloud.google.com"
    assert (
        job_console_url(JOB) == f"{console}/agent-platform/locations/europe-west4/training/789?project=123456"
    )
    address, _, rest = job_logs_url(JOB).partition(";query=")
    query, _, project = rest.partition("?")
    assert address == f"{console}/logs/query"
    assert unquote(query) == 'resource.type="ml_job"\nresource.labels.job_id="789"'
    assert not set(query) & set('/;"\n ')
    assert project == "project=123456"
    listed = persistent_resources_console_url("acme")
    assert listed == f"{console}/vertex-ai/training/persistent-resources?project=acme"


@given(IDS)
def test_a_label_value_is_valid(text: str) -> None:
    """Whatever a DAG, task or run is called, the API takes the value made of it."""
    assert VALID_VALUE.fullmatch(label_value(text))


@given(IDS, IDS)
def test_two_texts_never_share_a_label_value(one: str, other: str) -> None:
    """Jobs of different tasks are told apart by their labels."""
    assert (label_value(one) == label_value(other)) == (one == other)


@pytest.mark.parametrize(
    ("one", "other"),
    [("Train", "train"), ("a.b", "a-b"), ("a.b", "a:b"), ("x" * 63, "x" * 64), ("x" * 64, "x" * 65)],
)
def test_texts_that_look_alike_have_other_label_values(one: str, other: str) -> None:
    """What differs only where the API's rules blur it still differs."""
    assert label_value(one) != label_value(other)


@given(st.text(alphabet="abz019_-", max_size=63))
def test_an_allowed_text_is_its_own_label_value(text: str) -> None:
    """Somebody who looks for the jobs of a DAG finds them under the DAG's own name where the API allows it."""
    assert label_value(text) == text
