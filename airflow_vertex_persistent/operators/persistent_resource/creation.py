# SPDX-License-Identifier: Apache-2.0
"""Create a persistent resource, or adopt the one that is there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from airflow.sdk.exceptions import AirflowFailException

from airflow_vertex_persistent.exceptions import (
    CallProblem,
    PersistentResourceError,
    call_problem,
    resource_error,
)
from airflow_vertex_persistent.links import PersistentResourcesLink
from airflow_vertex_persistent.names import ResourceName, persistent_resources_console_url
from airflow_vertex_persistent.operators.base import settled_snapshot, typed_errors
from airflow_vertex_persistent.operators.persistent_resource.base import PersistentResourceOperator
from airflow_vertex_persistent.specs.checks import Problems
from airflow_vertex_persistent.specs.persistent_resource import (
    RESOURCE_FIELDS,
    differences,
    persistent_resource,
)
from airflow_vertex_persistent.states import ResourcePhase, resource_phase

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow.sdk import Context

    from airflow_vertex_persistent.hooks.persistent_resource import PersistentResourceHook


class CreatePersistentResourceOperator(PersistentResourceOperator):
    """
    Create a persistent resource and wait until it runs.

    Idempotent: a resource of this id with the same spec is adopted, so it can be a setup task and be retried;
    one that differs fails the task without retries and names the fields. A resource is billed from RUNNING
    on, whether jobs run on it or not. Killing the task leaves the resource: a teardown deletes it. A resource
    whose creation by this task ends in ERROR is deleted, so that a retry can create it.

    .. seealso:: :doc:`/operators/persistent_resource`

    :param resource_pools: Machine shapes, as in ``PersistentResource.resource_pools``, in snake or camel case.
        A disk that is left out is ``pd-ssd`` with 100 GB. (templated)
    :param display_name: Name in the console, 1 to 128 characters. Default: the id. (templated)
    :param labels: Labels of the resource. (templated)
    :param network: ``projects/PROJECT_NUMBER/global/networks/NAME``. (templated)
    :param psc_interface_config: Private Service Connect. (templated)
    :param reserved_ip_ranges: Names of ranges of the network. (templated)
    :param encryption_spec_key_name: Customer-managed key. (templated)
    :param enable_custom_service_account: Jobs on the resource must name a service account. (templated)
    :param service_account: E-mail address of the account of the resource's own runtime. (templated)
    :param kwargs: Id, connection, region and waiting, see
        :class:`~airflow_vertex_persistent.operators.persistent_resource.PersistentResourceOperator` and
        :class:`~airflow_vertex_persistent.operators.base.VertexOperator`.
    :return: ``persistent_resource`` (full name), ``persistent_resource_id``, ``region``, ``state``,
        ``create_time``, ``start_time``.
    """

    template_fields: Sequence[str] = (
        "resource_pools",
        "display_name",
        "labels",
        "network",
        "psc_interface_config",
        "reserved_ip_ranges",
        "encryption_spec_key_name",
        "enable_custom_service_account",
        "service_account",
        *PersistentResourceOperator.template_fields,
    )
    template_fields_renderers: ClassVar[dict[str, str]] = dict.fromkeys(
        ("resource_pools", "labels", "psc_interface_config"), "json"
    )

    def __init__(
        self,
        *,
        resource_pools: list[dict[str, Any]],
        display_name: str | None = None,
        labels: dict[str, str] | None = None,
        network: str | None = None,
        psc_interface_config: dict[str, Any] | None = None,
        reserved_ip_ranges: list[str] | None = None,
        encryption_spec_key_name: str | None = None,
        enable_custom_service_account: bool | str | None = None,
        service_account: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.resource_pools = resource_pools
        self.display_name = display_name
        self.labels = labels
        self.network = network
        self.psc_interface_config = psc_interface_config
        self.reserved_ip_ranges = reserved_ip_ranges
        self.encryption_spec_key_name = encryption_spec_key_name
        self.enable_custom_service_account = enable_custom_service_account
        self.service_account = service_account

    def execute(self, context: Context) -> Any:
        """Adopt or create the resource and wait until it runs."""
        problems = Problems("persistent resource")
        watch = self.watch_arguments(problems)
        wanted = persistent_resource({field: getattr(self, field) for field in RESOURCE_FIELDS}, problems)
        with typed_errors("persistent resource"):
            problems.raise_if_any()
            hook = self.hook()
            name = self.resource_name(hook)
            PersistentResourcesLink().persist(context, persistent_resources_console_url(name.project))
            adopted = self._adopt(hook, name, wanted)
            if not adopted:
                self._create(hook, name, wanted)
        return self.await_resource("ready", name, watch, context, created=not adopted)

    def execute_complete(
        self, context: Context, event: dict[str, Any], *, created: bool = False
    ) -> dict[str, Any]:
        """
        Return the resource that runs now, or raise the service's own reason why it does not.

        :param created: This task has created it. If that has failed it is deleted, so that a retry can create it.
        """
        snapshot = settled_snapshot(event)
        if snapshot is None:
            raise PersistentResourceError(
                f"Persistent resource {self.persistent_resource_id!r} was deleted while it was being created"
            )
        name = ResourceName.parse(snapshot["persistent_resource"])
        if resource_phase(snapshot["state"]) is ResourcePhase.LOST:
            if created:
                self._delete_failed(name)
            raise resource_error(name, snapshot["state"], snapshot["error_message"])
        self.log.info("Persistent resource %s is ready for jobs", name.id)
        return {
            "persistent_resource": str(name),
            "persistent_resource_id": name.id,
            "region": name.region,
            "state": snapshot["state"],
            "create_time": snapshot["create_time"],
            "start_time": snapshot["start_time"],
        }

    def _delete_failed(self, name: ResourceName) -> None:
        self.log.info("Deleting %s: its creation has failed", name)
        try:
            self.hook().delete(name)
        except Exception:
            # Why the creation failed matters more to whoever reads the error.
            self.log.exception("%s could not be deleted", name)

    def _adopt(self, hook: PersistentResourceHook, name: ResourceName, wanted: dict[str, Any]) -> bool:
        """Tell whether the resource is there already, as it is wanted."""
        from airflow_vertex_persistent.hooks.persistent_resource import resource_body, resource_snapshot

        live = hook.get(name)
        if live is None:
            return False
        snapshot = resource_snapshot(live)
        phase = resource_phase(snapshot["state"])
        if phase is ResourcePhase.LEAVING:
            raise PersistentResourceError(f"{name} is being deleted\nNext step: retry once it is gone.")
        if phase is ResourcePhase.LOST:
            raise resource_error(name, snapshot["state"], snapshot["error_message"])
        found = differences(wanted, resource_body(live))
        if found:
            lines = "".join(f"\n  - {line}" for line in found)
            raise AirflowFailException(
                f"{name} is there already, with another spec:{lines}\n"
                "Next step: delete it, use another persistent_resource_id, or write the spec it has."
            )
        self.log.info("%s is there already (%s): adopted", name, snapshot["state"])
        return True

    def _create(self, hook: PersistentResourceHook, name: ResourceName, wanted: dict[str, Any]) -> None:
        try:
            hook.create(name.project, name.region, name.id, wanted)
        except Exception as error:
            # Somebody else was quicker, or the reply was lost: what counts is whether it is there.
            unclear = call_problem(error) in {CallProblem.EXISTS, CallProblem.TRANSIENT}
            if not unclear or not self._adopt(hook, name, wanted):
                raise
        else:
            self.log.info("Creating %s", name)
