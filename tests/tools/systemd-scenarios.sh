#!/bin/bash
# systemd-scenarios.sh NAME - one situation inside a booted systemd (see systemd-box.sh): a real PostgreSQL, the unit as it
# is installed, and what an administrator would see. Exits with 0 when everything holds.
set -euo pipefail
files=$PGBOSUN_TEST_FILES
binaries=$PGBOSUN_TEST_BINARIES

. "$(dirname "$0")/scenario.sh"
sql() { runuser -u postgres -- "$binaries/psql" -h /var/run/postgresql -p 5432 -XAtq -d postgres -c "$1"; }

install_all() {
    install -m 755 "$PGBOSUN_TEST_PROGRAM" /usr/bin/pgbosun
    install -m 644 "$files/systemd/pgbosun.service" /etc/systemd/system/
    install -m 644 -D "$files/systemd/sysusers.d/pgbosun.conf" /etc/sysusers.d/pgbosun.conf
    install -m 644 -D "$files/systemd/tmpfiles.d/pgbosun.conf" /etc/tmpfiles.d/pgbosun.conf
    systemd-sysusers
    systemd-tmpfiles --create pgbosun.conf
    rm -rf /var/lib/box-pg
    install -d -o postgres -g postgres -m 700 /var/lib/box-pg
    install -d -o postgres -g postgres -m 2775 /var/run/postgresql
    runuser -u postgres -- "$binaries/initdb" -D /var/lib/box-pg -A peer -k --no-sync >/dev/null
    cat >/etc/systemd/system/box-pg.service <<UNIT
[Service]
User=postgres
ExecStart=$binaries/postgres -D /var/lib/box-pg -c listen_addresses= -c unix_socket_directories=/var/run/postgresql -c fsync=off
KillSignal=SIGINT
UNIT
    systemctl daemon-reload
    systemctl start box-pg
    wait_for 30 "PostgreSQL" sql "select 1"
    cat >/etc/pgbosun/pgbosun.toml <<TOML
[daemon]
heartbeat = "1s"
stop-timeout = "20s"
[history]
connection = "host=/var/run/postgresql user=postgres dbname=postgres"
[clusters.main]
connection = "host=/var/run/postgresql user=postgres"
[repositories.local]
type = "local"
path = "/var/backups/pgbosun"
[mail]
transport = "folder"
folder = "/var/lib/pgbosun/mail"
from = "pgbosun <pgbosun@localhost>"
[groups.database]
recipients = ["dba@localhost"]
gather = "1s"
[jobs.connectivity]
kind = "monitor.connectivity"
schedule = "*/2 * * * * *"
[jobs.full-backup]
kind = "backup.physical"
repositories = ["local"]
[jobs.restore-test]
kind = "restore-test"
[jobs.sleeper]
kind = "command"
program = "/bin/sh"
arguments = ["-c", "trap '' TERM; sleep 600 & sleep 601"]
patience = "2s"
[jobs.query]
kind = "sql"
statement = "select pg_sleep(600) /* pgbosun box */"
TOML
    chown -R root:postgres /etc/pgbosun
}

start() {
    systemctl start pgbosun || fail "start"
    [ "$(property ActiveState)" = active ] || fail "not active"
}

case $1 in
start-and-status)
    install_all
    systemd-analyze verify /etc/systemd/system/pgbosun.service
    exposure=$(systemd-analyze security --no-pager pgbosun.service | awk '/Overall exposure/ {print $(NF-2)}')
    echo "systemd-analyze security: $exposure"
    awk -v e="$exposure" 'BEGIN { exit !(e + 0 > 0 && e <= 2.0) }' || fail "exposure $exposure is above 2.0"
    # READY only when everything stands: start returns after it, and the socket answers at once.
    start
    bosun status >/dev/null || [ $? -le 3 ] || fail "status does not answer right after the start"
    wait_for 10 "STATUS line" sh -c 'systemctl show -P StatusText pgbosun | grep -q "next connectivity at"'
    systemctl status pgbosun --no-pager | has 'Status: "' || fail "no status in systemctl status"
    wait_for 15 "runs in dba_ops" sh -c "[ \$(runuser -u postgres -- $binaries/psql -h /var/run/postgresql -XAtq -d postgres -c \"select count(*) from dba_ops.job_runs where state = 'succeeded'\") -gt 0 ]"
    bosun backup create || fail "backup in the hardened unit"
    bosun backup verify || fail "verify"
    bosun restore-test || fail "restore test in the hardened unit"
    # Where the kernel can fence scratch servers in, the unit does not keep the daemon from it.
    if ! pgbosun fence --writable /tmp -- /bin/sh -c 'echo out >/root/fenced' 2>/dev/null; then
        journalctl -u pgbosun --no-pager | has "has no Landlock" && fail "the unit keeps the fence away"
    fi
    # What the unit keeps from the daemon is said with its directive: paths of the configuration, and what a command met.
    sed -i -E '/^kind = "(monitor|backup|restore-test|sql)/a cluster = "main"' /etc/pgbosun/pgbosun.toml
    cat >>/etc/pgbosun/pgbosun.toml <<TOML
