#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Makes .venv and installs this package with everything its checks need, once: again only when one of the
# files that decide what is installed has changed, or PYTHON names another Python.
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/environment.sh

TRAINER=dags_examples/trainer/requirements.txt
STAMP=.venv/.set-up

wanted=$(cat pyproject.toml constraints.txt "$TRAINER" airflow_vertex_persistent/__init__.py | cksum)

usable() {
    [ -x .venv/bin/python ] && fits .venv/bin/python || return 1
    have_uv || .venv/bin/python -c "import pip" 2>/dev/null || return 1
    [ -z "${PYTHON:-}" ] || same_python "$PYTHON" .venv/bin/python
}

same_python() {
    local version="import sys; print(sys.version, sys.base_prefix)"
    [ "$("$1" -c "$version" 2>/dev/null)" = "$("$2" -c "$version")" ]
}

if usable; then
    if [ "$(cat "$STAMP" 2>/dev/null)" = "$wanted" ]; then
        exit 0
    fi
else
    python=$(find_python)
    echo "Making .venv with $("$python" --version) ($python)"
    make_environment .venv "$python"
fi

echo "Installing Airflow, the Google provider and this package into .venv (a few minutes, once)"
rm -f "$STAMP"
install_into .venv --constraint constraints.txt --requirement "$TRAINER" --editable ".[dev]"
echo "$wanted" >"$STAMP"
