#!/bin/bash
# root.sh SUITE - the root of a Debian with systemd, PostgreSQL and what the package depends on, for booted systems (systemd-box.sh,
# BOX_ROOT): made once, in PGBOSUN_TEST_STORES/roots/SUITE (/opt/pgbosun-test without).
set -euo pipefail
suite=$1
root=${PGBOSUN_TEST_STORES:-/opt/pgbosun-test}/roots/$suite
[ ! -x "$root/usr/bin/sudo" ] || exit 0

as_root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi; }

# The mirror this machine is set up with.
mirror=$(apt-get indextargets --format '$(SITE)' | grep '/debian$' | sort -u | head -1) || :
[ -n "$mirror" ] || { echo "root.sh: apt of this machine knows no mirror of Debian" >&2; exit 69; }
echo "making a root of Debian $suite in $root"
if ! command -v mmdebstrap >/dev/null; then
    as_root apt-get -q update >/dev/null
    as_root env DEBIAN_FRONTEND=noninteractive apt-get -q -y install --no-install-recommends mmdebstrap >/dev/null
fi
as_root mkdir -p "$(dirname "$root")"
as_root rm -rf "$root" "$root.unfinished"
# rpm is there to try the scripts of the other package; its database knows nothing of this system.
as_root nice mmdebstrap --quiet --variant=minbase --aptopt='APT::Install-Recommends "false"' \
    --include=systemd,systemd-sysv,dbus,postgresql,zstd,procps,tzdata,rpm,sudo "$suite" "$root.unfinished" "$mirror"
as_root mv "$root.unfinished" "$root"
