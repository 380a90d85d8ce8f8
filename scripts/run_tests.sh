#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Runs the tests with a Python that has them installed. Usage: run_tests.sh PYTHON [SYSTEM_TEST...]
# Of the tests with an Airflow of their own, those named; by default all.
set -euo pipefail
cd "$(dirname "$0")/.."

# Most of these wait for emulators most of the time. A file stays together: it shares its emulator.
"$1" -m pytest -p no:cacheprovider -m "not soak" --ignore=tests/system --numprocesses=4 --dist=loadfile
# Each of these files has an Airflow of its own, which is as much as two processors bear.
python=$1
shift
"$python" -m pytest -p no:cacheprovider -m "not soak" "${@:-tests/system}"
