#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# What takes longer than `make check` or needs more than Python. Each step installs what it needs and fails
# without it. Usage: soak.sh [STEP...]; all steps run, also after one has failed.
set -uo pipefail
cd "$(dirname "$0")/.."
source scripts/environment.sh

STEPS="other_pythons lowest_versions kills postgresql browser"
SUPPORTED="3.11 3.12 3.13"
TRAINER=dags_examples/trainer/requirements.txt
# What stops tasks and processes of a running Airflow.
STOPS=(tests/system/test_{kill_points,stops,triggerers,orphans,races}.py)

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

# All tests, and of those with an Airflow of their own the one that runs a whole night.
run_tests() {
    scripts/run_tests.sh "$1/bin/python" tests/system/test_nightly_retraining.py
}

# The tests on every supported Python that .venv does not have.
other_pythons() {
    local version failed=0 python
    for version in $SUPPORTED; do
        .venv/bin/python -c "import sys; raise SystemExit('%d.%d' % sys.version_info[:2] != '$version')" && continue
        echo "-- Python $version"
        python=$(python_of_version "$version") &&
            make_environment "$scratch/$version" "$python" &&
            install_into "$scratch/$version" --constraint constraints.txt --requirement "$TRAINER" \
                --editable ".[test]" &&
            run_tests "$scratch/$version" || failed=1
    done
    return $failed
}

# Prints the path of a Python of that version: one on the PATH, or one of pyenv's.
python_of_version() {
    local candidate
    for candidate in "python$1" "$HOME/.pyenv/versions/$1".*/bin/python; do
        if "$candidate" -c "import sys; raise SystemExit('%d.%d' % sys.version_info[:2] != '$1')" 2>/dev/null; then
            "$candidate" -c "import sys; print(sys.executable)"
            return
        fi
    done
    echo "Python $1 is needed: as python$1 on the PATH, or in pyenv" >&2
    return 1
}

# The tests with the lowest versions of our dependencies that pyproject.toml allows. Only uv resolves to those.
# The trainer's exact versions belong to its image, not to them: here it runs with what fits.
lowest_versions() {
    local python=$scratch/lowest/bin/python
    make_environment "$scratch/lowest" .venv/bin/python &&
        make_environment "$scratch/uv" .venv/bin/python &&
        install_into "$scratch/uv" uv || return 1
    PATH="$scratch/uv/bin:$PATH"
    uv pip install --quiet --python "$python" --resolution lowest-direct --editable ".[emulator]" || return 1
    uv pip freeze --quiet --python "$python" |
        grep -E '^(apache-airflow|apache-airflow-providers-google|google-cloud-aiplatform|pendulum)==' |
        tee "$scratch/lowest.txt"
    sed 's/==.*//' "$TRAINER" >"$scratch/trainer.txt"
    uv pip install --quiet --python "$python" --constraint "$scratch/lowest.txt" \
        --requirement "$scratch/trainer.txt" --editable ".[test]" &&
        run_tests "$scratch/lowest"
}

# Every kill and stop, again and again, those included that take a soak run.
kills() {
    KILL_ROUNDS=3 .venv/bin/python -m pytest -p no:cacheprovider -m "soak or not soak" "${STOPS[@]}"
}

# The whole night, every kill and stop, and two hundred submissions at once, with Airflow's metadata in PostgreSQL, in
# a cluster of its own.
postgresql() {
    if ! command -v pg_virtualenv >/dev/null; then
        as_root apt-get update -qq && as_root apt-get install -qq -y postgresql >/dev/null || return 1
    fi
    make_environment "$scratch/postgresql" .venv/bin/python &&
        install_into "$scratch/postgresql" --constraint constraints.txt --requirement "$TRAINER" \
            --editable ".[test]" "apache-airflow[postgres]" || return 1
    pg_virtualenv bash -c '
        run_in() {
            createdb "$1" &&
                TEST_DATABASE="postgresql+psycopg2://$PGUSER:$PGPASSWORD@$PGHOST:$PGPORT/$1" \
                    "$python" -m pytest -p no:cacheprovider "${@:2}"
        }
        python=$0 failed=0
        run_in night tests/system/test_{nightly_retraining,machines_from_trigger}.py || failed=1
        run_in many -m soak tests/system/test_many_submissions.py || failed=1
        KILL_ROUNDS=3 run_in stops -m "soak or not soak" "$@" || failed=1
        exit $failed
    ' "$scratch/postgresql/bin/python" "${STOPS[@]}"
}

# The tests that look at Airflow's pages in headless Chromium, and the demo that is interrupted.
browser() {
    if ! command -v chromium >/dev/null || ! command -v chromedriver >/dev/null; then
        as_root apt-get update -qq && as_root apt-get install -qq -y chromium chromium-driver >/dev/null || return 1
    fi
    .venv/bin/python -m pytest -p no:cacheprovider -m soak tests/system/test_browser.py tests/system/test_demo.py
}

as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi
}

failed=()
for step in ${*:-$STEPS}; do
    echo "== $step"
    SECONDS=0
    "$step" || failed+=("$step")
    echo "== $step took $SECONDS s"
done
if [ ${#failed[@]} -gt 0 ]; then
    echo "Failed: ${failed[*]}" >&2
    exit 1
fi
