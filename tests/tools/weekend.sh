#!/bin/bash
# weekend.sh [HOURS LOGGING] - lives through the weekend of reference 000 under the installed unit, with failures in it (weekend-unit.py), in a
# booted systemd on this machine's root. Without arguments the whole of it, with the log as Ubuntu's guide sets it up and as Debian does, side by
# side, and what arrived is written to docs/weekend.md. Needs root, or sudo.
#   PROGRAM   what is packed; target/debug/pgbosun without
set -euo pipefail
cd "$(dirname "$0")/../.."
hours=${1:-33}
loggings=${2:-collector debian}
work=$(mktemp -d /tmp/pgbosun-weekend.XXXXXX)
as_root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi; }
trap 'as_root rm -rf "$work"' EXIT
chmod 755 "$work"
command -v pg_createcluster >/dev/null || { echo "the weekend is not lived through: it is Debian's PostgreSQL that it begins with"; exit 0; }

PGBOSUN_VERSION="0.0.0 0000000 $(date +%F)" PROGRAM=${PROGRAM:-target/debug/pgbosun} packaging/build.sh quick-deb >/dev/null
running=()
for logging in $loggings; do
    mkdir "$work/$logging"
    cp target/debian/pgbosun_*.deb "$work/$logging/"
    cp -r tests docs "$work/$logging/"
    as_root env BOX_TIMEOUT=3600 SHARE="$work/$logging" WORK="$work/$logging" WEEKEND_HOURS="$hours" tests/tools/systemd-box.sh /usr/bin/python3 \
        "$work/$logging/tests/tools/weekend-unit.py" "$logging" >"$work/$logging.txt" 2>&1 &
    running+=($!)
done
said=0
for logging in $loggings; do
    wait "${running[0]}" || said=1
    running=("${running[@]:1}")
    sed "s/^/$logging: /" "$work/$logging.txt"
done
[ $said = 0 ] && [ $# = 0 ] || exit $said
{
    cat tests/day/weekend-head.md
    for logging in $loggings; do
        case $logging in
        collector) echo "## With PostgreSQL's collector, and \`%h\` in the prefix (Ubuntu's guide)" ;;
        debian) echo "## With the log of pg_ctlcluster (Debian)" ;;
        esac
        echo
        cat "$work/$logging/weekend-$logging.md"
        echo
    done
} >docs/weekend.md
