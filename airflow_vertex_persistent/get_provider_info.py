# SPDX-License-Identifier: Apache-2.0
"""What Airflow reads about this provider."""

from __future__ import annotations

from typing import Any

_INTEGRATION = "Google Vertex AI training"


def get_provider_info() -> dict[str, Any]:
    """Return the provider's metadata, in the form of Airflow's ``provider_info.schema.json``."""
    return {
        "package-name": "airflow-provider-vertex-persistent",
        "name": "Vertex AI training on persistent resources",
        "description": "Trains and tunes models on Vertex AI: persistent resources, Flex Start, with a local emulator.",
        "integrations": [
            {
                "integration-name": _INTEGRATION,
                "external-doc-url": "https://cloud.google.com/vertex-ai/docs/training/overview",
                "tags": ["gcp"],
            }
        ],
        "operators": [
            {
                "integration-name": _INTEGRATION,
                "python-modules": [
                    "airflow_vertex_persistent.operators.custom_job",
                    "airflow_vertex_persistent.operators.flex_start",
                    "airflow_vertex_persistent.operators.hyperparameter_tuning",
                    "airflow_vertex_persistent.operators.orphaned_jobs",
                    "airflow_vertex_persistent.operators.persistent_resource",
                ],
            }
        ],
        "hooks": [
            {
                "integration-name": _INTEGRATION,
                "python-modules": [
                    "airflow_vertex_persistent.hooks.persistent_resource",
                    "airflow_vertex_persistent.hooks.storage",
                    "airflow_vertex_persistent.hooks.training_job",
                ],
            }
        ],
        "triggers": [
            {
                "integration-name": _INTEGRATION,
                "python-modules": [
                    "airflow_vertex_persistent.triggers.flex_start",
                    "airflow_vertex_persistent.triggers.persistent_resource",
                    "airflow_vertex_persistent.triggers.race",
                    "airflow_vertex_persistent.triggers.training_job",
                    "airflow_vertex_persistent.triggers.tuning_job",
                ],
            }
        ],
        "sensors": [
            {
                "integration-name": _INTEGRATION,
                "python-modules": [
                    "airflow_vertex_persistent.sensors.flex_start",
                    "airflow_vertex_persistent.sensors.persistent_resource",
                ],
            }
        ],
        "extra-links": [
            "airflow_vertex_persistent.links.PersistentResourcesLink",
            "airflow_vertex_persistent.links.TrainingJobLink",
            "airflow_vertex_persistent.links.TrainingLogsLink",
            "airflow_vertex_persistent.links.TuningReportLink",
        ],
        "config": {
            "vertex_persistent": {
                "description": "Training on Vertex AI.",
                "options": {
                    "allow_remote_emulator": {
                        "description": (
                            "Allow VERTEX_AI_EMULATOR_HOST to name another machine. The channel to an emulator "
                            "is neither encrypted nor authenticated."
                        ),
                        "version_added": "0.1.0",
                        "type": "boolean",
                        "example": None,
                        "default": "False",
                    },
                    "installation": {
                        "description": (
                            "Name of this Airflow installation among those that share a Google Cloud project, a "
                            "label of its jobs and persistent resources. The default is a hash of the API "
                            "server's address and the Fernet key."
                        ),
                        "version_added": "0.1.0",
                        "type": "string",
                        "example": "production",
                        "default": "",
                    },
                },
            }
        },
    }
