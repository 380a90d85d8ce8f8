# SPDX-License-Identifier: Apache-2.0
"""Create a persistent resource, adopt the one that is there, or replace it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal

from airflow_vertex_persistent.operators.base import typed_errors
from airflow_vertex_persistent.operators.labels import fingerprint, resource_labels
from airflow_vertex_persistent.operators.persistent_resource.base import Wait, WaitingResourceOperator
from airflow_vertex_persistent.operators.persistent_resource.creation_record import CreationRecord
from airflow_vertex_persistent.operators.persistent_resource.creation_steps import CreationSteps
from airflow_vertex_persistent.result import resource_result
from airflow_vertex_persistent.specs.checks import Problems, choice, seconds
from airflow_vertex_persistent.specs.persistent_resource import RESOURCE_FIELDS, persistent_resource

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow.sdk import Context

    from airflow_vertex_persistent.operators.base import Duration
    from airflow_vertex_persistent.states import ResourceSnapshot


class CreatePersistentResourceOperator(WaitingResourceOperator):
    """
    Create a persistent resource and wait until it runs.

    Idempotent: a resource of this id with the same spec is adopted, so it can be a setup task and be retried;
    one that differs fails the task without retries and names the fields. With ``max_age`` it is replaced
    instead, as is one that is too old or in ERROR, if this Airflow installation has made it and no job uses
    it.

    A resource that is being deleted is waited for, and a name that stays taken after that, then it is
    created. A creation that fails for lack of machines is deleted and tried again. ``max_wait_duration``
    limits all of that.

    A resource is billed from RUNNING on, whether jobs run on it or not. Killing the task leaves the resource:
    a teardown deletes it.

    .. seealso:: :doc:`/operators/persistent_resource`

    :param resource_pools: Machine shapes, as in ``PersistentResource.resource_pools``, in snake or camel case.
        A disk that is left out is ``pd-ssd`` with 100 GB. (templated)
    :param max_age: Replace a resource that is older, differs or is in ERROR: seconds, ``timedelta`` or text like
        ``"86400s"``. Google advises 30 days at most. Default: none is replaced. (templated)
    :param when_in_use: What to do while jobs use a resource that should be replaced: ``"wait"`` for their end
        or ``"fail"``. Default: wait. (templated)
    :param max_wait_duration: For how long the task may wait before the resource is created, counted from the
        first try of this execution: for jobs that use the one to be replaced, for the end of a deletion, for
        a name that is still taken, for machines. Seconds, ``timedelta`` or text; 0: for ever. Default: two
        hours. (templated)
    :param display_name: Name in the console, 1 to 128 characters. Default: the id. (templated)
    :param labels: Labels of the resource. ``airflow_installation``, ``airflow_dag``, ``airflow_task`` and
        ``airflow_execution`` are added. (templated)
    :param network: ``projects/PROJECT_NUMBER/global/networks/NAME``. (templated)
    :param psc_interface_config: Private Service Connect. (templated)
    :param reserved_ip_ranges: Names of ranges of the network. (templated)
    :param encryption_spec_key_name: Customer-managed key. (templated)
    :param enable_custom_service_account: Jobs on the resource must name a service account. (templated)
    :param service_account: E-mail address of the account of the resource's own runtime. (templated)
    :param kwargs: Id, connection, region and waiting, see
        :class:`~airflow_vertex_persistent.operators.persistent_resource.PersistentResourceOperator` and
        :class:`~airflow_vertex_persistent.operators.base.WaitingOperator`.
    :return: As :class:`~airflow_vertex_persistent.operators.persistent_resource.GetPersistentResourceOperator`;
        also ``created``, whether this execution of the task has created it, and ``rotated``, whether it has deleted
        another one for that.
    """

    template_fields: Sequence[str] = (
        "resource_pools",
        "max_age",
        "when_in_use",
        "max_wait_duration",
        "display_name",
        "labels",
        "network",
        "psc_interface_config",
        "reserved_ip_ranges",
        "encryption_spec_key_name",
        "enable_custom_service_account",
        "service_account",
        *WaitingResourceOperator.template_fields,
    )
    template_fields_renderers: ClassVar[dict[str, str]] = dict.fromkeys(
        ("resource_pools", "labels", "psc_interface_config"), "json"
    )

    def __init__(
        self,
        *,
        resource_pools: list[dict[str, Any]],
        max_age: Duration | None = None,
        when_in_use: Literal["wait", "fail"] = "wait",
        max_wait_duration: Duration = 7200.0,
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
        self.max_age = max_age
        self.when_in_use = when_in_use
        self.max_wait_duration = max_wait_duration
        self.display_name = display_name
        self.labels = labels
        self.network = network
        self.psc_interface_config = psc_interface_config
        self.reserved_ip_ranges = reserved_ip_ranges
        self.encryption_spec_key_name = encryption_spec_key_name
        self.enable_custom_service_account = enable_custom_service_account
        self.service_account = service_account

    def execute(self, context: Context) -> dict[str, Any]:
        """Adopt, create or replace the resource, and return it once it runs."""
        problems = Problems("persistent resource")
        watch = self.watch_arguments(problems)
        wanted = persistent_resource({field: getattr(self, field) for field in RESOURCE_FIELDS}, problems)
        max_age = None if self.max_age is None else seconds("max_age", self.max_age, problems)
        when_in_use = choice("when_in_use", self.when_in_use, ("wait", "fail"), problems)
        limit = seconds("max_wait_duration", self.max_wait_duration, problems, zero=True) or 0.0
        with typed_errors(f"persistent resource {self.where}"):
            problems.raise_if_any()
            name = self.resource_name
            self.persist_links(context, name)
        steps = CreationSteps(
            hook=self.resource_hook,
            job_hook=self.job_hook,
            name=name,
            wanted=wanted,
            labels=resource_labels(context),
            max_age=max_age,
            fail_in_use=when_in_use == "fail",
            max_wait_duration=limit,
            poll_interval=watch["poll_interval"],
            record=CreationRecord.load(context, fingerprint({"name": str(name), "resource": wanted})),
            keep=lambda record: record.save(context),
            log=self.log,
        )
        while True:
            with typed_errors(f"persistent resource {self.where}"):
                step = steps.next_step()
            if not isinstance(step, Wait):
                return self._result(step, steps)
            self.wait(step, name, watch, context)

    def _result(self, snapshot: ResourceSnapshot, steps: CreationSteps) -> dict[str, Any]:
        created = steps.created(snapshot)
        how = "created" if created else "adopted"
        self.log.info("Persistent resource %s is ready for jobs: %s", self.persistent_resource_id, how)
        rotated = created and steps.record.rotated
        return {**resource_result(snapshot), "created": created, "rotated": rotated}