[clusters.hidden]
connection = "host=/tmp user=postgres"
watch = false
[repositories.hidden]
type = "local"
path = "/tmp/repository"
[jobs.hidden-socket]
kind = "monitor.connectivity"
cluster = "hidden"
[jobs.hidden-repository]
kind = "backup.physical"
cluster = "main"
repositories = ["hidden"]
TOML
    met() { printf '[jobs.%s]\nkind = "command"\nprogram = "/usr/bin/%s"\narguments = ["%s"]\n' "$@" >>/etc/pgbosun/pgbosun.toml; }
    met met-strict touch /etc/met
    met met-home ls /root/met
    met met-tmp ls /tmp/met
    met met-call unshare --user
    systemctl reload pgbosun || fail "reload"
    wait_for 10 "the connection" sh -c 'journalctl -u pgbosun | grep -q "clusters.hidden.connection: /tmp/.s.PGSQL.5432 is hidden: .*PrivateTmp=yes"'
    wait_for 10 "the repository" sh -c 'journalctl -u pgbosun | grep -q "repositories.hidden.path: /tmp/repository is hidden"'
    wait_for 10 "alert about both" sh -c 'runuser -u postgres -- pgbosun alert list | grep -q "the unit denies the daemon access to paths in its configuration"'
    says() { { bosun job run "$1" --wait 2>&1 || :; } | tee /dev/stderr | has "$2" || fail "$1 does not name $2"; }
    says hidden-socket PrivateTmp=
    says hidden-repository PrivateTmp=
    says met-strict ProtectSystem=
    says met-home ProtectHome=
    says met-tmp PrivateTmp=
    says met-call SystemCallFilter=
    # A member of the group talks to the daemon; another user does not.
    useradd -G pgbosun member && useradd stranger
    runuser -u member -- pgbosun job list >/dev/null || fail "a member needs the configuration for job list"
    { runuser -u member -- pgbosun check 2>&1 || :; } | tee /dev/stderr | has "ran all these checks itself" || fail "a member may not have the daemon check"
    { runuser -u member -- pgbosun check nobodys 2>&1 || :; } | head -n 1 | has "PGBOSUN UNKNOWN - daemon: no cluster nobodys" || fail "no first line"
    { runuser -u member -- pgbosun backup list 2>&1 || :; } | has "run it as root or postgres" || fail "a member is not told who may"
    cp /etc/pgbosun/pgbosun.toml /tmp/readable.toml && chmod 644 /tmp/readable.toml
    runuser -u member -- pgbosun --config /tmp/readable.toml job list >/dev/null || fail "member of the group is refused"
    runuser -u member -- pgbosun --config /tmp/readable.toml job run connectivity >/dev/null || fail "a member may not run a job"
    wait_for 15 "who did it" sh -c "[ \$(runuser -u postgres -- $binaries/psql -h /var/run/postgresql -XAtq -d postgres -c \"select actor from dba_ops.audit_log where action = 'run' and object = 'connectivity'\") = member ]"
    { runuser -u stranger -- pgbosun --config /tmp/readable.toml job list 2>&1 || :; } | has "this user may not use" || fail "stranger is not refused"
    ;;
