# SPDX-License-Identifier: Apache-2.0
"""Custom jobs on machines that are already there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_vertex_persistent.operators.training.on_resource import ResourceTrainingOperator
from airflow_vertex_persistent.specs.checks import check_persistent_resource_id
from airflow_vertex_persistent.specs.custom_job import JOB_FIELDS, WARM_FIELDS, custom_job
from airflow_vertex_persistent.specs.scheduling import check_warm_machines

if TYPE_CHECKING:
    from airflow_vertex_persistent.specs.checks import Problems
    from airflow_vertex_persistent.specs.custom_job import JobRequest


class PersistentResourceCustomJobOperator(ResourceTrainingOperator):
    """
    Run a custom job on the warm machines of a persistent resource.

    Vertex AI runs the container on machines of the resource whose type and disk equal the worker pool's; a worker
    pool that leaves them out gets those of the resource's pool. That it fits, and that the resource runs, is checked
    before the job is created. The task ends when the job has ended: with a small result, or with a typed error that
    holds the service's own text. Killing, clearing or marking the task cancels the job and leaves the resource
    alone. A retry takes over the job of the attempts before it.

    .. seealso:: :doc:`/operators/custom_job`

    :param persistent_resource_id: Id of the resource, in the same project and region. (templated)
    :param kwargs: The work and everything else, see
        :class:`~airflow_vertex_persistent.operators.training.on_resource.ResourceTrainingOperator`,
        :class:`~airflow_vertex_persistent.operators.training.parameters.TrainingParameters` and
        :class:`~airflow_vertex_persistent.operators.base.WaitingOperator`.
    :return: ``job``, ``kind``, ``state``, ``region``, ``persistent_resource_id``, ``strategy``,
        ``candidate``, ``fallback``, ``create_time``, ``start_time``, ``end_time``, ``queued_seconds``,
        ``running_seconds``, ``output_dir``, ``model_dir``, ``console_url``; each is also an XCom of its own,
        as ``train.output["model_dir"]``.
    """

    def __init__(self, *, persistent_resource_id: str, **kwargs: Any) -> None:
        super().__init__(persistent_resource_id=persistent_resource_id, **kwargs)

    def job_requests(self, config: Any, default_display_name: str, problems: Problems) -> list[JobRequest]:
        """Return the one custom job that is asked for."""
        if self.persistent_resource_id is None:
            # A template may have rendered to nothing; without the id the job would run on demand, and cost.
            check_persistent_resource_id(None, problems)
        wanted = {field: getattr(self, field) for field in (*JOB_FIELDS, *WARM_FIELDS)}
        wanted["config"] = config
        request = custom_job(wanted, problems, default_display_name=default_display_name)
        check_warm_machines(request.job["job_spec"], problems)
        return [request]
