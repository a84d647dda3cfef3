#!/bin/bash
# demo.sh run|clean - the demo in /tmp/pgbosun-demo. PostgreSQL refuses to run as root: root runs it as the user postgres.
set -euo pipefail
cd "$(dirname "$0")/../.."
place=/tmp/pgbosun-demo

clean() {
    [ -e "$place" ] || return 0
    if [ -f "$place/demo/daemon.pid" ]; then
        pid=$(cat "$place/demo/daemon.pid")
        # Only what is still ours: the number may belong to somebody else by now.
        if { tr "\0" " " <"/proc/$pid/cmdline"; } 2>/dev/null | grep -q "$place"; then
            kill "$pid" || :
            for _ in $(seq 100); do [ -e "/proc/$pid" ] || break; sleep 0.1; done
        fi
    fi
    for file in "$place"/demo/*/data/postmaster.pid "$place"/demo/restored/postmaster.pid; do
        if [ -f "$file" ]; then
            pid=$(head -1 "$file")
            kill -INT "$pid" 2>/dev/null || :
            for _ in $(seq 100); do [ -e "/proc/$pid" ] || break; sleep 0.1; done
        fi
    done
    rm -rf "$place"
}

case ${1:-} in
clean) clean ;;
run)
    clean
    mkdir -p "$place/bin"
    cp target/debug/pgbosun "$place/bin/"
    shift
    if [ "$(id -u)" = 0 ]; then
        chown postgres "$place"
        cd "$place"
        exec runuser -u postgres -- "$place/bin/pgbosun" demo --directory "$place/demo" "$@"
    fi
    exec "$place/bin/pgbosun" demo --directory "$place/demo" "$@"
    ;;
*)
    echo "usage: demo.sh run|clean" >&2
    exit 64
    ;;
esac
