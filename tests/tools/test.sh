#!/bin/bash
# test.sh [--day | --hour | --ticks [LEAD…]] - every test: unit, then integration on each version of PostgreSQL, a day of faults among
# them; with --day that alone, written to docs/day-of-faults.md; with --hour hostile input alone, for as long as PGBOSUN_HOSTILE_SECONDS says; with --ticks the tests of 15, each a moment before the first of a month (ticks.sh).
# PGBOSUN_TEST_VERSIONS says which versions; without it, it is 15, and 17 for the
# monitors. What needs PostgreSQL runs as an ordinary user, since it refuses root; what needs a booted systemd needs root, and
# is run through sudo where that asks nothing.
set -euo pipefail
cd "$(dirname "$0")/../.."
versions=${PGBOSUN_TEST_VERSIONS:-15}

as_root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi; }

day='' ticks='' hour=''
case ${1:-} in --day) day=yes; shift ;; --hour) hour=yes; shift ;; --ticks) ticks=yes; shift ;; esac
[ -n "$day$ticks$hour" ] || cargo test --workspace --lib --bins --quiet
cargo build --quiet
# The built test program, by the name cargo gives it.
program=$(cargo test --quiet --test integration --no-run --message-format=json |
    sed -n 's/.*"executable":"\([^"]*integration-[^"]*\)".*/\1/p' | tail -1)

# The checkout may be unreadable for the user the servers run as: programs and files are copied to where it can read.
work=$(mktemp -d /tmp/pgbosun-test.XXXXXX)
trap 'rm -rf "$work" 2>/dev/null || as_root rm -rf "$work"' EXIT
chmod 755 "$work"
mkdir -p "$work/files" "$work/scratch"
cp "$program" "$work/integration"
cp target/debug/pgbosun "$work/pgbosun"
cp -r etc systemd tests docs Cargo.toml Cargo.lock "$work/files/"
cargo metadata --no-deps --format-version 1 >"$work/files/metadata.json"
export PGBOSUN_TEST_PROGRAM=$work/pgbosun PGBOSUN_TEST_FILES=$work/files PGBOSUN_TEST_SCRATCH=$work/scratch
export PGBOSUN_TEST_STORES=/opt/pgbosun-test
export PGBOSUN_TEST_JSON=$work/scratch/json RUST_BACKTRACE=0
mkdir -m 1777 "$PGBOSUN_TEST_JSON"
tests/tools/stores.sh "$PGBOSUN_TEST_STORES"

run_as_user() {
    if [ "$(id -u)" = 0 ]; then
        chown postgres "$work/scratch"
        runuser -u postgres --preserve-environment -- env HOME="$work/scratch" "$@"
    else
        "$@"
    fi
}

from_suite() {
    as_root tests/tools/debian-suite.sh "$1" "postgresql-$version" "/opt/pg$version" "/usr/lib/postgresql/$version/bin/*" >/dev/null
}

# on VERSION ARGUMENT… - integration tests on a version of PostgreSQL, which is fetched where it is not there.
on() {
    version=$1
    shift
    binaries=/usr/lib/postgresql/$version/bin
    if [ ! -x "$binaries/postgres" ]; then
        binaries=/opt/pg$version/usr/lib/postgresql/$version/bin
        case $version in
            16)
                as_root tests/tools/postgres-16.sh /opt/pg16 >/dev/null
                binaries=/opt/pg16/bin
                ;;
            17) from_suite trixie ;;
            18) from_suite forky ;;
        esac
    fi
    [ -x "$binaries/postgres" ] || { echo "PostgreSQL $version is not to be had on this machine" >&2; exit 1; }
    echo "integration tests on PostgreSQL $version"
    (cd "$work" && PGBOSUN_TEST_BINARIES=$binaries run_as_user "$work/integration" --test-threads 2 --skip systemd:: "$@")
}

if [ -n "$day" ]; then
    export PGBOSUN_DAY_TRANSCRIPT=$work/scratch/day.txt
    (cd "$work" && PGBOSUN_TEST_BINARIES=/usr/lib/postgresql/15/bin run_as_user "$work/integration" day::)
    { cat tests/day/head.md; cat "$PGBOSUN_DAY_TRANSCRIPT"; echo '```'; } >docs/day-of-faults.md
    exit
fi

if [ -n "$hour" ]; then
    on 15 hour::
    exit
fi

if [ -n "$ticks" ]; then
    (cd "$work" && PGBOSUN_TEST_BINARIES=/usr/lib/postgresql/15/bin TMPDIR="$work/scratch" run_as_user \
        files/tests/tools/ticks.sh "$work/integration" "$@")
    exit
fi

# What monitors ask is not the same on 17 as before, and incremental backups begin there.
[ -n "${PGBOSUN_TEST_VERSIONS:-}" ] || on 17 monitors:: standby:: chains:: walk:: planted:: before::
# The day of faults is by itself: it fills the disk, a little, and what others write meanwhile would fill it, too.
for version in $versions; do
    on "$version" --skip day:: "$@"
    on "$version" day::
done

# All that any of them had printed with --json.
tests/tools/outputs.py docs/json.schema.json "$PGBOSUN_TEST_JSON"

# Beside what comes next, which waits most of the time.
tests/tools/pages.sh >"$work/pages.txt" 2>&1 &
pages=$!
echo "integration tests in a booted systemd"
(cd "$work" && as_root env PGBOSUN_TEST_PROGRAM="$PGBOSUN_TEST_PROGRAM" PGBOSUN_TEST_FILES="$PGBOSUN_TEST_FILES" \
    PGBOSUN_TEST_BINARIES="${binaries}" PGBOSUN_TEST_SCRATCH="$work/scratch" PGBOSUN_TEST_STORES="$PGBOSUN_TEST_STORES" \
    "$work/integration" --test-threads 1 systemd::)
echo "pages of docs/, by their own commands"
wait "$pages" && said=0 || said=$?
cat "$work/pages.txt"
[ "$said" = 0 ] || exit "$said"
echo "the first night of the weekend under the installed unit (all of it: make test-weekend)"
tests/tools/weekend.sh 9 collector
