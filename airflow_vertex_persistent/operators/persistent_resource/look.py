# SPDX-License-Identifier: Apache-2.0
"""Look at persistent resources."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from airflow_vertex_persistent.exceptions import PersistentResourceError
from airflow_vertex_persistent.links import PersistentResourcesLink
from airflow_vertex_persistent.names import persistent_resources_console_url
from airflow_vertex_persistent.operators.base import VertexOperator, typed_errors
from airflow_vertex_persistent.operators.persistent_resource.base import PersistentResourceOperator
from airflow_vertex_persistent.result import resource_result
from airflow_vertex_persistent.specs.checks import (
    Problems,
    boolean,
    check_labels,
    check_persistent_resource_id,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow.sdk import Context


class GetPersistentResourceOperator(PersistentResourceOperator):
    """
    Look at a persistent resource, once.

    .. seealso:: :doc:`/operators/look_at_persistent_resources`

    :param missing_ok: Whether a resource that is not there is a result, ``None``, and no error. Default: ``False``.
        (templated)
    :param kwargs: Id, connection and region, see
        :class:`~airflow_vertex_persistent.operators.persistent_resource.PersistentResourceOperator` and
        :class:`~airflow_vertex_persistent.operators.base.VertexOperator`.
    :return: ``persistent_resource`` (full name), ``persistent_resource_id``, ``region``, ``state``, ``create_time``,
        ``start_time``, ``age_seconds``, ``labels``, ``error`` (the service's reason for ERROR, else ``None``)
        and ``pools``, a list with ``id``, ``machine_type``, ``accelerator_type``, ``accelerator_count``,
        ``disk_type``, ``disk_size_gb``, ``replica_count``, ``min_replica_count``, ``max_replica_count``,
        ``used_replica_count`` and ``free_replica_count`` of each. Free are the machines that no job uses,
        those included by which an autoscaled pool may still grow. Each key is also an XCom of its own.
    :raises PersistentResourceError: It is not there.
    """

    template_fields: Sequence[str] = ("missing_ok", *PersistentResourceOperator.template_fields)

    def __init__(self, *, missing_ok: bool | str = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.missing_ok = missing_ok

    def execute(self, context: Context) -> dict[str, Any] | None:
        """Return what the resource is like now."""
        subject = "look at the persistent resource"
        problems = Problems(subject)
        self.check_place(problems)
        check_persistent_resource_id(self.persistent_resource_id, problems)
        missing_ok = boolean("missing_ok", self.missing_ok, problems)
        with typed_errors(f"{subject} {self.where}"):
            problems.raise_if_any()
            name = self.resource_name
            live = self.resource_hook.get(name)
        self.persist_links(context, name)
        if live is None:
            if missing_ok:
                self.log.info("%s is not there", name)
                return None
            raise PersistentResourceError(
                f"{name} is not there\nNext step: create it, look in another region or project, or set missing_ok."
            )
        from airflow_vertex_persistent.hooks.persistent_resource import resource_snapshot

        return resource_result(resource_snapshot(live))


class ListPersistentResourcesOperator(VertexOperator):
    """
    Look at all persistent resources of a region, once.

    The service may leave out those that are still being created: ask for one by its id.

    .. seealso:: :doc:`/operators/look_at_persistent_resources`

    :param labels: Only resources that have all of these labels. Default: every resource. (templated)
    :param kwargs: Region and connection, see :class:`~airflow_vertex_persistent.operators.base.VertexOperator`.
    :return: A list of what
        :class:`~airflow_vertex_persistent.operators.persistent_resource.GetPersistentResourceOperator`
        returns of one.
    """

    template_fields: Sequence[str] = ("labels", *VertexOperator.template_fields)
    template_fields_renderers: ClassVar[dict[str, str]] = {"labels": "json"}
    operator_extra_links = (PersistentResourcesLink(),)

    def __init__(self, *, labels: Mapping[str, str] | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.labels = labels

    def execute(self, context: Context) -> list[dict[str, Any]]:
        """Return what the resources are like now."""
        from airflow_vertex_persistent.hooks.persistent_resource import resource_snapshot

        subject = "list of persistent resources"
        problems = Problems(subject)
        self.check_place(problems)
        labels: Any = self.labels or {}
        if isinstance(labels, Mapping):
            check_labels(labels, problems)
        else:
            problems.add_hidden("labels", "write a mapping of texts")
        with typed_errors(f"{subject} in {self.region}"):
            problems.raise_if_any()
            hook = self.resource_hook
            project_id = self.project_id or hook.default_project_id
            found = [resource_snapshot(resource) for resource in hook.list(project_id, self.region)]
        PersistentResourcesLink().persist(context, persistent_resources_console_url(project_id))
        chosen = [one for one in found if labels.items() <= one["labels"].items()]
        self.log.info(
            "%d persistent resources in %s, %d with these labels", len(found), self.region, len(chosen)
        )
        return [resource_result(snapshot) for snapshot in chosen]