configured-paths)
    # What the configuration names elsewhere is writable from the first start on, also under another user, and what is added later is named.
    install_all
    useradd --system --create-home sdba
    # The repository is made by the start; what is below somebody's own directory is made as the user of the unit.
    install -d -o sdba /srv/scratch "/srv/with blank"
    ln -s /etc "/srv/with blank/etc"
    install -d -o sdba -g postgres -m 770 /var/log/box
    : >/var/log/box/old.log && chown sdba /var/log/box/old.log && touch -d "100 days ago" /var/log/box/old.log
    sql "create role sdba login superuser" >/dev/null
    sed -i -e 's|^path = .*|path = "/srv/backups/repository"|' -e 's|^\[daemon\]|&\nuser = "sdba"|' -e 's|user=postgres|user=sdba dbname=postgres|' \
        -e 's|^kind = "restore-test"|&\nscratch-directory = "/srv/scratch"|' /etc/pgbosun/pgbosun.toml
    sed -i -E '/^connection = .*user=sdba dbname=postgres"$/a log-directory = "/var/log/box"' /etc/pgbosun/pgbosun.toml
    printf '[jobs.logs]\nkind = "logs.rotate"\ncluster = "main"\n' >>/etc/pgbosun/pgbosun.toml
    chgrp -R sdba /etc/pgbosun
    { pgbosun config check 2>&1 || :; } | has "repositories.local.path: /srv/backups/repository cannot be written" || fail "config check does not name what the unit lacks"
    start
    [ "$(ps -o user= -p "$(property MainPID)")" = sdba ] || fail "runs as $(ps -o user= -p "$(property MainPID)")"
    [ "$(property CPUWeight)" = 50 ] && [ "$(property IOWeight)" = 50 ] || fail "weights"
    pgbosun config check 2>&1 | has "warning" && fail "something is lacking after the start"
    pgbosun backup create || fail "backup into a configured place"
    pgbosun job run restore-test --wait || fail "restore test in a configured place"
    pgbosun job run logs --wait || fail "rotate logs in a configured place"
    [ ! -e /var/log/box/old.log ] || fail "the log is still there"
    exposure=$(systemd-analyze security --no-pager pgbosun.service | awk '/Overall exposure/ {print $(NF-2)}')
    echo "systemd-analyze security with the drop-in: $exposure"
    awk -v e="$exposure" 'BEGIN { exit !(e + 0 > 0 && e <= 2.0) }' || fail "exposure $exposure is above 2.0"
    pgbosun check | tee /dev/stderr | has "ran all these checks itself" || fail "check does not ask the daemon"
    # What a boot and an upgrade do leaves it to its user, and what is removed with him is given back.
    systemd-tmpfiles --create pgbosun.conf
    [ "$(stat -c '%a %G' /etc/pgbosun)" = "750 sdba" ] || fail "/etc/pgbosun is $(stat -c '%a %U %G' /etc/pgbosun)"
    systemctl restart pgbosun || fail "restart after systemd-tmpfiles"
    # A user that is not there: nothing is written that would keep the unit from starting.
    sed -i 's/^user = "sdba"/user = "ghost"/' /etc/pgbosun/pgbosun.toml
    { pgbosun config check 2>&1 || :; } | has "there is no user ghost" || fail "config check takes a user that is not there"
    { pgbosun config unit --install 2>&1 || :; } | has "there is no user ghost" || fail "config unit takes a user that is not there"
    sed -i 's/^user = "ghost"/user = "sdba"/' /etc/pgbosun/pgbosun.toml
    # Root takes no orders from a file that others may write.
    chown sdba /etc/pgbosun/pgbosun.toml
    { pgbosun config unit --install 2>&1 || :; } | has "root alone" || fail "root obeys a file of sdba"
    chown root /etc/pgbosun/pgbosun.toml
    # A repository is added: everybody says what is missing, a restart brings it.
    printf '[repositories.more]\ntype = "local"\npath = "/srv/with blank/repository"\n' >>/etc/pgbosun/pgbosun.toml
    sed -i 's/^repositories = \["local"\]/repositories = ["local", "more"]/' /etc/pgbosun/pgbosun.toml
    printf '[repositories.link]\ntype = "local"\nrequired = false\npath = "/srv/with blank/etc/pgbosun-link"\n' >>/etc/pgbosun/pgbosun.toml
    pgbosun config check 2>&1 | has "repositories.more.path: /srv/with blank/repository cannot be written.*ReadWritePaths=" || fail "config check says nothing"
    systemctl reload pgbosun || fail "reload"
    wait_for 10 "the log says it" sh -c 'journalctl -u pgbosun | grep -q "repositories.more.path: /srv/with blank/repository cannot be written"'
    wait_for 10 "alert about it" sh -c 'pgbosun alert list | grep -q "the unit denies the daemon access to paths in its configuration"'
    { pgbosun check || :; } | tee /dev/stderr | grep "repository more" | has "config unit --install" || fail "check does not say what to do"
    pgbosun config unit --install | has "wrote" || fail "config unit --install"
    pgbosun config unit --install | has "up to date" || fail "a second time"
    [ ! -e /etc/pgbosun-link ] || fail "root followed a link in the directory of a user"
    cp /etc/systemd/system/pgbosun.service.d/10-configuration.conf /tmp/before
    systemctl restart pgbosun || fail "restart"
    diff /tmp/before /etc/systemd/system/pgbosun.service.d/10-configuration.conf || fail "the start made another drop-in than the command"
    pgbosun backup create || fail "backup into both"
    [ -n "$(find "/srv/with blank" -name backup.json)" ] || fail "nothing is in the new repository"
    sed -i '/^.repositories.link/,$d' /etc/pgbosun/pgbosun.toml
    systemctl reload pgbosun
    wait_for 10 "alert is over" sh -c '! pgbosun alert list | grep -q "the unit denies"'
    [ -e /etc/tmpfiles.d/pgbosun.conf ] || fail "no tmpfiles for the other user"
    # A drop-in that is not ours stays, and the daemon starts all the same.
    echo "[Service]" >/etc/systemd/system/pgbosun.service.d/10-configuration.conf
    systemctl restart pgbosun || fail "restart beside a drop-in of somebody else"
    [ "$(cat /etc/systemd/system/pgbosun.service.d/10-configuration.conf)" = "[Service]" ] || fail "somebody else's file was replaced"
    ;;
reload)
    install_all
    start
    pid=$(property MainPID)
    bosun job run sleeper
    wait_for 5 "sleeper" pgrep -f "sleep 601"
    cat >>/etc/pgbosun/pgbosun.toml <<TOML
