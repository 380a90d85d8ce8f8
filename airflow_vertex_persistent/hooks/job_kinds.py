# SPDX-License-Identifier: Apache-2.0
"""What differs between the kinds of training jobs: names of calls, and where the spec of what runs is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from google.cloud.aiplatform_v1.types import (
    CustomJob,
    HyperparameterTuningJob,
    ListCustomJobsRequest,
    ListHyperparameterTuningJobsRequest,
)
from google.protobuf.json_format import ParseDict

from airflow_vertex_persistent.names import CUSTOM_JOBS, TUNING_JOBS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from google.cloud.aiplatform_v1.types import CustomJobSpec

TrainingJob = CustomJob | HyperparameterTuningJob


@dataclass(frozen=True)
class JobKind:
    """
    A kind of training jobs. All have the same calls under names of their own.

    :param message: What one is.
    :param noun: Its name in the client's methods.
    :param list_request: What asks for many.
    :param spec_field: The field with the spec of what runs: of the job, or of each of its trials.
    """

    message: type[TrainingJob]
    noun: str
    list_request: type[ListCustomJobsRequest | ListHyperparameterTuningJobsRequest]
    spec_field: str

    def call(self, client: Any, verb: str) -> Any:
        """Return the method of a client: ``create``, ``get``, ``list`` or ``cancel``."""
        return getattr(client, f"{verb}_{self.noun}{'s' if verb == 'list' else ''}")

    def method(self, verb: str) -> str:
        """Return the name of a call in the API, as ``Create``, ``Get``, ``List`` or ``Cancel`` begins it."""
        return f"{verb}{self.message.__name__}{'s' if verb == 'List' else ''}"

    def parse(self, job: Mapping[str, Any]) -> TrainingJob:
        """Return the message of a job in the API's JSON form."""
        return self.message(ParseDict(dict(job), self.message.pb()()))

    def page(self, pager: Any) -> list[TrainingJob]:
        """Return the jobs on the first page of what a list call has answered."""
        return list(getattr(pager, f"{self.noun}s"))


JOB_KINDS = {
    CUSTOM_JOBS: JobKind(CustomJob, "custom_job", ListCustomJobsRequest, "job_spec"),
    TUNING_JOBS: JobKind(
        HyperparameterTuningJob,
        "hyperparameter_tuning_job",
        ListHyperparameterTuningJobsRequest,
        "trial_job_spec",
    ),
}
"""By collection, as in the names of the jobs."""


def spec_of(job: TrainingJob) -> CustomJobSpec:
    """Return the spec of what runs: of the job, or of each of its trials."""
    return job.job_spec if isinstance(job, CustomJob) else job.trial_job_spec
