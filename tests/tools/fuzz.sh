#!/bin/bash
# fuzz.sh SECONDS [TARGET…] - every fuzz target (or those named) for so long, beginning with its seeds (tests/fuzz/seeds): by
# cargo-fuzz where rustup has a nightly compiler, else by proptest from the same seeds, one after the other and without a limit of memory. An
# input of more than 10 s (cargo-fuzz: 25 s), or with cargo-fuzz of 1 GiB of memory, is a failure like a panic. What is found is kept in target/fuzz/found, and
# what cargo-fuzz learns on the way in target/fuzz/TARGET.
set -euo pipefail
# Nothing of the invoking user's own connections is read.
HOME_OF_FUZZ=$(mktemp -d)
trap 'rm -rf "$HOME_OF_FUZZ"' EXIT
cd "$(dirname "$0")/../.."
seconds=$1
shift
mapfile -t targets < <(if [ $# -gt 0 ]; then printf '%s\n' "$@"; else ls tests/fuzz/seeds; fi)

if ! cargo +nightly --version >/dev/null 2>&1; then
    echo "no nightly compiler (rustup toolchain install nightly): proptest it is"
    PGBOSUN_FUZZ_SECONDS=$seconds cargo test --release --workspace --lib --quiet fuzz::
    exit
fi
cargo fuzz --version >/dev/null 2>&1 || cargo install --locked cargo-fuzz
# The lock file of the program: what is tried is what is built.
cp Cargo.lock tests/fuzz/Cargo.lock
(cd tests/fuzz && cargo +nightly fuzz build --fuzz-dir . --target-dir ../../target/fuzz/build any)
program=$(find target/fuzz/build -path '*release/any' -type f | head -1)
mkdir -p target/fuzz/found target/fuzz/log

one() {
    mkdir -p "target/fuzz/$1"
    ASAN_OPTIONS=detect_odr_violation=0 HOME=$HOME_OF_FUZZ PGBOSUN_FUZZ_TARGET=$1 "$program" "target/fuzz/$1" "tests/fuzz/seeds/$1" -max_total_time="$seconds" -timeout=25 -rss_limit_mb=1024 \
        -max_len=65536 -artifact_prefix="target/fuzz/found/$1-" -print_final_stats=1 >"target/fuzz/log/$1" 2>&1
}
failed=()
declare -A running
finish() { # NAME PID
    if wait "$2"; then
        echo "$1: $(sed -n 's/^stat::number_of_executed_units: *//p' "target/fuzz/log/$1") inputs," \
            "$(sed -n 's/^stat::peak_rss_mb: *//p' "target/fuzz/log/$1") MiB"
    else
        failed+=("$1")
        tail -n 30 "target/fuzz/log/$1"
    fi
}
for target in "${targets[@]}"; do
    while [ "$(jobs -rp | wc -l)" -ge "${PGBOSUN_FUZZ_JOBS:-$(nproc)}" ]; do sleep 1; done
    one "$target" &
    running[$target]=$!
done
for target in "${targets[@]}"; do finish "$target" "${running[$target]}"; done
[ ${#failed[@]} -eq 0 ] || { echo "failed: ${failed[*]}; target/fuzz/found has the inputs"; exit 1; }
