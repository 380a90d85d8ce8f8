# SPDX-License-Identifier: Apache-2.0
"""
Resource names as the service reads and writes them: ids or numbers in, numbers out.

The provider has a parser of its own. This second one is on purpose: a shared one would hide a shared mistake.
"""

from __future__ import annotations

import hashlib
import re
from typing import NamedTuple

from .errors import invalid

CUSTOM_JOBS = "customJobs"
TUNING_JOBS = "hyperparameterTuningJobs"
PERSISTENT_RESOURCES = "persistentResources"
RESOURCE_ID = re.compile(r"[a-z]([a-z0-9-]{0,61}[a-z0-9])?")

_PROJECT = re.compile(r"[0-9]{1,19}|([a-z][a-z0-9.-]*:)?[a-z][a-z0-9-]{4,28}[a-z0-9]")
REGION = re.compile(r"[a-z]{2,}-[a-z]+[0-9]{1,2}")
_EVERYWHERE = "-"


class Location(NamedTuple):
    """A project, by its number, and one region of it; ``None`` stands for all (the command line asks so)."""

    project: str | None
    region: str | None

    @property
    def path(self) -> str:
        """``projects/NUMBER/locations/REGION``."""
        return f"projects/{self.project}/locations/{self.region}"

    def holds(self, other: Location) -> bool:
        """Whether things of the other location are listed under this one."""
        return self.project in (None, other.project) and self.region in (None, other.region)


class Key(NamedTuple):
    """One job or persistent resource: where it is and its id."""

    location: Location
    id: str

    def name(self, collection: str) -> str:
        """Full resource name, with the project number as the service writes it."""
        return f"{self.location.path}/{collection}/{self.id}"


def project_number(project: str) -> str:
    """Twelve digits that stand for a project id, always the same ones; a number stands for itself."""
    if project.isdecimal():
        return project
    digest = hashlib.sha256(project.encode()).digest()
    return str(10**11 + int.from_bytes(digest[:8], "big") % (9 * 10**11))


def parse_project(text: str) -> str:
    """
    Read ``projects/PROJECT``.

    :return: the project number.
    :raises ApiError: INVALID_ARGUMENT when it is no such name.
    """
    head, _, project = text.partition("/")
    if head != "projects" or not _PROJECT.fullmatch(project):
        raise invalid(f"Invalid resource name: {text!r}. Expected projects/PROJECT.")
    return project_number(project)


def parse_parent(text: str, *, everywhere: bool = False) -> Location:
    """
    Read ``projects/PROJECT/locations/REGION``.

    :param everywhere: let ``-`` stand for all projects or regions.
    :raises ApiError: INVALID_ARGUMENT when it is no such name.
    """
    match text.split("/"):
        case ["projects", project, "locations", region]:
            pass
        case _:
            raise invalid(f"Invalid resource name: {text!r}. Expected projects/PROJECT/locations/REGION.")
    if everywhere and project == region == _EVERYWHERE:
        return Location(None, None)
    if not REGION.fullmatch(region):
        raise invalid(f"Invalid location {region!r} in {text!r}. Expected a region such as europe-west4.")
    return Location(parse_project(f"projects/{project}"), region)


def parse_name(text: str, collection: str) -> Key:
    """
    Read ``projects/PROJECT/locations/REGION/COLLECTION/ID``.

    :raises ApiError: INVALID_ARGUMENT when it is no such name.
    """
    parent, _, tail = text.partition(f"/{collection}/")
    if not tail or "/" in tail:
        raise invalid(
            f"Invalid resource name: {text!r}. Expected projects/PROJECT/locations/REGION/{collection}/ID."
        )
    return Key(parse_parent(parent), tail)
