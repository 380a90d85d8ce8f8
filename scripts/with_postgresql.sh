#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Runs a command with an empty PostgreSQL database for Airflow, in a cluster of its own that is removed in the end.
# The command gets its address as `--database ADDRESS`. Needs Debian's postgresql.
set -euo pipefail
command -v pg_virtualenv >/dev/null || {
    echo "pg_virtualenv is missing: apt-get install postgresql" >&2
    exit 1
}
exec pg_virtualenv bash -c '
    createdb airflow &&
    exec "$@" --database "postgresql+psycopg2://$PGUSER:$PGPASSWORD@$PGHOST:$PGPORT/airflow"' - "$@"