[jobs.added]
kind = "monitor.connectivity"
schedule = "*/3 * * * * *"
TOML
    systemctl reload pgbosun || fail "good reload"
    wait_for 15 "the new job runs" sh -c 'runuser -u postgres -- pgbosun job history added | grep -q succeeded'
    [ "$(property MainPID)" = "$pid" ] || fail "the reload restarted the daemon"
    pgrep -f "sleep 601" >/dev/null || fail "the reload touched a running job"
    # A wrong one: systemctl says so, and the daemon keeps what it has.
    install -m 644 /etc/pgbosun/pgbosun.toml /tmp/good.toml
    sed -i 's/kind = "monitor.connectivity"/kind = "monitor.conectivity"/' /etc/pgbosun/pgbosun.toml
    if systemctl reload pgbosun; then fail "wrong reload is not refused by systemctl"; fi
    kill -HUP "$pid"
    wait_for 10 "refusal in the journal" sh -c 'journalctl -u pgbosun MESSAGE_ID=5d7b1c1f0a5e4a0c9a3e0c6f6a1d2e09 | grep -q "did you mean"'
    wait_for 10 "alert about it" sh -c 'runuser -u postgres -- pgbosun --config /tmp/good.toml alert list | grep -q "a reload was refused"'
    wait_for 10 "mail about it" sh -c 'grep -l "a reload was refused" /var/lib/pgbosun/mail/*.eml'
    [ "$(property ActiveState)" = active ] && [ "$(property MainPID)" = "$pid" ] || fail "daemon is gone"
    before=$(bosun --config /tmp/good.toml --json job history added -n 1000 | grep -c '"id"')
    wait_for 10 "jobs of the old configuration go on" sh -c "[ \$(runuser -u postgres -- pgbosun --config /tmp/good.toml --json job history added -n 1000 | grep -c '\"id\"') -gt $before ]"
    cat /tmp/good.toml >/etc/pgbosun/pgbosun.toml
    systemctl reload pgbosun
    wait_for 10 "alert is over" sh -c '! runuser -u postgres -- pgbosun alert list | grep -q "a reload was refused"'
    ;;
stall-scheduler | stall-delivery)
    install_all
    mkdir -p /etc/systemd/system/pgbosun.service.d
    printf '[Service]\nWatchdogSec=16s\nRestartSec=1s\nEnvironment=PGBOSUN_FAULT=%s\n' "$1" >/etc/systemd/system/pgbosun.service.d/fault.conf
    systemctl daemon-reload
    start
    pid=$(property MainPID)
    # Longer than the watchdog, with a dead history database and a long job: no stall.
    systemctl stop box-pg
    bosun job run sleeper
    sleep 9
    [ "$(property NRestarts)" = 0 ] || fail "restarted before the stall"
    wait_for 60 "restart by the watchdog" sh -c '[ "$(systemctl show -P NRestarts pgbosun)" -ge 1 ]'
    journalctl -u pgbosun | has -i "watchdog timeout" || fail "restarted, but not by the watchdog"
    journalctl -u pgbosun | has "made no progress since the last ping" || fail "the log does not say which part stood still"
    # Without the fault, the same situation lasts.
    rm /etc/systemd/system/pgbosun.service.d/fault.conf
    printf '[Service]\nWatchdogSec=16s\n' >/etc/systemd/system/pgbosun.service.d/fault.conf
    systemctl daemon-reload
    systemctl restart pgbosun
    bosun job run sleeper
    restarts=$(property NRestarts)
    sleep 40
    [ "$(property NRestarts)" = "$restarts" ] || fail "a long job or a dead dba_ops counted as a stall"
    ;;
kill)
    install_all
    start
    bosun job run sleeper
    wait_for 5 "sleeper" pgrep -f "sleep 601"
    kill -9 "$(property MainPID)"
    wait_for 30 "restart" sh -c '[ "$(systemctl show -P NRestarts pgbosun)" -ge 1 ] && [ "$(systemctl show -P ActiveState pgbosun)" = active ]'
    wait_for 10 "the run is interrupted" sh -c 'runuser -u postgres -- pgbosun job history sleeper | grep -q interrupted'
    wait_for 10 "and alerted" sh -c 'runuser -u postgres -- pgbosun alert list | grep -q "a run of sleeper was interrupted"'
    ! pgrep -f "sleep 601" >/dev/null || fail "a child outlived the daemon"
    ;;
stop-during-job)
    install_all
    start
    bosun job run sleeper
    bosun job run query
    wait_for 5 "sleeper" pgrep -f "sleep 601"
    wait_for 5 "query" sh -c "runuser -u postgres -- $binaries/psql -h /var/run/postgresql -XAtq -d postgres -c \"select 1 from pg_stat_activity where query like '%pgbosun box%' and state = 'active' and pid <> pg_backend_pid()\" | grep -q 1"
    begun=$(date +%s)
    systemctl stop pgbosun
    took=$(($(date +%s) - begun))
    [ "$took" -le 25 ] || fail "stopping took $took s"
    [ "$(property Result)" = success ] || fail "stopped with $(property Result)"
    ! pgrep -f "sleep 60[01]" >/dev/null || fail "a child outlived the stop"
    [ -z "$(sql "select pid from pg_stat_activity where query like '%pgbosun box%' and state = 'active' and pid <> pg_backend_pid()")" ] || fail "the query runs on"
    bosun job history | grep -E 'sleeper +cancelled' || fail "the stopped run is not recorded"
    bosun job history | grep -E 'query +cancelled' || fail "the stopped query is not recorded"
    # The server whose user the unit shares is unharmed.
    [ "$(sql 'select 41 + 1')" = 42 ] || fail "the server was harmed by the stop"
    ;;
