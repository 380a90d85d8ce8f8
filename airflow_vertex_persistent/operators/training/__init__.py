# SPDX-License-Identifier: Apache-2.0
"""What the training operators share: parameters, the job of a task whatever becomes of it, waiting for machines."""

from __future__ import annotations
