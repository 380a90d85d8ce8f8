# SPDX-License-Identifier: Apache-2.0
# Finds a Python and fills virtual environments, with uv where it is there and pip where it is not.
# Sourced by the other scripts, which run in the project's folder. Works with the bash 3.2 of macOS.

have_uv() {
    command -v uv >/dev/null
}

# Without uv, a Python must be able to make an environment by itself: Debian ships one that cannot.
fits() {
    local needs="sys"
    have_uv || needs="sys, ensurepip, venv"
    "$1" -c "import $needs; raise SystemExit(not (3, 11) <= sys.version_info[:2] <= (3, 13))" 2>/dev/null
}

# Prints the path of the first Python that fits. PYTHON, when set, is the only candidate.
find_python() {
    set -- python3 python3.13 python3.12 python3.11 python
    [ -z "${PYTHON:-}" ] || set -- "$PYTHON"
    local candidate
    for candidate in "$@"; do
        if fits "$candidate"; then
            "$candidate" -c "import sys; print(sys.executable)"
            return
        fi
    done
    echo "No fitting Python here. Tried: $*" >&2
    echo "Airflow needs Python 3.11, 3.12 or 3.13, with its venv module (Debian: apt install python3-venv)." >&2
    echo "Install one, or name one: make PYTHON=/path/to/python3" >&2
    return 1
}

# make_environment FOLDER PYTHON
make_environment() {
    rm -rf "$1"
    if have_uv; then
        uv venv --quiet --python "$2" "$1"
    else
        "$2" -m venv "$1"
    fi
}

# install_into FOLDER REQUIREMENT...
install_into() {
    local folder=$1
    shift
    if have_uv; then
        uv pip install --quiet --python "$folder/bin/python" "$@"
    else
        "$folder/bin/python" -m pip install -qq --disable-pip-version-check "$@"
    fi
}