stop-without-postgresql)
    install_all
    start
    wait_for 15 "a run" sh -c 'runuser -u postgres -- pgbosun job history --all | grep -q succeeded'
    systemctl stop box-pg
    wait_for 15 "alert" sh -c 'runuser -u postgres -- pgbosun alert list | grep -q "does not accept connections"'
    wait_for 15 "mail" sh -c 'grep -l "does not accept connections" /var/lib/pgbosun/mail/*.eml'
    begun=$(date +%s)
    systemctl stop pgbosun
    took=$(($(date +%s) - begun))
    [ "$took" -le 15 ] && [ "$(property Result)" = success ] || fail "stop took $took s, $(property Result)"
    # Back again: what waited is delivered, the alert resolves.
    systemctl start box-pg pgbosun
    wait_for 20 "resolved" sh -c 'grep -l "RESOLVED main: does not accept" /var/lib/pgbosun/mail/*.eml'
    wait_for 20 "delivered" sh -c "runuser -u postgres -- $binaries/psql -h /var/run/postgresql -XAtq -d postgres -c \"select 1 from dba_ops.alerts where state = 'resolved' and severity = 'critical'\" | grep -q 1"
    ;;
full-disk)
    install_all
    sql "create extension pgcrypto" >/dev/null
    sql "create table noise as select gen_random_bytes(1000) from generate_series(1, 30000)" >/dev/null
    mount -t tmpfs -o "size=2M,mode=700,uid=$(id -u postgres),gid=$(id -g postgres)" repository /var/backups/pgbosun
    start
    # Too small by the estimate: refused before the first byte.
    { bosun backup create || :; } | grep "free up space or add a repository" || fail "not refused, or not clearly"
    # Too small for what the estimate could not know: fails, names the object, leaves nothing.
    mount -o remount,size=20M /var/backups/pgbosun
    { bosun backup create || :; } | tee /tmp/said | grep -i "no space left on device" || fail "the full disk is not named: $(cat /tmp/said)"
    grep -q "/var/backups/pgbosun/" /tmp/said || bosun --json job history full-backup -n 1 | has "base.0001.tar.zst" || fail "the object is not named"
    [ -z "$(find /var/backups/pgbosun -type f ! -name pgbosun.json ! -name reserve)" ] || fail "leftovers: $(find /var/backups/pgbosun)"
    bosun backup list | has "no backups yet" || fail "something is listed"
    mount -o remount,size=200M /var/backups/pgbosun
    bosun backup create || fail "the next backup, with room"
    bosun backup verify || fail "verify"
    # Full to the last byte: expiry, which makes room, still begins. The second time what it had held back is used up by one that died.
    sed -i 's/^kind = "backup.physical"/&\nretention = { count = 1 }/' /etc/pgbosun/pgbosun.toml
    mount -o remount,size=400M /var/backups/pgbosun
    for turn in whole died; do
        systemctl stop pgbosun
        sed -i 's/{ count = 1 }/{ count = 9 }/' /etc/pgbosun/pgbosun.toml
        systemctl start pgbosun
        bosun backup create || fail "a backup more ($turn)"
        systemctl stop pgbosun
        sed -i 's/{ count = 9 }/{ count = 1 }/' /etc/pgbosun/pgbosun.toml
        reserve=$(find /var/backups/pgbosun -name reserve)
        if [ $turn = died ]; then
            runuser -u postgres -- mkdir -p "$(dirname "$reserve")/leases"
            mv "$reserve" "$(dirname "$reserve")/leases/expire.json"
        fi
        mkdir -p /var/backups/pgbosun/lost+found
        dd if=/dev/zero of=/var/backups/pgbosun/lost+found/filler bs=64k 2>/dev/null || :
        dd if=/dev/zero of=/var/backups/pgbosun/lost+found/filler.2 bs=1 2>/dev/null || :
        bosun backup expire --force || fail "a full repository cannot be expired ($turn)"
        [ "$(bosun --json backup list | grep -c '"label"')" = 1 ] || fail "nothing was expired ($turn)"
        rm -r /var/backups/pgbosun/lost+found
        [ -e "$reserve" ] || fail "no room is held back again ($turn)"
    done
    # A full state directory: the daemon lives, and what could not be written is made up for when there is room.
    cp -a /var/lib/pgbosun /tmp/state
    mount -t tmpfs -o "size=4M,mode=700,uid=$(id -u postgres),gid=$(id -g postgres)" state /var/lib/pgbosun
    cp -a /tmp/state/. /var/lib/pgbosun/
    start
    dd if=/dev/zero of=/var/lib/pgbosun/filler bs=64k 2>/dev/null || :
    sleep 25
    [ "$(property ActiveState)" = active ] && [ "$(property NRestarts)" = 0 ] || fail "a full journal ended the daemon"
    journalctl -u pgbosun -p err | has "database or disk is full" || fail "a full journal is not in the log"
    [ "$(journalctl -u pgbosun -p err -o cat | wc -l)" -lt 200 ] || fail "a full journal floods the log"
    rm /var/lib/pgbosun/filler
    last=$(date +%s)
    wait_for 20 "runs again" sh -c "[ \$(sqlite3 -readonly /var/lib/pgbosun/journal.sqlite \"select max(strftime('%s', finished_at)) from runs where state = 'succeeded'\") -gt $last ]"
    [ "$(sqlite3 -readonly /var/lib/pgbosun/journal.sqlite "select count(*) from (select strftime('%s', scheduled_for) - lag(strftime('%s', scheduled_for)) over (order by scheduled_for) as step from runs where job = 'connectivity' and scheduled_for > (select min(scheduled_for) from runs where job = 'connectivity' and state = 'missed')) where step > 2")" = 0 ] || fail "times without a row"
    ;;
