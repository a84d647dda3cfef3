#!/bin/bash
# package-test.sh [SUITE...] - both packages in booted systems of Debian 12 and 13, or of SUITEs: installed, configured, upgraded
# with a backup at work, removed, purged (package-scenarios.sh). Builds them in two versions, with the program of target/debug or
# PROGRAM.
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
# The same program as two versions: the first as this commit's, the second later than any.
packaging/build.sh deb >/dev/null
packaging/build.sh rpm >/dev/null
mv target/debian/pgbosun_*.deb "$packages/first.deb"
mv target/generate-rpm/pgbosun-*.rpm "$packages/first.rpm"
export PGBOSUN_VERSION="999.0.0 0000000 $(date +%F)"
packaging/build.sh deb >/dev/null
packaging/build.sh rpm >/dev/null
mv target/debian/pgbosun_*.deb "$packages/second.deb"
mv target/generate-rpm/pgbosun-*.rpm "$packages/second.rpm"
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
