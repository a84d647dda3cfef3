#!/bin/bash
# package-scenarios.sh NAME - what an administrator does with a package, in a booted Debian that has PostgreSQL and has never
# seen pgbosun (package-test.sh). PACKAGES has first and second, the later version, as .deb and as .rpm.
set -euo pipefail

. "$(dirname "$0")/scenario.sh"
sql() { runuser -u postgres -- psql -XAtq -d postgres -c "$1"; }
active() { [ "$(property ActiveState)" = "$1" ]; }
mode() { [ "$(stat -c '%a %U %G' "$1")" = "$2 $3 $4" ] || fail "$1 is $(stat -c '%a %U %G' "$1"), not $2 $3 $4"; }
# Without a terminal, as unattended-upgrades does it: a question would be an error.
apt() { DEBIAN_FRONTEND=noninteractive apt-get -y -q "$@" </dev/null 2>&1 | tee /tmp/said; }
said() { has -F "$1" </tmp/said || fail "does not say: $1"; }
silent() { ! has -F "$1" </tmp/said || fail "says: $1"; }

start_postgresql() {
    # The root was made without a booted system: the package has made a cluster, and nothing has started it.
    systemctl start postgresql
    wait_for 60 "PostgreSQL" sql "select 1"
}

# What is there after installation: files, group, directories; nothing that runs.
installed() {
    for path in /usr/bin/pgbosun /usr/lib/sysusers.d/pgbosun.conf /usr/lib/tmpfiles.d/pgbosun.conf /lib/systemd/system/pgbosun.service \
        /usr/share/bash-completion/completions/pgbosun /usr/share/fish/vendor_completions.d/pgbosun.fish; do
        [ -s "$path" ] || fail "no $path"
    done
    pgbosun --version | grep -E '^pgbosun [0-9]' || fail "no version"
    getent group pgbosun || fail "no group pgbosun"
    mode /etc/pgbosun 750 root postgres
    mode /etc/pgbosun/pgbosun.toml 640 root postgres
    mode /etc/pgbosun/secrets 700 postgres postgres
    mode /var/backups/pgbosun 700 postgres postgres
    mode /var/lib/pgbosun 700 postgres postgres
    ! has -v '^#' /etc/pgbosun/pgbosun.toml || fail "the configuration that is installed configures something"
    [ "$(systemctl is-enabled pgbosun || :)" = disabled ] || fail "installing enabled the unit"
    active inactive || fail "installing started the daemon"
}

# As the package says: config init, and so on; a backup is made as soon as it may.
configure() {
    pgbosun config init --output /etc/pgbosun/pgbosun.toml || fail "config init over the package's file"
    mode /etc/pgbosun/pgbosun.toml 640 root postgres
    has "^data-directory = \"/var/lib/postgresql/" /etc/pgbosun/pgbosun.toml || fail "config init has not found the cluster"
    bosun config check || fail "the daemon's user cannot read what config init wrote"
    systemctl enable --now pgbosun || fail "start"
    active active || fail "not active after enable --now"
    bosun backup create || fail "the first backup"
    [ "$(bosun --json backup list | grep -c '"label"')" = 1 ] || fail "the first backup is not listed"
}

# A scheduled backup that takes half a minute, at work when this returns.
begin_backup() {
    sql "create table noise as select md5(random()::text) || md5(random()::text) as noise from generate_series(1, 300000)" >/dev/null
    # slow-backup runs alone, once, at a time soon to come.
    date -u -d "+4 seconds" "+%S %M %H" >/tmp/at
    mkdir -p /etc/pgbosun/conf.d
    cat >/etc/pgbosun/conf.d/slow.toml <<TOML
[jobs.slow-backup]
kind = "backup.physical"
schedule = "$(sed 's/\b0\([0-9]\)/\1/g' /tmp/at) * * *"
time-zone = "UTC"
repositories = ["local"]
rate-limit = "2MiB"
TOML
    systemctl reload pgbosun || fail "reload: $(bosun config check 2>&1)"
    wait_for 30 "the slow backup begins" sh -c 'runuser -u postgres -- pgbosun job history slow-backup | grep -q running'
}

# The interrupted backup is begun again by the new daemon, and succeeds.
backup_begins_again() {
    bosun job history slow-backup | has interrupted || fail "the run that the upgrade ended is not told: $(bosun job history slow-backup)"
    sed -i '/^rate-limit/d' /etc/pgbosun/conf.d/slow.toml
    wait_for 60 "the backup begins again" sh -c 'runuser -u postgres -- pgbosun job history slow-backup | grep -qE "running|succeeded"'
    wait_for 150 "the backup that was begun again" sh -c 'runuser -u postgres -- pgbosun job history slow-backup | grep -q succeeded'
    bosun backup verify --all || fail "a backup is damaged"
}

