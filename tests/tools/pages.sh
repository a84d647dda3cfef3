#!/bin/bash
# pages.sh [PAGE...] - runs the commands of pages in docs/, in their order and to the letter, as a new user does: in a booted Debian that has
# PostgreSQL and the package, and nothing else prepared but what the page says. Needs root, or sudo. Two pages at a time.
#   PROGRAM              what is packed; target/debug/pgbosun without
#   PACKAGE              a package that is built already (make deb), instead
#   PGBOSUN_TEST_STORES  where the roots of the systems are kept (package-test.sh)
# In a page, blocks of "```sh" are run. Comments of the page itself say what a reader does not see:
#   <!-- begins after: PAGE -->    what was done before
#   <!-- on a new machine, with A as B, after: PAGE -->   another machine, on which B is a copy of the directory A of the first
#   <!-- try: COMMAND -->          what happens to the reader, or must hold
#   <!-- as: USER, first: COMMAND -->  the whole page is run by USER, and before it COMMAND by root
set -euo pipefail
cd "$(dirname "$0")/../.."
pages=("$@")
[ $# -gt 0 ] || pages=(server-gone.md new-machine.md dropped-table.md maintenance-window.md failed-backup.md troubleshooting.md people.md another-user.md upgrading.md
    migrating.md restore-by-hand.md README.md)
root=${PGBOSUN_TEST_STORES:-/opt/pgbosun-test}/roots/bookworm
work=$(mktemp -d /tmp/pgbosun-pages.XXXXXX)
trap 'as_root rm -rf "$work"' EXIT
chmod 755 "$work"

as_root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi; }

tests/tools/root.sh bookworm || { [ $? = 69 ] && echo "the pages are not tried: they are Debian's" && exit 0; }
# Whatever git says of this tree.
if [ -n "${PACKAGE:-}" ]; then
    cp "$PACKAGE" "$work/"
else
    PGBOSUN_VERSION="0.0.0 0000000 $(date +%F)" PROGRAM=${PROGRAM:-target/debug/pgbosun} packaging/build.sh quick-deb >/dev/null
    cp target/debian/pgbosun_*.deb "$work/"
fi
# The tree of one who builds and installs without a package.
mkdir -p "$work/source/target/dist"
cp -r systemd "$work/source/"
cp "${PROGRAM:-target/debug/pgbosun}" "$work/source/target/dist/pgbosun"

at() { case $1 in README.md) echo "$1" ;; *) echo "docs/$1" ;; esac }
# What a page says, as a script. What a shell does not end at is no test: "! COMMAND", and what comes before "&&".
commands() {
    if grep -E '^<!-- try: (! |.* && )' "$(at "$1")" >&2; then echo "$1: write \";\", or \"if …; then false; fi\"" >&2; exit 1; fi
    awk -v page="$1" '
        /^```sh$/ { inside = 1; print "say " page ":" NR; next }
        /^```/    { inside = 0; next }
        inside    { print; next }
        /^<!-- try: .* -->$/ { sub(/^<!-- try: /, ""); sub(/ -->$/, ""); print "hidden " page ":" NR; print }
    ' "$(at "$1")"
}
# A page with what it begins after.
whole() {
    local before user first
    before=$(sed -n 's/^<!-- begins after: \(.*\) -->$/\1/p' "$(at "$1")")
    [ -z "$before" ] || whole "$before"
    read -r user first < <(sed -n 's/^<!-- as: \([a-z]*\), first: \(.*\) -->$/\1 \2/p' "$(at "$1")") || :
    if [ -z "$user" ]; then
        commands "$1"
        return
    fi
    printf '%s\n' "$first" "cat >/tmp/page <<'END OF PAGE'" "$words"
    commands "$1"
    printf '%s\n' 'END OF PAGE' "runuser -u $user -- bash -euo pipefail /tmp/page"
}
# How a script says where it is, and where it failed.
words='say() { at=$1; echo "== $1"; }
hidden() { at=$1; }
trap "echo FAILED at \$at" ERR'
script() { # NAME, with the commands on standard input
    {
        echo "$words"
        cat <<'HEAD'
set -euo pipefail
trap 'echo "FAILED at ${at:-the beginning}"; journalctl -u pgbosun --no-pager -n 30 -o cat' ERR
# A warning is no failure, and alerts that are open none of status (docs/exit-codes.md).
sudo() {
    local code=0
    command sudo "$@" || code=$?
    case "$1 ${2:-} $code" in
        "pgbosun check "[01] | "pgbosun status "[0123]) [ -n "$(command sudo "$@" 2>/dev/null || :)" ] && code=0 ;;
    esac
    return "$code"
}
export DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8
cd "$WORK"
echo "127.0.1.1 $(hostname)" >>/etc/hosts
systemctl start postgresql
until runuser -u postgres -- psql -XAtqc "select 1" >/dev/null 2>&1; do sleep 0.2; done
HEAD
        cat
        echo "echo held"
    } >"$work/$1"
}
boot() { # SCRIPT
    local said=$work/$1.txt begun=$SECONDS
    if ! as_root env BOX_ROOT="$root" BOX_TIMEOUT=400 SHARE="$work" WORK="$work" tests/tools/systemd-box.sh /bin/bash "$work/$1" >"$said" 2>&1 ||
        [ "$(tail -n 1 "$said")" != held ]; then
        cat "$said"
        return 1
    fi
    echo "$1: $((SECONDS - begun)) s"
    [ -z "${VERBOSE:-}" ] || cat "$said"
}

try() { # PAGE
    local from to before elsewhere
    elsewhere=$(sed -n 's/^<!-- on a new machine, with \(.*\) as \(.*\), after: \(.*\) -->$/\1 \2 \3/p' "$(at "$1")")
    if [ -n "$elsewhere" ]; then
        read -r from to before <<<"$elsewhere"
        { whole "$before"; echo "cp -a '$from' '$work/kept'"; } | script "before-$1"
        boot "before-$1" || return
        # It comes from another machine: its owner is nobody there.
        { echo "cp -r '$work/kept' '$to'"; commands "$1"; } | script "$1"
    else
        whole "$1" | script "$1"
    fi
    boot "$1"
}
declare -A running
for page in "${pages[@]}"; do
    while [ "$(jobs -rp | wc -l)" -ge 2 ]; do sleep 0.2; done
    try "$page" &
    running[$page]=$!
done
failed=()
for page in "${pages[@]}"; do wait "${running[$page]}" || failed+=("$page"); done
[ ${#failed[@]} -eq 0 ] || { echo "failed: ${failed[*]}"; exit 1; }
