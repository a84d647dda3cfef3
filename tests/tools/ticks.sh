#!/bin/bash
# ticks.sh INTEGRATION [LEAD…] -- [FILTER…] - runs each integration test in a process of its own whose clock, and that of all
# it starts, stands LEAD seconds before the first of a month at midnight: every kind of tick (minute, five minutes, hour, day, month)
# falls into the test. Says which tests failed at which lead. The environment is that of test.sh, which calls this for --ticks.
set -euo pipefail
program=$1 jobs=${PGBOSUN_TEST_JOBS:-2}
shift
leads=()
while [ $# -gt 0 ] && [ "$1" != -- ]; do leads+=("$1"); shift; done
[ $# = 0 ] || shift
[ ${#leads[@]} -gt 0 ] || leads=(1 20 59)

# Tests that need the true time: stores check signatures, TLS compares certificates and NTP servers clocks that do not load
# libfaketime, open files are looked for by their times or given older ones, and PostgreSQL's own timeouts (deadlocks, locks,
# statements) do not come under it. Those of the day, the weekend and the walk move their clocks themselves.
skip='^(systemd::|day::|stores::|certificates::|bare::|channels::an_address_beyond_ascii|poolers::|encodings::|weekend::|walk::|network::|recovery::.*bucket|channels::(a_full_mailbox|mail_)|logs::logs_are|maintenance::|cloned::c43_an_archive|monitors::host::|monitors::server::transactions)'
mapfile -t tests < <("$program" --list --format terse "$@" | sed -n 's/: test$//p' | grep -Ev "$skip")
library=$(ls /usr/lib/*/faketime/libfaketime.so.1 | head -1)
target=$(date -d "$(date +%Y-%m-01) +2 months" +%s)

one() {
    local lead=$1 test=$2 log ahead
    log=$(mktemp)
    ahead=+$((target - lead - $(date +%s)))
    echo "$ahead" >"$log.clock"
    if PGBOSUN_TEST_CLOCK=$log.clock FAKETIME=$ahead LD_PRELOAD=$library FAKETIME_DONT_FAKE_MONOTONIC=1 FAKETIME_NO_CACHE=1 \
        timeout -k 5 300 "$program" --exact "$test" >"$log" 2>&1; then
        echo "ok $lead $test"
    else
        echo "FAILED $lead $test"
        sed 's/^/    /' "$log"
    fi
    rm -f "$log" "$log.clock"
}
export -f one
export program library target
results=$(mktemp)
trap 'rm -f "$results"' EXIT
for lead in "${leads[@]}"; do printf '%s\n' "${tests[@]}" | xargs -P "$jobs" -I{} bash -c "one $lead {}"; done | tee "$results"
! grep -q ^FAILED "$results"
