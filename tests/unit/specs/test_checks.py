# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from google.protobuf.duration_pb2 import Duration
from hypothesis import given
from hypothesis import strategies as st

from airflow_vertex_persistent.exceptions import InvalidRequestError
from airflow_vertex_persistent.specs import checks
from airflow_vertex_persistent.specs.checks import Problems

if TYPE_CHECKING:
    from collections.abc import Callable


def lines(check: Callable[[Problems], object]) -> tuple[str, ...]:
    """Return what a check complains about."""
    problems = Problems("request")
    check(problems)
    try:
        problems.raise_if_any()
    except InvalidRequestError as error:
        return error.problems
    return ()


@pytest.mark.parametrize(
    "region", ["europe-west4", "us-central1", "northamerica-northeast2", "me-central2", "africa-south1"]
)
def test_regions_that_are_accepted(region: str) -> None:
    """Every form that Google's regions have is accepted."""
    assert lines(lambda problems: checks.check_region(region, problems)) == ()


@pytest.mark.parametrize(
    "region",
    ["", "europe", "europe-west", "europe-west4-b", "Europe-West4", " europe-west4", "-", None, 4],
)
def test_regions_that_are_refused(region: Any) -> None:
    """A zone, an upper-case or missing region is told with field, value and fix."""
    expected = f"region = {region!r}: write a region like 'europe-west4'"
    assert lines(lambda problems: checks.check_region(region, problems)) == (expected,)


@given(st.from_regex(r"[a-z]([a-z0-9-]{0,61}[a-z0-9])?", fullmatch=True))
def test_ids_that_the_api_takes_are_accepted(id_: str) -> None:
    """An id of the API's own pattern passes."""
    assert lines(lambda problems: checks.check_persistent_resource_id(id_, problems)) == ()


@pytest.mark.parametrize(
    "id_", ["", "1night", "-night", "night-", "Night", "night_ly", "a" * 64, "nächtlich", "night\n", None, 7]
)
def test_ids_that_the_api_refuses(id_: Any) -> None:
    """An id against the API's pattern is told with field, value and fix."""
    (line,) = lines(lambda problems: checks.check_persistent_resource_id(id_, problems))
    assert line.startswith(f"persistent_resource_id = {id_!r}: 1 to 63 lower-case letters")


@pytest.mark.parametrize(
    "uri", ["gs://models", "gs://models/", "gs://nightly-models/a/b", "gs://my_bucket.example.com/x y"[:-2]]
)
def test_addresses_that_are_accepted(uri: str) -> None:
    """A bucket, with or without a folder, is an address."""
    assert lines(lambda problems: checks.check_gs_uri("base_output_dir", uri, problems)) == ()


@pytest.mark.parametrize(
    "uri",
    ["", "models/a", "s3://models/a", "gs:/models", "gs://", "gs:///a", "gs://Models/a", "/gcs/models", 1],
)
def test_addresses_that_are_refused(uri: Any) -> None:
    """A path that is no Cloud Storage address is told with field, value and fix."""
    expected = f"base_output_dir = {uri!r}: write a Cloud Storage address like 'gs://bucket/folder'"
    assert lines(lambda problems: checks.check_gs_uri("base_output_dir", uri, problems)) == (expected,)


@pytest.mark.parametrize(
    "network",
    [
        "",
        "default",
        "projects/p/networks/n",
        "projects/1/global/networks/",
        "projects/acme/global/networks/n",
    ],
)
def test_networks_that_are_refused(network: str) -> None:
    """A network needs the project's number; everything else the service refuses."""
    expected = f"network = {network!r}: write 'projects/PROJECT_NUMBER/global/networks/NAME'"
    assert lines(lambda problems: checks.check_network(network, problems)) == (expected,)


def test_a_network_that_is_accepted() -> None:
    """The API's own form passes."""
    network = "projects/123456/global/networks/training"
    assert lines(lambda problems: checks.check_network(network, problems)) == ()