full-disk-anywhere)
    # A disk that fills at random points of backup, push and restore: a clear end, nothing half, and the next is clean.
    install_all
    owner="mode=700,uid=$(id -u postgres),gid=$(id -g postgres)"
    repository=/var/backups/pgbosun
    room() { mount -o "remount,size=$2k" "$1"; }
    used() { du -sk "$1" | cut -f1; }
    mount -t tmpfs -o "size=400M,$owner" repository $repository
    start
    bosun backup create || fail "the first backup"
    sql "create extension pgcrypto" >/dev/null
    sql "create table noise as select gen_random_bytes(1000) from generate_series(1, 30000)" >/dev/null
    for turn in 1 2 3 4 5; do
        # More than the newest backup took, so that the estimate lets it begin; less than the noise.
        extra=$((5000 + RANDOM % 22000))
        room $repository $(($(used $repository) + extra))
        { bosun backup create || :; } >/tmp/said 2>&1
        grep -i "no space left on device" /tmp/said || fail "backup with $extra kB ($turn): $(cat /tmp/said)"
        room $repository 400000
        [ "$(bosun --json backup list | grep -c '"label"')" = 1 ] || fail "something half is listed with $extra kB"
        [ -z "$(find $repository -name '.*unfinished')" ] || fail "leftovers with $extra kB"
        bosun backup verify --all || fail "verify with $extra kB"
    done
    bosun backup create || fail "the next backup, with room"
    # C35: a share that is full, or fills half-way, costs the other repository nothing, and the run says what is missing.
    share=/var/lib/pgbosun/share
    systemctl stop pgbosun
    install -d -o postgres -g postgres $share
    mount -t tmpfs -o "size=400M,$owner" share $share
    printf '[repositories.share]\ntype = "local"\npath = "%s"\nrequired = false\n' $share >>/etc/pgbosun/pgbosun.toml
    sed -i 's/^repositories = .*/repositories = ["local", "share"]/' /etc/pgbosun/pgbosun.toml
    start
    bosun backup create || fail "a backup into both"
    for turn in full half half; do
        extra=$([ $turn = full ] && echo 64 || echo $((5000 + RANDOM % 22000)))
        room $share $(($(used $share) + extra))
        before=$(bosun --json backup list | grep -c '"repository": "local"')
        bosun backup create >/tmp/said 2>&1 || fail "a backup beside a share with $extra kB: $(cat /tmp/said)"
        has "missing from share" </tmp/said || fail "a share with $extra kB is not told: $(cat /tmp/said)"
        [ "$(bosun --json backup list | grep -c '"repository": "local"')" -gt "$before" ] || fail "the local copy is missing with $extra kB"
        [ "$(bosun --json backup list | grep -c '"repository": "share"')" = 1 ] || fail "something half is listed in the share with $extra kB"
    done
    room $share 400000
    bosun backup create || fail "the next backup into both"
    [ "$(bosun --json backup list | grep -c '"repository": "share"')" = 2 ] || fail "the share has not got the next backup"
    sed -i '/^\[repositories.share\]/,$d; s/^repositories = .*/repositories = ["local"]/' /etc/pgbosun/pgbosun.toml
    systemctl restart pgbosun
    data=/var/lib/box-pg
    for turn in 1 2 3; do
        sql "insert into noise select gen_random_bytes(1000) from generate_series(1, 20000)" >/dev/null
        # One that is full of what does not compress.
        segment=$(sql "select pg_walfile_name(pg_current_wal_lsn() - 16777216)")
        extra=$((RANDOM % 12000))
        room $repository $(($(used $repository) + extra))
        (cd $data && ! bosun wal push "pg_wal/$segment" 2>/tmp/said) || fail "a push with $extra kB succeeds"
        grep -i "no space left on device" /tmp/said || fail "push with $extra kB: $(cat /tmp/said)"
        room $repository 400000
        (cd $data && ! bosun wal fetch "$segment" /tmp/fetched) || fail "half a segment is archived with $extra kB"
        (cd $data && bosun wal push "pg_wal/$segment") || fail "the next push, with room"
        (cd $data && bosun wal fetch "$segment" "$data/fetched" && cmp "$data/fetched" "pg_wal/$segment" && rm "$data/fetched") || fail "fetched is not what was pushed"
    done
    mkdir /var/lib/target
    mount -t tmpfs -o "size=400M,$owner" target /var/lib/target
    room /var/lib/target 20000
    { bosun restore physical --to /var/lib/target/data --immediate --delta --force || :; } >/tmp/said 2>&1
    grep "but the restore needs" /tmp/said || fail "not refused before the first byte: $(cat /tmp/said)"
    rm -rf /var/lib/target/data
    room /var/lib/target 400000
    for turn in 1 2 3; do
        # Slow enough that somebody else can fill the disk meanwhile.
        rm -rf /var/lib/target/data
        bosun restore physical --to /var/lib/target/data --immediate --delta --force --rate-limit 15MB >/tmp/said 2>&1 &
        sleep "1.$((RANDOM % 10))"
        dd if=/dev/zero of=/var/lib/target/filler bs=64k 2>/dev/null || :
        ! wait $! || fail "a restore onto a full disk succeeds: $(cat /tmp/said)"
        grep -i "no space left on device" /tmp/said || fail "restore: $(cat /tmp/said)"
        [ ! -e /var/lib/target/data/global/pg_control ] || fail "a server would start from half a restore"
        rm /var/lib/target/filler
    done
    bosun restore physical --to /var/lib/target/data --immediate --delta --force || fail "the next restore, with room"
    runuser -u postgres -- "$binaries/pg_verifybackup" -n -e --ignore=recovery.signal --ignore=postgresql.auto.conf /var/lib/target/data || fail "what was restored"
    ;;
