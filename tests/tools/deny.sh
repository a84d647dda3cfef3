#!/bin/bash
# deny.sh [--if-there] [ADVISORIES] - checks dependencies with cargo-deny: bans, licences, sources, and known vulnerabilities where
# ADVISORIES (or PGBOSUN_ADVISORIES) is a copy of the RustSec advisory database, a clone or its plain files. What is not checked is said.
# With --if-there nothing is installed for it.
set -euo pipefail
cd "$(dirname "$0")/../.."
if_there=''
[ "${1:-}" != --if-there ] || { if_there=yes; shift; }
advisories=${1:-${PGBOSUN_ADVISORIES:-}}

if ! cargo deny --version >/dev/null 2>&1; then
    [ -z "$if_there" ] || { echo "deny: dependencies are not checked: cargo-deny is not installed (make deny does that)"; exit; }
    cargo install --locked cargo-deny
fi
cargo deny --log-level error check bans licenses sources
if [ -z "$advisories" ]; then
    echo "deny: known vulnerabilities are not checked: no copy of the advisory database was given (make deny ADVISORIES=DIR)"
    exit
fi
[ -d "$advisories/crates" ] || { echo "deny: $advisories is no advisory database: it has no directory crates"; exit 1; }
# cargo-deny reads what it fetched itself, from an address with a host: git takes that for the copy.
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
mkdir "$place/advisories"
cp -r "$advisories/." "$place/advisories"
if [ ! -d "$place/advisories/.git" ]; then
    git -C "$place/advisories" init -q -b main
    git -C "$place/advisories" add -A
    git -C "$place/advisories" -c user.name=deny -c user.email=deny@localhost commit -qm copy
fi
address=https://localhost/advisories
sed "s|^\[advisories\]|&\ndb-path = \"$place/db\"\ndb-urls = [\"$address\"]|" deny.toml >"$place/deny.toml"
export GIT_CONFIG_COUNT=1 GIT_CONFIG_KEY_0=url.file://$place/advisories.insteadOf GIT_CONFIG_VALUE_0=$address
cargo deny --config "$place/deny.toml" check advisories