@pytest.mark.parametrize("account", ["", "trainer", "trainer@acme", "a b@c.d", None])
def test_service_accounts_that_are_refused(account: Any) -> None:
    """A service account that is no e-mail address is told."""
    (line,) = lines(lambda problems: checks.check_service_account(account, problems))
    assert line.startswith(f"service_account = {account!r}: write its e-mail address, like ")


@pytest.mark.parametrize("name", ["", "n" * 129, None, 5])
def test_display_names_that_are_refused(name: Any) -> None:
    """A display name has 1 to 128 characters."""
    expected = f"display_name = {name!r}: write 1 to 128 characters"
    assert lines(lambda problems: checks.check_display_name(name, problems)) == (expected,)


def test_display_names_that_are_accepted() -> None:
    """The limits themselves are allowed."""
    for name in ("n", "n" * 128, "Näherung № 1"):
        assert lines(lambda problems, name=name: checks.check_display_name(name, problems)) == ()  # type: ignore[misc]


@pytest.mark.parametrize(
    "labels",
    [{}, {"team": ""}, {"team-a_1": "x" * 64}, {"équipe": "straße"}, {f"k{i}": "v" for i in range(64)}],
)
def test_labels_that_are_accepted(labels: dict[str, str]) -> None:
    """Lower-case letters of any language, digits, ``_`` and ``-``, up to 64 labels of 64 characters."""
    assert lines(lambda problems: checks.check_labels(labels, problems)) == ()


@pytest.mark.parametrize(
    ("labels", "start"),
    [
        ({"Team": "a"}, "labels['Team']: a key has 1 to 64 of lower-case letters"),
        ({"": "a"}, "labels['']: a key has 1 to 64"),
        ({"k" * 65: "a"}, f"labels['{'k' * 65}']: a key has 1 to 64"),
        ({"team": "A"}, "labels['team'] = 'A': at most 64 of lower-case letters"),
        ({"team": "a b"}, "labels['team'] = 'a b': at most 64"),
        ({"team": "a" * 65}, f"labels['team'] = '{'a' * 65}': at most 64"),
        ({"team": 5}, "labels['team'] = 5: at most 64"),
        ({f"k{i}": "v" for i in range(65)}, "labels = '65 labels': at most 64 are allowed"),
    ],
)
def test_labels_that_are_refused(labels: Any, start: str) -> None:
    """A label that the API refuses is told with key, value and the characters there are."""
    (line,) = lines(lambda problems: checks.check_labels(labels, problems))
    assert line.startswith(start)


@given(milliseconds=st.integers(1, 10**12))
def test_all_forms_of_a_duration_agree(milliseconds: int) -> None:
    """A timedelta, a number and both texts of the same duration are the same request."""
    number, problems = milliseconds / 1000, Problems("request")
    forms = [timedelta(milliseconds=milliseconds), number, f"{number:.3f}s", f" {number:.3f} "]
    if number.is_integer():
        forms += [int(number), f"{int(number)}s", str(int(number))]
    read = {checks.seconds("max_run_duration", form, problems) for form in forms}
    assert read == {number}
    problems.raise_if_any()


@given(st.floats(min_value=1e-9, max_value=315_576_000_000))
def test_every_duration_can_be_sent(number: float) -> None:
    """What passes is a duration for the API, as long as it was to a nanosecond or to a float's precision."""
    problems = Problems("request")
    accepted = checks.seconds("max_run_duration", number, problems)
    problems.raise_if_any()
    assert accepted is not None
    sent = Duration()
    sent.FromJsonString(checks.api_duration(accepted))
    assert sent.ToTimedelta().total_seconds() == pytest.approx(number, rel=1e-9, abs=1e-6)