# upgraded COMMAND... - the daemon is another afterwards, of the new program, and has lost nothing.
upgraded() {
    local before
    before=$(property MainPID)
    cp -p /etc/pgbosun/pgbosun.toml /tmp/before.toml
    "$@"
    active active || fail "the daemon does not run after the upgrade"
    [ "$(property MainPID)" != "$before" ] || fail "the upgrade has not restarted the daemon"
    [ "$(readlink "/proc/$(property MainPID)/exe")" = /usr/bin/pgbosun ] || fail "the daemon runs the old program"
    [ "$(property NRestarts)" = 0 ] || fail "the daemon crashed on the way"
    [ "$(systemctl is-enabled pgbosun)" = enabled ] || fail "the upgrade disabled the unit"
    cmp /tmp/before.toml /etc/pgbosun/pgbosun.toml || fail "the upgrade changed the configuration"
    mode /etc/pgbosun/pgbosun.toml 640 root postgres
    [ -z "$(find /etc/pgbosun -name '*.dpkg-*' -o -name '*.rpm*')" ] || fail "the upgrade left another configuration: $(ls /etc/pgbosun)"
}

removed() {
    [ ! -e /usr/bin/pgbosun ] && [ ! -e /lib/systemd/system/pgbosun.service ] || fail "files are left"
    ! pgrep -x pgbosun || fail "the daemon runs on"
    [ "$(property LoadState)" = not-found ] || fail "the unit is $(property LoadState)"
    [ ! -L /etc/systemd/system/multi-user.target.wants/pgbosun.service ] || fail "the unit is enabled still"
    [ -s /etc/pgbosun/pgbosun.toml ] || [ -s /etc/pgbosun/pgbosun.toml.rpmsave ] || fail "the configuration is gone"
    [ -s /var/lib/pgbosun/journal.sqlite ] || fail "the state is gone"
    [ -n "$(find /var/backups/pgbosun -name backup.json)" ] || fail "the backups are gone"
    [ "$(sql 'select 41 + 1')" = 42 ] || fail "PostgreSQL was harmed"
}

