#!/bin/sh
# version.sh - prints "VERSION COMMIT DATE" of this source tree: what `pgbosun --version` and the packages say. At a tag v*
# VERSION is that of the tag (which Cargo.toml has to agree with, up to a "-rc.1"). Before the first tag of the release that
# Cargo.toml names it is 0.1.0~git20261129.412.97f4dc4 (date and number of the commit), which Debian and RPM both sort before
# 0.1.0~rc.1 and 0.1.0; after a tag 0.1.0+git…, which they sort after. Outside of a git
# repository it is the version of Cargo.toml alone.
set -eu
cd "$(dirname "$0")/.."
release=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -1)
# A tarball that was unpacked inside somebody else's repository is none of ours.
top=$(git rev-parse --show-toplevel 2>/dev/null || :)
# Silence would be the version of a release, which sorts after every commit before it.
if [ -z "$top" ] && [ -e .git ]; then
    echo "version.sh: git does not read this repository: $(git rev-parse --show-toplevel 2>&1 | head -1)" >&2
    exit 1
fi
if [ -z "$top" ] || [ "$top" != "$(pwd -P)" ]; then
    echo "$release"
    exit
fi
commit=$(git rev-parse --short=7 HEAD)
date=$(git log -1 --format=%cd --date=format:%Y-%m-%d)
tag=$(git describe --tags --abbrev=0 --match "v$release" --match "v$release-*" 2>/dev/null || :)
known=$(echo "${tag#v}" | sed 's/-/~/') # 1.0.0-rc.1 comes before 1.0.0
if [ -n "$tag" ] && [ "$(git rev-parse "$tag^{commit}")" = "$(git rev-parse HEAD)" ]; then
    version=$known
else
    version=${known:+$known+git}
    version=${version:-$release~git}$(echo "$date" | tr -d -).$(git rev-list --count HEAD).$commit
fi
echo "$version $commit $date"