@pytest.mark.parametrize("value", [0, 0.0, "0", "0s", timedelta(0), -1, -0.5, timedelta(seconds=-1)])
def test_zero_and_negative_durations_are_refused(value: Any) -> None:
    """A duration that is no time at all is told with field and value."""
    expected = f"poll_interval = {value!r}: must be more than 0"
    assert lines(lambda problems: checks.seconds("poll_interval", value, problems)) == (expected,)


@pytest.mark.parametrize("value", [0, "0s", timedelta(0)])
def test_zero_is_allowed_where_it_means_something(value: Any) -> None:
    """Zero passes where it is asked for, and a negative duration does not."""
    problems = Problems("request")
    assert checks.seconds("max_wait_duration", value, problems, zero=True) == 0
    problems.raise_if_any()
    (line,) = lines(lambda found: checks.seconds("max_wait_duration", -1, found, zero=True))
    assert line == "max_wait_duration = -1: must be 0 or more"


@pytest.mark.parametrize(
    "value",
    ["", "2h", "-5s", "one", "1e3", "s", True, float("nan"), float("inf"), 1e13, "1" * 20 + "s"],
)
def test_what_is_no_duration_is_refused(value: Any) -> None:
    """Whatever the API cannot take as a duration is told before it is sent."""
    (line,) = lines(lambda problems: checks.seconds("max_run_duration", value, problems))
    assert line.startswith("max_run_duration = ")


@pytest.mark.parametrize("value", [[1], (1,), {"a": 1}, {1}, b"1"])
def test_a_container_is_refused_without_its_content(value: Any) -> None:
    """What should be a single value and holds several may hold an environment: it is not shown."""
    checked: list[tuple[str, ...]] = [
        lines(lambda problems: checks.check_region(value, problems)),
        lines(lambda problems: checks.check_gs_uri("base_output_dir", value, problems)),
        lines(lambda problems: checks.seconds("poll_interval", value, problems)),
    ]
    assert checked == [
        ("region: write a region like 'europe-west4'",),
        ("base_output_dir: write a Cloud Storage address like 'gs://bucket/folder'",),
        ("poll_interval: write a timedelta, a number of seconds, or a text like '7200s'",),
    ]


@pytest.mark.parametrize(
    "value", ["--epochs", None, 5, {"--epochs": 5}, b"abc", {"--a", "--b"}, [["--epochs"]], [None]]
)
def test_what_is_no_list_of_texts_is_refused(value: Any) -> None:
    """Arguments that would reach the training code as something else than was written are told."""
    (line,) = lines(lambda problems: checks.texts("args", value, problems))
    assert line.startswith("args")


def test_numbers_become_texts() -> None:
    """Arguments are texts for the API, and numbers are what people write."""
    problems = Problems("request")
    assert checks.texts("args", ("--epochs", 5, 0.1, True), problems) == ["--epochs", "5", "0.1", "True"]
    problems.raise_if_any()


@pytest.mark.parametrize("value", ["Wait", "", None, 3, ["wait"]])
def test_words_that_are_none_of_the_few(value: Any) -> None:
    """What is no choice is refused, and the choices are told."""
    (line,) = lines(lambda problems: checks.choice("when", value, ("wait", "fail", "go"), problems))
    assert line.startswith("when")
    assert line.endswith(": write 'wait', 'fail' or 'go'")


def test_a_word_of_the_few() -> None:
    """A choice is what was written."""
    problems = Problems("request")
    assert checks.choice("when", "fail", ("wait", "fail"), problems) == "fail"
    problems.raise_if_any()


def test_all_problems_come_in_one_message() -> None:
    """A check does not stop at the first problem."""
    problems = Problems("custom job")
    checks.check_region("mars", problems)
    checks.check_gs_uri("base_output_dir", "models", problems)
    checks.seconds("poll_interval", 0, problems)
    with pytest.raises(
        InvalidRequestError, match="The custom job is not possible like this, 3 problems:"
    ) as caught:
        problems.raise_if_any()
    assert [line.split(" = ")[0] for line in caught.value.problems] == [
        "region",
        "base_output_dir",
        "poll_interval",
    ]
