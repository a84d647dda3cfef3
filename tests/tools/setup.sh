#!/bin/bash
# setup.sh [packages] - install what is missing to build, run and test pgbosun on Debian or Ubuntu, with "packages" also what
# builds, checks and tries its packages. Works for root and for an ordinary user with sudo; does nothing where everything is there.
set -euo pipefail
cd "$(dirname "$0")/../.."

as_root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi; }

# package:command, where the command tells that the package is there
wanted=(
    gcc:cc make:make pkg-config:pkg-config curl:curl ca-certificates:update-ca-certificates
    postgresql:pg_ctlcluster zstd:zstd procps:pgrep sqlite3:sqlite3 openssl:openssl iproute2:ip
    python3:python3 systemd:systemctl dbus:dbus-daemon age:age lz4:lz4 openssh-client:ssh faketime:faketime
)
[ "${1:-}" != packages ] || wanted+=(binutils:strip dpkg-dev:dpkg-shlibdeps rpm:rpm lintian:lintian rpmlint:rpmlint mmdebstrap:mmdebstrap)
missing=()
for pair in "${wanted[@]}"; do
    command -v "${pair#*:}" >/dev/null || PATH=$PATH:/usr/sbin:/sbin command -v "${pair#*:}" >/dev/null || missing+=("${pair%%:*}")
done
/usr/bin/python3 -c 'import aiosmtpd' 2>/dev/null || missing+=(python3-aiosmtpd)
/usr/bin/python3 -c 'import jsonschema' 2>/dev/null || missing+=(python3-jsonschema)
[ -e /usr/include/stdlib.h ] || missing+=(libc6-dev)
if [ "${#missing[@]}" -gt 0 ]; then
    echo "installing ${missing[*]}"
    as_root apt-get -q update
    as_root env DEBIAN_FRONTEND=noninteractive apt-get -q -y install --no-install-recommends "${missing[@]}"
fi

# The compiler: what Cargo.toml asks for, from the distribution's rustup or from rustup's own installer.
need=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)
have=$(PATH=$HOME/.cargo/bin:$PATH rustc --version 2>/dev/null | awk '{print $2}' || true)
if [ -z "$have" ] || [ "$(printf '%s\n' "$need" "${have%%-*}" | sort -V | head -1)" != "$need" ]; then
    echo "Rust $need or later is needed, found ${have:-none}"
    if ! command -v rustup >/dev/null; then
        if apt-cache show rustup >/dev/null 2>&1; then
            as_root env DEBIAN_FRONTEND=noninteractive apt-get -q -y install rustup
        else
            curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh -s -- -y --profile minimal
        fi
    fi
    PATH=$HOME/.cargo/bin:$PATH rustup toolchain install stable --profile minimal -c clippy -c rustfmt
    PATH=$HOME/.cargo/bin:$PATH rustup default stable
fi
PATH=$HOME/.cargo/bin:$PATH
for component in clippy rustfmt; do
    cargo "${component/rustfmt/fmt}" --version >/dev/null 2>&1 || rustup component add "$component"
done
if [ "${1:-}" = packages ]; then
    for tool in cargo-deb cargo-generate-rpm; do command -v $tool >/dev/null || nice cargo install --locked $tool; done
fi
