# SPDX-License-Identifier: Apache-2.0
"""Hyperparameter tuning jobs: what is tried next, what trials measured, and how the whole ends."""
