#!/bin/bash
# version-test.sh - what packaging/version.sh says from the first commit to the second release, and that dpkg (and rpm, where it
# is installed) find each later than the one before.
set -euo pipefail
script=$(readlink -f "$(dirname "$0")/../../packaging/version.sh")
tree=$(mktemp -d)
trap 'rm -rf "$tree"' EXIT
fail() { echo "FAILED: $*"; exit 1; }
export GIT_CONFIG_GLOBAL=/dev/null GIT_AUTHOR_NAME=t GIT_AUTHOR_EMAIL=t@localhost GIT_COMMITTER_NAME=t GIT_COMMITTER_EMAIL=t@localhost
mkdir "$tree/packaging"
cp "$script" "$tree/packaging/"
cd "$tree"
cargo() { printf '[workspace.package]\nversion = "%s"\nrust-version = "1.0"\n' "$1" >Cargo.toml; }
versions=()
at() { # DATE [TAG] - a commit, and what version it is
    git add -A
    GIT_COMMITTER_DATE="$1T12:00:00Z" git commit -q --allow-empty -m x
    [ -z "${2:-}" ] || git tag "$2"
    local version commit date
    read -r version commit date <<<"$(packaging/version.sh)"
    [ "$date" = "$1" ] && [ "$commit" = "$(git rev-parse --short=7 HEAD)" ] || fail "$version tells $commit of $date"
    versions+=("$version")
}
cargo 0.1.0
[ "$(packaging/version.sh)" = 0.1.0 ] || fail "without git: $(packaging/version.sh)"
git init -q
at 2026-11-28
at 2026-11-29
at 2026-11-29 # sorted by its number, whatever its hash is
at 2026-11-30 v0.1.0-rc.1
at 2026-11-30
at 2026-12-01 v0.1.0
at 2026-12-02
cargo 0.2.0
at 2026-12-03
at 2026-12-04 v0.2.0
[ "${versions[3]} ${versions[5]} ${versions[8]}" = "0.1.0~rc.1 0.1.0 0.2.0" ] || fail "tags: ${versions[*]}"
for ((i = 1; i < ${#versions[@]}; i++)); do
    dpkg --compare-versions "${versions[i - 1]}-1" lt "${versions[i]}-1" || fail "dpkg: ${versions[i - 1]} is not before ${versions[i]}"
    ! command -v rpm >/dev/null ||
        [ "$(rpm --eval "%{lua: print(rpm.vercmp('${versions[i - 1]}', '${versions[i]}'))}")" = -1 ] ||
        fail "rpm: ${versions[i - 1]} is not before ${versions[i]}"
done
# Unpacked inside another repository it is no part of that.
mkdir inside && cp -r packaging Cargo.toml inside/
[ "$(inside/packaging/version.sh)" = 0.2.0 ] || fail "inside of another repository: $(inside/packaging/version.sh)"
echo "held: ${versions[*]}"
