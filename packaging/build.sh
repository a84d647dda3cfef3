#!/bin/bash
# build.sh deb|rpm|quick-deb - builds the package: target/debian/pgbosun_*.deb or target/generate-rpm/pgbosun-*.rpm; quick-deb is the former
# for tests, in seconds and without cargo-deb.
#   PROFILE          dist by default; dev is quick to build, for tests
#   PROGRAM          a program that is built already, instead of a build
#   PGBOSUN_VERSION  "VERSION COMMIT DATE" instead of what version.sh says, as where there is no git
set -euo pipefail
umask 022
cd "$(dirname "$0")/.."
kind=$1
profile=${PROFILE:-dist}
PROGRAM=${PROGRAM:-}
case $kind in deb | rpm | quick-deb) ;; *) echo "usage: build.sh deb|rpm|quick-deb" >&2; exit 64 ;; esac
said=${PGBOSUN_VERSION:-$(packaging/version.sh)}
read -r version commit date <<<"$said"
# dpkg asks everybody who has a configuration what to do with it when this file changes: so it does not change.
sha256sum --quiet --check packaging/pgbosun.toml.sha256
fast_deb=() fast_rpm=()
[ "$profile$PROGRAM" = dist ] || { fast_deb=(--fast --compress-system) fast_rpm=(--payload-compress gzip); }
if [ -z "$PROGRAM" ]; then
    cargo build --profile "$profile"
    PROGRAM=target/$([ "$profile" = dev ] && echo debug || echo "$profile")/pgbosun
fi
[ -z "$commit" ] || [ -n "${PGBOSUN_VERSION:-}" ] || git diff-index --quiet HEAD || echo "build.sh: there are changes that commit $commit does not have" >&2

# What Cargo.toml packs that is not in the repository as it is.
stage=target/package
rm -rf $stage
mkdir -p $stage/man $stage/completions
strip -o $stage/pgbosun "$PROGRAM"
$stage/pgbosun man $stage/man >/dev/null
for shell in bash zsh fish; do $stage/pgbosun completions $shell >$stage/completions/$shell; done
gzip -9n $stage/man/*
gzip -9nc CHANGELOG.md >$stage/changelog.gz
maintainer=$(sed -n 's/^maintainer = "\(.*\)"/\1/p' Cargo.toml)
{
    printf 'pgbosun (%s-1) unstable; urgency=medium\n\n' "$version"
    printf '  * Built from %s; changelog.gz says what is new.\n\n' "${commit:-the source of $version}"
    printf ' -- %s  %s\n' "$maintainer" "$(LC_ALL=C date -u -R -d "${date:-@$(stat -c %Y CHANGELOG.md)}")"
} >$stage/changelog.Debian

case $kind in
    deb)
        rm -f target/debian/pgbosun_*.deb
        cargo deb --quiet "${fast_deb[@]}" --no-build --no-strip --deb-version "$version-1" --output target/debian/
        ;;
    quick-deb)
        rm -f target/debian/pgbosun_*.deb
        mkdir -p target/debian
        packaging/quick-deb.py "$version-1" "target/debian/pgbosun_$version-1_$(dpkg --print-architecture).deb"
        ;;
    rpm)
        rm -f target/generate-rpm/pgbosun-*.rpm
        mkdir -p target/generate-rpm
        cargo generate-rpm "${fast_rpm[@]}" --set-metadata "version = \"$version\"" --output target/generate-rpm/
        ls target/generate-rpm/pgbosun-*.rpm
        ;;
esac