share-comes-and-goes)
    # C35: what the machine mounts and unmounts while the daemon runs is what the daemon writes to, though its unit has mounts of its own.
    install_all
    nas=/mnt/nas
    mkdir -p $nas /run/first /run/second
    for disk in first second; do
        mount -t tmpfs -o size=200M $disk /run/$disk
        install -d -o postgres -g postgres -m 700 /run/$disk/pgbosun
    done
    printf '[repositories.share]\ntype = "local"\npath = "%s"\nrequired = false\n' $nas/pgbosun >>/etc/pgbosun/pgbosun.toml
    sed -i 's/^repositories = .*/repositories = ["local", "share"]/' /etc/pgbosun/pgbosun.toml
    why() { sqlite3 -readonly /var/lib/pgbosun/journal.sqlite "select detail from findings where summary like '%is not in share' order by id desc limit 1"; }
    newest() { find "/run/$1/pgbosun" -name backup.json | wc -l; }
    backup() { bosun backup create >/tmp/said 2>&1 || fail "a backup $1: $(cat /tmp/said)"; }
    # It is not there at the start, and comes later: fstab has it, and its server does not answer.
    echo "nowhere $nas none bind,nofail,credentials=/etc/nas.credentials 0 0" >/etc/fstab
    install -m 640 /dev/stdin /etc/nas.credentials <<<password=secret
    printf '[jobs.permissions]\nkind = "monitor.permissions"\n' >>/etc/pgbosun/pgbosun.toml
    systemctl daemon-reload
    start
    backup "without the share"
    has "missing from share" </tmp/said || fail "a share that is away is not told: $(cat /tmp/said)"
    # 000-S7: the credentials of the share are watched.
    bosun job run permissions --wait >/tmp/said 2>&1 || :
    has "/etc/nas.credentials is open to others (mode 0640)" </tmp/said || fail "the credentials of the share: $(cat /tmp/said)"
    chmod 600 /etc/nas.credentials
    mount --bind /run/first $nas
    backup "once the share is there"
    [ "$(newest first)" = 1 ] || fail "what came after the start is not written to: $(cat /tmp/said)"
    ! bosun config check 2>&1 | grep "cannot be written" || fail "what is written to is said not to be"
    # It goes and comes back while the daemon holds on to nothing of it.
    systemctl restart pgbosun
    systemctl show -P ReadWritePaths pgbosun | has "$nas" || fail "the share is not in the unit: $(systemctl cat pgbosun)"
    pid=$(property MainPID)
    umount $nas
    backup "after it went"
    has "missing from share" </tmp/said || fail "a share that went is not told: $(cat /tmp/said)"
    [ "$(newest first)" = 1 ] || fail "the daemon wrote to what the machine has unmounted"
    mount --bind /run/first $nas
    backup "after it came back"
    [ "$(newest first)" = 2 ] || fail "what came back is not written to: $(cat /tmp/said)"
    # Another disk in its place, as those that are carried out of the house.
    umount $nas
    mount --bind /run/second $nas
    backup "beside an empty disk"
    why >/tmp/why
    rm "$(grep -o 'on purpose, remove [^ ,;)]*' /tmp/why | head -1 | cut -d' ' -f4)" || fail "another disk is not told: $(cat /tmp/why)"
    backup "to the other disk"
    [ "$(newest second)" = 1 ] || fail "the disk that was put in has no backup: $(cat /tmp/said)"
    [ "$(newest first)" = 2 ] || fail "the daemon wrote to the disk that was taken out"
    [ "$(property MainPID)" = "$pid" ] || fail "the daemon did not stay"
    # A unit that names a directory in the share holds it: that is said, and nothing is written to what is gone.
    umount $nas
    mount -t tmpfs -o size=200M third $nas
    install -d -o postgres -g postgres -m 700 $nas/pgbosun
    printf '[Service]\nReadWritePaths=\nReadWritePaths=/var/backups/pgbosun %s\n' $nas/pgbosun >/etc/systemd/system/pgbosun.service.d/20-own.conf
    systemctl daemon-reload
    systemctl restart pgbosun
    umount $nas
    backup "while the unit holds what is gone"
    why | has "systemctl restart pgbosun" || fail "what is held is not told: $(why)"
    ;;
