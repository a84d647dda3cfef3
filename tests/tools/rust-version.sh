#!/bin/bash
# rust-version.sh - fails where a dependency needs a later compiler than the rust-version in Cargo.toml, which setup.sh installs.
set -euo pipefail
cd "$(dirname "$0")/../.."
cargo metadata --format-version 1 --locked --filter-platform "$(rustc -vV | sed -n 's/^host: //p')" | python3 -c '
import json, sys

def order(version):
    return tuple(int(part) for part in (version.split(".") + ["0", "0"])[:3])

metadata = json.load(sys.stdin)
used = {node["id"] for node in metadata["resolve"]["nodes"]}
ours = set(metadata["workspace_members"])
said = next(package["rust_version"] for package in metadata["packages"] if package["id"] in ours)
later = [package for package in metadata["packages"]
         if package["id"] in used - ours and package["rust_version"] and order(package["rust_version"]) > order(said)]
for package in sorted(later, key=lambda package: order(package["rust_version"])):
    print("{name} {version} needs Rust {rust_version}".format(**package), f"and Cargo.toml says {said}")
sys.exit(bool(later))
'
