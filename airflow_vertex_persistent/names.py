# SPDX-License-Identifier: Apache-2.0
"""
Resource names, labels and console addresses.

Every name of a thing on Vertex AI is taken apart and put together here, and nowhere else.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from urllib.parse import quote

CONSOLE = "https://console.cloud.google.com"

KEY_LABEL = "airflow_execution"
"""Label of a job or persistent resource: the random key of the execution it belongs to."""
REQUEST_LABEL = "airflow_request"
"""Label of a job: a hash of what was asked for."""
INSTALLATION_LABEL = "airflow_installation"
"""Label of a job or persistent resource: the Airflow installation that created it."""
DAG_LABEL = "airflow_dag"
TASK_LABEL = "airflow_task"
RUN_LABEL = "airflow_run"
DATE_LABEL = "airflow_logical_date"
MAP_INDEX_LABEL = "airflow_map_index"
KEEP_LABEL = "airflow_keep"
"""Label of a job that goes on by intention when its task has ended."""
FALLBACK_LABEL = "airflow_fallback"
"""Label of a job that runs elsewhere than was asked for: ``on_demand``, since its persistent resource was busy."""
CANDIDATE_LABEL = "airflow_candidate"
"""Label of a job: the number of the candidate that it is, from 0, where its task has several."""

_RESOURCE_NAME = re.compile(
    r"projects/(?P<project>[^/]+)/locations/(?P<region>[^/]+)/(?P<kind>[A-Za-z]+)/(?P<id>[^/]+)"
)
_NO_LABEL_CHARACTER = re.compile(r"[^a-z0-9_-]")
_MAX_LABEL_LENGTH = 63  # what all Google services take; Vertex AI itself takes one more


Identity = tuple[str, str, str]
"""Region, kind and id of a thing: what two names of it have in common."""


CUSTOM_JOBS, TUNING_JOBS = "customJobs", "hyperparameterTuningJobs"
"""Collections of the jobs that this package makes and watches."""
NOUNS = {CUSTOM_JOBS: "custom job", TUNING_JOBS: "tuning job"}
"""What a job of each collection is called in errors."""


@dataclass(frozen=True)
class ResourceName:
    """
    The full name of a job or of a persistent resource.

    The service answers with the project *number* even when the id was sent.

    :param project: Project id or number.
    :param region: For example ``europe-west4``.
    :param kind: Collection, as in the name: ``customJobs``, ``hyperparameterTuningJobs``, ``persistentResources``.
    :param id: Last part of the name.
    """

    project: str
    region: str
    kind: str
    id: str

    @classmethod
    def parse(cls, name: str) -> ResourceName:
        """
        Take ``projects/P/locations/R/KIND/ID`` apart.

        :raises ValueError: ``name`` is not of that form.
        """
        match = _RESOURCE_NAME.fullmatch(name)
        if match is None:
            raise ValueError(
                f"{name!r} is not a resource name; write it like "
                "'projects/my-project/locations/europe-west4/customJobs/1234'"
            )
        return cls(**match.groupdict())

    def __str__(self) -> str:
        return f"{location_name(self.project, self.region)}/{self.kind}/{self.id}"

    @property
    def identity(self) -> Identity:
        """What is the same in every answer of the service, whichever way it names the project."""
        return self.region, self.kind, self.id


def same_thing(one: str, other: str) -> bool:
    """Tell whether two full names are those of one thing."""
    return ResourceName.parse(one).identity == ResourceName.parse(other).identity


def location_name(project: str, region: str) -> str:
    """Return the parent of everything in one region of a project."""
    return f"projects/{project}/locations/{region}"


def persistent_resource_name(project: str, region: str, persistent_resource_id: str) -> ResourceName:
    """Return the full name of a persistent resource."""
    return ResourceName(project, region, "persistentResources", persistent_resource_id)


def label_value(text: str) -> str:
    """
    Return ``text`` as the value of a label.

    What the API does not allow becomes ``-``. A text that was changed or cut gets a stable hash, so that two
    texts never share a value.
    """
    clean = _NO_LABEL_CHARACTER.sub("-", text.lower())
    if clean == text and len(text) <= _MAX_LABEL_LENGTH:
        return text
    digest = hashlib.sha256(text.encode()).hexdigest()[:8]
    return f"{clean[: _MAX_LABEL_LENGTH - 9]}-{digest}"


_DATE_FORM = "%Y%m%dt%H%M%S-%f"


def date_label(date: datetime) -> str:
    """Return a logical date as the value of a label, to the microsecond in UTC."""
    return date.astimezone(UTC).strftime(_DATE_FORM)


def parse_date_label(value: str) -> datetime:
    """
    Return the logical date that a label holds.

    :raises ValueError: It holds none.
    """
    return datetime.strptime(value, _DATE_FORM).replace(tzinfo=UTC)


def job_console_url(job: ResourceName) -> str:
    """Return the console page of a job, which is the same for every kind of training job."""
    return f"{CONSOLE}/agent-platform/locations/{job.region}/training/{job.id}?project={job.project}"


def job_logs_url(job: ResourceName) -> str:
    """Return the Logs Explorer with the log lines of a job's replicas."""
    query = f'resource.type="ml_job"\nresource.labels.job_id="{job.id}"'
    return f"{CONSOLE}/logs/query;query={quote(query, safe='')}?project={job.project}"


def storage_url(uri: str) -> str:
    """Return where a browser opens a file in Cloud Storage, for whoever may read it."""
    return f"https://storage.cloud.google.com/{quote(uri.removeprefix('gs://'))}"


def persistent_resources_console_url(project: str) -> str:
    """Return the console's list of persistent resources, as it was seen: its address is not documented."""
    return f"{CONSOLE}/vertex-ai/training/persistent-resources?project={project}"
