# scenario.sh - what situations in a booted system share: to be sourced (systemd-scenarios.sh, package-scenarios.sh).

fail() { echo "FAILED: $*"; journalctl -u pgbosun --no-pager -n 40 -o short-monotonic; exit 1; }
wait_for() { # SECONDS WHAT COMMAND...
    local limit=$1 what=$2
    shift 2
    for _ in $(seq $((limit * 5))); do "$@" >/dev/null 2>&1 && return 0; sleep 0.2; done
    fail "not within $limit s: $what"
}
# Reads to the end, unlike grep -q, which would end what writes to it with SIGPIPE.
has() { grep "$@" >/dev/null; }
bosun() { runuser -u postgres -- pgbosun "$@"; }
property() { systemctl show -P "$1" pgbosun; }