case $1 in
deb)
    start_postgresql
    apt install "$PACKAGES/first.deb"
    said "nothing runs yet. First: sudo pgbosun config init --output /etc/pgbosun/pgbosun.toml"
    said "sudo systemctl enable --now pgbosun"
    silent "is used instead"
    installed
    man=$(dpkg -L pgbosun | grep -c '/man1/pgbosun') || :
    [ "$man" -gt 20 ] || fail "$man manual pages"
    # Nothing runs: an upgrade starts nothing, and touches no configuration that was not written yet.
    apt install "$PACKAGES/second.deb"
    silent "nothing runs yet"
    installed
    apt install --allow-downgrades "$PACKAGES/first.deb"
    installed
    configure

    begin_backup
    upgraded apt install "$PACKAGES/second.deb"
    [ "$(dpkg-query -W -f '${Version}' pgbosun)" = "$(dpkg-deb -f "$PACKAGES/second.deb" Version)" ] || fail "not upgraded"
    backup_begins_again

    # Stopped on purpose, though enabled: an upgrade does not start it.
    systemctl stop pgbosun
    apt install --reinstall "$PACKAGES/second.deb"
    active inactive || fail "the upgrade started what was stopped"
    systemctl start pgbosun
    # A policy against restarts is kept.
    pid=$(property MainPID)
    printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d && chmod 755 /usr/sbin/policy-rc.d
    apt install --reinstall "$PACKAGES/second.deb"
    [ "$(property MainPID)" = "$pid" ] || fail "restarted against policy-rc.d"
    rm /usr/sbin/policy-rc.d
    # A configuration that the new version refuses: the package is configured all the same, and says what is wrong.
    echo 'nonsense = true' >/etc/pgbosun/conf.d/wrong.toml
    apt install --reinstall "$PACKAGES/second.deb"
    said "the daemon did not come back"
    [ "$(dpkg-query -W -f '${db:Status-Status}' pgbosun)" = installed ] || fail "half installed"
    rm /etc/pgbosun/conf.d/wrong.toml
    systemctl reset-failed pgbosun
    systemctl start pgbosun || fail "start with the configuration mended"
    # A unit that was installed by hand hides the package's.
    cp "$PACKAGES/pgbosun.service" /etc/systemd/system/
    apt install --reinstall "$PACKAGES/second.deb"
    said "/etc/systemd/system/pgbosun.service is used instead"
    rm /etc/systemd/system/pgbosun.service
    systemctl daemon-reload
    active active || fail "not active"

    mkdir -p /etc/systemd/system/pgbosun.service.d
    printf '[Service]\nReadWritePaths=/srv\n' >/etc/systemd/system/pgbosun.service.d/override.conf
    install -m 600 -o postgres /dev/null /etc/pgbosun/secrets/mail
    apt remove pgbosun
    said "an archive_command that calls pgbosun fails from now on"
    removed
    [ -s /etc/systemd/system/pgbosun.service.d/override.conf ] || fail "remove took the drop-in"
    # It comes back as it was, and needs to be enabled again.
    apt install "$PACKAGES/second.deb"
    silent "nothing runs yet"
    active inactive || fail "installing again started the daemon"
    systemctl enable --now pgbosun || fail "start after installing again"
    [ "$(bosun --json backup list | grep -c '"label"')" -ge 2 ] || fail "backups are forgotten"

    # Purge while it runs; a key is what backups need, so it stays.
    echo AGE-SECRET-KEY-1QQQ >/etc/pgbosun/secrets/identity
    apt purge pgbosun
    said "state and backups were left. To remove them for good: sudo rm -r /var/lib/pgbosun /var/backups/pgbosun"
    said "the keys in /etc/pgbosun were left"
    [ "$(find /etc/pgbosun -type f)" = /etc/pgbosun/secrets/identity ] || fail "left in /etc/pgbosun: $(find /etc/pgbosun)"
    [ ! -e /etc/systemd/system/pgbosun.service.d ] || fail "purge left the drop-in"
    [ -z "$(dpkg-query -W -f '${db:Status-Status}' pgbosun 2>/dev/null)" ] || fail "dpkg still knows it"
    install -m 640 /tmp/before.toml /etc/pgbosun/pgbosun.toml # what removed wants to see
    removed
    rm /etc/pgbosun/pgbosun.toml
    # Without keys nothing stays.
    rm -r /etc/pgbosun
    apt install "$PACKAGES/second.deb"
    said "nothing runs yet"
    installed
    apt purge pgbosun
    silent "keys"
    [ ! -e /etc/pgbosun ] || fail "left: $(find /etc/pgbosun)"
    [ -n "$(find /var/backups/pgbosun -name backup.json)" ] || fail "the backups are gone"
    ;;
without-postgres)
    # No PostgreSQL, no user postgres: it can be installed, and says so.
    DEBIAN_FRONTEND=noninteractive apt-get -y -q purge 'postgresql*' </dev/null >/tmp/purge.txt 2>&1 || fail "$(cat /tmp/purge.txt)"
    ! getent passwd postgres || userdel postgres
    apt install "$PACKAGES/first.deb"
    said "there is no user postgres yet. Install PostgreSQL, then: sudo systemd-tmpfiles --create pgbosun.conf"
    [ "$(dpkg-query -W -f '${db:Status-Status}' pgbosun)" = installed ] || fail "half installed"
    pgbosun --version || fail "does not run"
    useradd -r -U postgres
    systemd-tmpfiles --create pgbosun.conf
    mode /etc/pgbosun 750 root postgres
    runuser -u postgres -- cat /etc/pgbosun/pgbosun.toml >/dev/null || fail "the user cannot read the configuration"
    apt purge pgbosun
    [ ! -e /etc/pgbosun ] || fail "left: $(find /etc/pgbosun)"
    ;;
rpm)
    # Its scripts, as rpm calls them. What it requires is there, but installed by another package manager.
    rpm() { command rpm --nodeps "$@" 2>&1 | tee /tmp/said; }
    start_postgresql
    rpm -i "$PACKAGES/first.rpm"
    said "nothing runs yet. First: sudo pgbosun config init --output /etc/pgbosun/pgbosun.toml"
    installed
    configure
    begin_backup
    upgraded rpm -U "$PACKAGES/second.rpm"
    [ "$(command rpm -q pgbosun)" = "$(command rpm -qp "$PACKAGES/second.rpm")" ] || fail "not upgraded"
    backup_begins_again
    systemctl stop pgbosun
    rpm -U --force "$PACKAGES/second.rpm"
    active inactive || fail "the upgrade started what was stopped"
    systemctl start pgbosun
    rpm -e pgbosun
    said "an archive_command that calls pgbosun fails from now on"
    removed
    ;;
*)
    echo "no scenario $1" >&2
    exit 64
    ;;
esac
echo "held: $1"
