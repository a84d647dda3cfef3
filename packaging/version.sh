#!/bin/sh
# version.sh - prints "VERSION COMMIT DATE" of this source tree: what `pgbosun --version` and the packages say. At a tag v*
# VERSION is that of the tag. Before the release that Cargo.toml names it is 0.1.0~git20261129.412.97f4dc4 (date and number of
# the commit), which Debian and RPM both sort before 0.1.0; after it 0.1.0+git…, which they sort after. Outside of a git
# repository it is the version of Cargo.toml alone.
set -eu
cd "$(dirname "$0")/.."
version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -1)
# A tarball that was unpacked inside somebody else's repository is none of ours.
top=$(git rev-parse --show-toplevel 2>/dev/null || :)
if [ -z "$top" ] || [ "$top" != "$(pwd -P)" ]; then
    echo "$version"
    exit
fi
commit=$(git rev-parse --short=7 HEAD)
date=$(git log -1 --format=%cd --date=format:%Y-%m-%d)
if tag=$(git describe --tags --exact-match --match 'v[0-9]*' 2>/dev/null); then
    version=$(echo "${tag#v}" | sed 's/-/~/') # 1.0.0-rc.1 comes before 1.0.0
else
    mark='~git'
    ! git rev-parse -q --verify "refs/tags/v$version" >/dev/null || mark='+git'
    version=$version$mark$(echo "$date" | tr -d -).$(git rev-list --count HEAD).$commit
fi
echo "$version $commit $date"
