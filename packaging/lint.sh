#!/bin/bash
# lint.sh - lintian and rpmlint on the built packages: no errors, no warnings. What is overridden says why, in
# lintian-overrides and rpmlint.toml.
set -euo pipefail
cd "$(dirname "$0")/.."
lintian --allow-root --fail-on error,warning --tag-display-limit 0 target/debian/pgbosun_*.deb
rpmlint --strict --config packaging/rpmlint.toml target/generate-rpm/pgbosun-*.rpm
