# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import importlib
import inspect
import json
import pkgutil
from typing import Any

import pytest
from airflow.sdk.serde import deserialize, serialize
from airflow.triggers.base import BaseEventTrigger

from airflow_vertex_persistent import triggers

# A value for every parameter that is neither its default nor any other's: a lost or swapped one shows.
VALUES: dict[str, Any] = {
    "region": "us-central1",
    "gcp_conn_id": "other_connection",
    "impersonation_chain": ["first@acme.iam.gserviceaccount.com", "second@acme.iam.gserviceaccount.com"],
    "poll_interval": 1.25,
    "max_outage": 77.5,
    "job": "projects/1/locations/us-central1/customJobs/2",
    "cancel_on_kill": False,
    "project_id": "acme",
    "persistent_resource_id": "nightly",
    "until": "gone",
    "resource_pool": "gpu",
    "free_replicas": 3,
    "deadline": "2026-11-22T01:00:00+00:00",
    "create_time": "2026-03-01T02:00:00.000+00:00",
    "execution_key": "0123456789abcdef01234567",
    "installation": "production",
    "wait_deadline": "2026-11-22T02:00:00+00:00",
    "jobs": ["projects/1/locations/us-central1/customJobs/2", "projects/1/locations/us-east4/customJobs/3"],
    "next_on_quota": True,
    "end_from_trigger": True,
}


def trigger_classes() -> list[type[BaseEventTrigger]]:
    """Return every trigger that a task can wait for, found in the package's modules."""
    for module in pkgutil.iter_modules(triggers.__path__, f"{triggers.__name__}."):
        importlib.import_module(module.name)
    found, queue = [], [BaseEventTrigger]
    while queue:
        cls = queue.pop()
        queue.extend(cls.__subclasses__())
        if not inspect.isabstract(cls) and cls.__module__.startswith(triggers.__name__):
            found.append(cls)
    return sorted(found, key=lambda cls: cls.__qualname__)


def parameters(cls: type) -> set[str]:
    """Return what the constructors of a class and of those above it take by name, up to Airflow's."""
    names: set[str] = set()
    for ancestor in cls.__mro__[: cls.__mro__.index(BaseEventTrigger)]:
        if "__init__" in vars(ancestor):
            own = inspect.signature(vars(ancestor)["__init__"]).parameters.values()
            names |= {one.name for one in own if one.kind is not one.VAR_KEYWORD} - {"self"}
    return names


@pytest.fixture(params=trigger_classes(), ids=lambda cls: cls.__qualname__)
def trigger_class(request: pytest.FixtureRequest) -> type[BaseEventTrigger]:
    """Each trigger class of the package."""
    cls: type[BaseEventTrigger] = request.param
    return cls


def rebuilt(path: str, kwargs: dict[str, Any]) -> BaseEventTrigger:
    """Build a trigger as the triggerer does: from its class path, after a trip through the database."""
    module, _, name = path.rpartition(".")
    stored: Any = json.loads(json.dumps(serialize(kwargs)))
    restored: Any = deserialize(stored)
    trigger: BaseEventTrigger = getattr(importlib.import_module(module), name)(**restored)
    return trigger


def test_the_triggers_are_found() -> None:
    """The search finds the triggers that there are, or it would test nothing."""
    assert [cls.__qualname__ for cls in trigger_classes()] == [
        "FlexStartTrigger",
        "PersistentResourceTrigger",
        "RaceTrigger",
        "TrainingJobTrigger",
        "TuningJobTrigger",
    ]


def test_what_is_stored_is_what_the_constructor_takes(trigger_class: type[BaseEventTrigger]) -> None:
    """A parameter that is not stored, or a stored one that is no parameter, would be lost or fail later."""
    _, kwargs = trigger_class(**{name: VALUES[name] for name in parameters(trigger_class)}).serialize()
    assert set(kwargs) == parameters(trigger_class)


def test_every_parameter_survives(trigger_class: type[BaseEventTrigger]) -> None:
    """A trigger that went through the database is the same trigger, each parameter included."""
    given = {name: VALUES[name] for name in parameters(trigger_class)}
    path, kwargs = trigger_class(**given).serialize()
    again = rebuilt(path, kwargs)
    assert type(again) is trigger_class
    assert kwargs == given
    assert again.serialize() == (path, kwargs)


def test_a_subclass_elsewhere_is_stored_under_its_own_name(trigger_class: type[BaseEventTrigger]) -> None:
    """Somebody who derives a trigger gets that class back, not ours."""
    derived = type("Derived", (trigger_class,), {"__module__": "acme.triggers"})
    path, _ = derived(**{name: VALUES[name] for name in parameters(trigger_class)}).serialize()
    assert path == "acme.triggers.Derived"
