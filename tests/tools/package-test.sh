#!/bin/bash
# package-test.sh [SUITE...] - both packages in booted systems of Debian 12 and 13, or of SUITEs: installed, configured, upgraded
# from the package of the commit before while a backup runs, removed, purged (package-scenarios.sh). Builds both, with the program of
# target/debug or PROGRAM, and BEFORE where the program of the commit before is built already; where git does not have that commit, the
# first package is this program under an earlier version.
# PGBOSUN_TEST_STORES (/opt/pgbosun-test) keeps the roots of the systems, which are made once.
# SCENARIOS chooses some of them.
set -euo pipefail
cd "$(dirname "$0")/../.."
suites=("$@")
[ "$#" -gt 0 ] || suites=(bookworm trixie)
roots=${PGBOSUN_TEST_STORES:-/opt/pgbosun-test}/roots
packages=$PWD/target/package-test

as_root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi; }

tests/tools/version-test.sh
rm -rf "$packages"
mkdir -p "$packages"
[ -n "${PROGRAM:-}" ] || { cargo build --quiet && PROGRAM=target/debug/pgbosun; }
export PROGRAM
build() { # NAME, from the tree where it is called
    packaging/build.sh deb >/dev/null
    packaging/build.sh rpm >/dev/null
    mv target/debian/pgbosun_*.deb "$packages/$1.deb"
    mv target/generate-rpm/pgbosun-*.rpm "$packages/$1.rpm"
}
before=$PWD/target/package-before
if git rev-parse --quiet --verify HEAD^ >/dev/null; then
    if [ -e "$before/.git" ]; then git -C "$before" checkout --quiet --detach HEAD^; else git worktree add --quiet --force --detach "$before" HEAD^; fi
    [ -n "${BEFORE:-}" ] || { echo "building the commit before"; (cd "$before" && cargo build --quiet); }
    BEFORE=$(realpath "${BEFORE:-$before/target/debug/pgbosun}")
    (cd "$before" && PROGRAM=$BEFORE build first)
else
    PGBOSUN_VERSION="0.0.0 0000000 $(date +%F)" build first
fi
build second
cp systemd/pgbosun.service tests/tools/scenario.sh tests/tools/package-scenarios.sh "$packages/"

for suite in "${suites[@]}"; do
    root=$roots/$suite
    tests/tools/root.sh "$suite"
    for scenario in ${SCENARIOS:-deb without-postgres rpm}; do
        echo "$scenario on $suite"
        said=$packages/$suite-$scenario.txt
        if ! as_root env BOX_ROOT="$root" BOX_TIMEOUT=400 SHARE="$packages" PACKAGES="$packages" LC_ALL=C.UTF-8 \
            tests/tools/systemd-box.sh /bin/bash "$packages/package-scenarios.sh" "$scenario" >"$said" 2>&1 ||
            ! grep -q "^held: $scenario" "$said"; then
            cat "$said"
            echo "FAILED: $scenario on $suite"
            exit 1
        fi
    done
done
