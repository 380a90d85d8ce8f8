# SPDX-License-Identifier: Apache-2.0
"""What a whole job must have in common with its persistent resource."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    Ask = Callable[..., Any]

NETWORK = "projects/123456789012/global/networks/training"
KMS_KEY = "projects/p/locations/r/keyRings/k/cryptoKeys/c"
JOB = {"container_uri": "image"}
ACCOUNT = "trainer@acme.iam.gserviceaccount.com"


PLAIN: dict[str, Any] = {
    "name": "projects/123456789012/locations/europe-west4/persistentResources/nightly",
    "state": "RUNNING",
    "resource_pools": [
        {
            "id": "cpus",
            "machine_spec": {"machine_type": "n1-standard-4"},
            "disk_spec": {"boot_disk_type": "pd-ssd", "boot_disk_size_gb": 100},
            "replica_count": "1",
        }
    ],
}
KEYED = {**PLAIN, "network": NETWORK, "encryption_spec": {"kms_key_name": KMS_KEY}}


def account_rule(**rule: Any) -> dict[str, Any]:
    """Return a resource with a rule about service accounts."""
    return {**PLAIN, "resource_runtime_spec": {"service_account_spec": rule}}


ANY_ACCOUNT = account_rule(enable_custom_service_account=True)
ONE_ACCOUNT = account_rule(enable_custom_service_account=True, service_account=ACCOUNT)


@pytest.mark.parametrize(
    ("resource", "fields"),
    [
        (PLAIN, {}),
        (account_rule(), {}),
        (KEYED, {"network": NETWORK, "encryption_spec_key_name": KMS_KEY}),
        (ANY_ACCOUNT, {"service_account": ACCOUNT}),
        (ONE_ACCOUNT, {"service_account": ACCOUNT}),
    ],
)
def test_a_job_that_agrees_with_its_resource_fits(
    fit: Ask, resource: dict[str, Any], fields: dict[str, Any]
) -> None:
    """Network, key and account are the resource's, or nobody's."""
    assert fit({**JOB, **fields}, resource).machines == {"cpus": 1}


@pytest.mark.parametrize(
    ("resource", "fields", "told"),
    [
        (
            KEYED,
            {},
            [
                f"network = None: write '{NETWORK}', as persistent resource 'nightly' has it",
                f"encryption_spec_key_name = None: write '{KMS_KEY}', as persistent resource 'nightly' has it",
            ],
        ),
        (
            PLAIN,
            {"network": NETWORK, "encryption_spec_key_name": KMS_KEY},
            [
                f"network = '{NETWORK}': leave it out: persistent resource 'nightly' has none",
                f"encryption_spec_key_name = '{KMS_KEY}': leave it out: persistent resource 'nightly' has none",
            ],
        ),
        (
            PLAIN,
            {"service_account": ACCOUNT},
            [
                (
                    f"service_account = '{ACCOUNT}': leave it out: persistent resource 'nightly' runs everything as the "
                    "Custom Code Service Agent, since it was created without enable_custom_service_account"
                )
            ],
        ),
        (
            ANY_ACCOUNT,
            {},
            [
                (
                    "service_account = None: say which account the code runs as: persistent resource 'nightly' was created "
                    "with enable_custom_service_account"
                )
            ],
        ),
        (
            ONE_ACCOUNT,
            {},
            [f"service_account = None: write '{ACCOUNT}', as persistent resource 'nightly' has it"],
        ),
        (
            ONE_ACCOUNT,
            {"service_account": "other@acme.iam.gserviceaccount.com"},
            [
                (
                    f"service_account = 'other@acme.iam.gserviceaccount.com': write '{ACCOUNT}', "
                    "as persistent resource 'nightly' has it"
                )
            ],
        ),
    ],
)
def test_a_job_that_disagrees_with_its_resource_is_told(
    misfit: Ask, resource: dict[str, Any], fields: dict[str, Any], told: list[str]
) -> None:
    """By field, with what to write."""
    assert misfit({**JOB, **fields}, resource) == tuple(told)


def test_a_job_goes_where_its_resource_is(fit: Ask, misfit: Ask) -> None:
    """Region and project are compared; a number and an id of a project cannot be."""
    for project in ("acme", "123456789012"):
        assert fit(JOB, PLAIN, project=project).machines == {"cpus": 1}
    assert misfit(JOB, PLAIN, region="us-east1") == (
        "region = 'us-east1': persistent resource 'nightly' is in 'europe-west4'",
    )
    assert misfit(JOB, PLAIN, project="210987654321") == (
        "project_id = '210987654321': persistent resource 'nightly' is in '123456789012'",
    )
