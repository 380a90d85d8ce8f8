#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Fits constraints.txt to the dependencies: names and versions that go together on every supported Python.
# Versions that still fit stay as they are; with --upgrade all become the newest.
# Run `make check` and `make soak` before committing the result.
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/environment.sh

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

if ! have_uv; then
    # Only uv resolves for several Pythons at once.
    make_environment "$scratch/uv" "$(find_python)"
    install_into "$scratch/uv" uv
    PATH="$scratch/uv/bin:$PATH"
fi
uv pip compile --quiet --universal --all-extras --python-version 3.11 --no-header --no-annotate "$@" \
    --output-file constraints.txt pyproject.toml dags_examples/trainer/requirements.txt >/dev/null
