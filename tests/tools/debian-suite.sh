#!/bin/bash
# debian-suite.sh SUITE PACKAGE DESTINATION GLOB... - programs of a newer Debian suite, unpacked under DESTINATION with
# the libraries they need, so that they run beside this machine's own. GLOBs name the programs to relocate.
#   debian-suite.sh trixie postgresql-17 /opt/pg17 '/usr/lib/postgresql/17/bin/*'
#   debian-suite.sh forky postgresql-18 /opt/pg18 '/usr/lib/postgresql/18/bin/*'
set -euo pipefail
suite=$1 package=$2 destination=$3
shift 3
[ -e "$destination/.complete" ] && exit 0
for tool in patchelf file; do
    command -v "$tool" >/dev/null || { apt-get -q update; apt-get -q -y install --no-install-recommends patchelf file; }
done
apt=$destination/.apt
rm -rf "$destination"
mkdir -p "$apt"/{etc/preferences.d,none,state/lists/partial,cache/archives/partial}
: >"$apt/status"
# The mirror this machine is set up with.
mirror=$(apt-get indextargets --format '$(SITE)' | grep '/debian$' | sort -u | head -1)
cat >"$apt/conf" <<CONF
Dir::Etc "$apt/etc"; Dir::Etc::sourceparts "$apt/none"; Dir::Etc::parts "$apt/none"; Dir::State "$apt/state";
Dir::State::status "$apt/status"; Dir::Cache "$apt/cache"; APT::Sandbox::User "root"; Acquire::Languages "none";
Acquire::Check-Valid-Until "false";
CONF
echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror $suite main" >"$apt/etc/sources.list"
export APT_CONFIG=$apt/conf
apt-get -q update
apt-get -q -y install --download-only --no-install-recommends "$package"
for deb in "$apt"/cache/archives/*.deb; do
    case $deb in */libllvm* | */python* | */libpython* | */perl* | */libperl* | *-dev_*) continue ;; esac
    dpkg -x "$deb" "$destination"
done
libraries=$destination/usr/lib/x86_64-linux-gnu
for glob in "$@"; do
    for program in "$destination"$glob; do
        file -bL "$program" | grep -q ELF || continue
        patchelf --set-interpreter "$libraries/ld-linux-x86-64.so.2" --force-rpath \
            --set-rpath "$libraries:$destination/lib/x86_64-linux-gnu" "$program"
    done
done
rm -rf "$apt" "$destination"/usr/share/{doc,man,locale}
touch "$destination/.complete"
