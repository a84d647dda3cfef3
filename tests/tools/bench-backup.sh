#!/bin/bash
# bench-backup.sh [ARGUMENTS] - installs PostgreSQL 17 and pgBackRest where they are missing and runs tests/bench/backup.py
# with them; ARGUMENTS go to that.
set -euo pipefail
cd "$(dirname "$0")/../.."
as_root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi; }
as_root tests/tools/debian-suite.sh trixie postgresql-17 /opt/pg17 '/usr/lib/postgresql/17/bin/*' >/dev/null
as_root tests/tools/peers.sh /opt/pgbackrest >/dev/null
exec python3 -B tests/bench/backup.py --pgbosun target/release/pgbosun \
    --postgres /opt/pg17/usr/lib/postgresql/17/bin --pgbackrest /opt/pgbackrest/bin/pgbackrest "$@"
