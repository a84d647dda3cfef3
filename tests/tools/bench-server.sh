#!/bin/bash
# bench-server.sh NAME [ARGUMENTS] - installs PostgreSQL 17 where it is missing and runs tests/bench/NAME.py with it;
# ARGUMENTS go to that.
set -euo pipefail
cd "$(dirname "$0")/../.."
as_root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi; }
as_root tests/tools/debian-suite.sh trixie postgresql-17 /opt/pg17 '/usr/lib/postgresql/17/bin/*' >/dev/null
exec python3 -B "tests/bench/$1.py" --pgbosun target/release/pgbosun --postgres /opt/pg17/usr/lib/postgresql/17/bin "${@:2}"