journal)
    install_all
    start
    bosun job run full-backup --wait
    wait_for 10 "fields" sh -c 'journalctl PGBOSUN_JOB=full-backup -o verbose | grep -q PGBOSUN_RUN='
    journalctl PGBOSUN_JOB=full-backup PGBOSUN_CLUSTER=main | has "stored as" || fail "the end of the backup is not found by its fields"
    journalctl MESSAGE_ID=5d7b1c1f0a5e4a0c9a3e0c6f6a1d2e02 PGBOSUN_JOB=full-backup | has "stored as" || fail "MESSAGE_ID"
    run=$(bosun --json job history full-backup -n 1 | sed -n 's/.*"id": "\(.*\)".*/\1/p')
    [ "$(journalctl PGBOSUN_RUN="$run" -o cat | wc -l)" -ge 2 ] || fail "the run is not found by its id"
    journalctl -u pgbosun -p err -o cat | grep . && fail "errors in a run that went well"
    # A reader of the whole log sees whose message it is.
    journalctl -u pgbosun -o cat | has "^full-backup: run started" || fail "no job in the log: $(journalctl -u pgbosun -o cat)"
    # A credential of the unit is the mail password.
    echo "from systemd" >/etc/pgbosun/secrets/mail && chmod 600 /etc/pgbosun/secrets/mail
    mkdir -p /etc/systemd/system/pgbosun.service.d
    printf '[Service]\nLoadCredential=mail.password:/etc/pgbosun/secrets/mail\n' >/etc/systemd/system/pgbosun.service.d/credential.conf
    sed -i 's/^transport = "folder"/transport = "smtp"\nsecurity = "none"\nserver = "127.0.0.1"\nuser = "u"/; /^folder/d' /etc/pgbosun/pgbosun.toml
    systemctl daemon-reload
    systemctl restart pgbosun || fail "start with a credential"
    ;;
postfix)
    # A real mail server, installed in this box alone: STARTTLS required, mail for the user dba.
    install_all
    useradd -m dba
    echo "postfix postfix/main_mailer_type select Local only" | debconf-set-selections
    DEBIAN_FRONTEND=noninteractive dpkg -i "$PGBOSUN_TEST_STORES"/debs/*.deb >/tmp/dpkg.log 2>&1 || fail "$(cat /tmp/dpkg.log)"
    mkdir /etc/postfix/tls
    "$files/tests/tools/certificates.sh" /etc/postfix/tls
    postconf -e myhostname=localhost mydestination=localhost mynetworks=127.0.0.0/8 inet_interfaces=loopback-only \
        smtpd_tls_security_level=encrypt smtpd_tls_cert_file=/etc/postfix/tls/cert.pem \
        smtpd_tls_key_file=/etc/postfix/tls/key.pem compatibility_level=3.6 maillog_file=/var/log/postfix.log
    systemctl restart postfix
    wait_for 20 "postfix" bash -c 'exec 3<>/dev/tcp/127.0.0.1/25'
    cp /etc/postfix/tls/ca.pem /etc/pgbosun/ca.pem && chmod 644 /etc/pgbosun/ca.pem
    sed -i 's|^transport = "folder"|server = "localhost"\nport = 25\nca-file = "/etc/pgbosun/ca.pem"|; /^folder/d' /etc/pgbosun/pgbosun.toml
    printf '[jobs.failing]\nkind = "command"\nprogram = "/bin/false"\n' >>/etc/pgbosun/pgbosun.toml
    bosun alert test database || fail "a test mail"
    start
    systemctl stop postfix
    bosun job run failing --wait || :
    wait_for 20 "a try" sh -c "sqlite3 -readonly /var/lib/pgbosun/journal.sqlite \"select attempts from notifications where state = 'pending'\" | grep -q '[1-9]'"
    systemctl start postfix
    # A tick of the five-minute monitors may send a mail of its own: wait for the one meant, not for a count.
    wait_for 60 "the mail about the failing job" grep -q "^Subject: .*job failing failed" /var/mail/dba
    for words in "References: <" "Auto-Submitted: auto-generated" "with ESMTPS"; do
        has "$words" </var/mail/dba || fail "no $words in $(cat /var/mail/dba)"
    done
    [ "$(sed -n 's/^Message-ID: //p' /var/mail/dba | sort | uniq -d | wc -l)" = 0 ] || fail "a mail came twice"
    ;;
*)
    echo "no situation $1" >&2
    exit 64
    ;;
esac
echo "held: $1"
