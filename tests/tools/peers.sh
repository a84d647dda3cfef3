#!/bin/bash
# peers.sh DESTINATION - the peers that pgbosun is measured against: DESTINATION/bin/pgbackrest is pgBackRest 2.60 or
# later. Works for root and for an ordinary user with sudo; does nothing where it is there.
set -euo pipefail
umask 022
tools=$(cd "$(dirname "$0")" && pwd)
destination=$1

as_root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi; }

[ -x "$destination/bin/pgbackrest" ] && [ -e "$destination/.complete" ] && exit 0
as_root "$tools/debian-suite.sh" forky pgbackrest "$destination" /usr/bin/pgbackrest >/dev/null
as_root mkdir -p "$destination/bin"
as_root ln -sfn ../usr/bin/pgbackrest "$destination/bin/pgbackrest"
"$destination/bin/pgbackrest" version
