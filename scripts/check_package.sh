#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Builds the sdist, and the wheel out of it, then installs the wheel into a fresh environment and tries it
# there, away from the sources.
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/environment.sh

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

.venv/bin/python -m build --no-isolation --outdir "$scratch/dist" >"$scratch/build.log" 2>&1 || {
    cat "$scratch/build.log"
    exit 1
}
.venv/bin/python scripts/check_archives.py "$scratch/dist"

make_environment "$scratch/venv" .venv/bin/python
wheel=$(echo "$scratch"/dist/*.whl)
install_into "$scratch/venv" --constraint constraints.txt "$wheel[emulator]"
smoke_test=$PWD/scripts/smoke_test.py
cd "$scratch"
AIRFLOW_HOME="$scratch/airflow" venv/bin/python -I "$smoke_test"
