#!/usr/bin/env bash
# Fuzzes everything that reads bytes of others: each target for a while, one
# after the other, from the inputs that are kept in fuzz/seeds and those that
# earlier runs have found (fuzz/corpus).
#
#   scripts/fuzz.sh [SECONDS] [TARGET ...]     10 seconds each, all targets, unless told
#   scripts/fuzz.sh 14400                      the long form: four hours each
#
# It needs a nightly toolchain and cargo-fuzz. Where they are not, the kept
# inputs are replayed, which `cargo test` does as well.
set -euo pipefail
cd "$(dirname "$0")/.."

seconds=${1:-10}
shift || true
targets=("$@")
[ ${#targets[@]} -gt 0 ] || targets=(segment run manifest directory ingest)

if ! version=$(cargo +nightly fuzz --version 2>&1); then
    echo "fuzzing: left out, it takes a nightly toolchain and cargo-fuzz:"
    echo "    rustup toolchain install nightly --profile minimal && cargo install cargo-fuzz --locked"
    echo "the kept inputs are replayed instead"
    exec cargo test --quiet -p corewal-hostile --test corpus
fi

# No sanitizer: what decodes has no unsafe code, and without one there are
# twice as many inputs. (COREWAL_SANITIZER=address for the buffers of crates/io.)
build=(cargo +nightly fuzz build --fuzz-dir fuzz --sanitizer "${COREWAL_SANITIZER:-none}")
began=$SECONDS
nice -n 5 "${build[@]}" 2>&1 | grep -E '^(error|warning: unused)|Finished' || true
echo "$version, built in $((SECONDS - began)) s"
host=$(rustc +nightly -vV | sed -n 's/^host: //p')

broken=0
for target in "${targets[@]}"; do
    mkdir -p "fuzz/corpus/$target" "fuzz/artifacts/$target"
    log=$(mktemp "${TMPDIR:-/tmp}/corewal-fuzz.XXXXXX")
    # Besides what the targets hold themselves to: 5 seconds and 1 GiB an input.
    if nice -n 5 "fuzz/target/$host/release/$target" "fuzz/corpus/$target" "fuzz/seeds/$target" \
        -artifact_prefix="fuzz/artifacts/$target/" -max_total_time="$seconds" -timeout=5 \
        -rss_limit_mb=1024 -print_final_stats=1 >"$log" 2>&1; then
        value() { sed -n "s/^stat::$1: *//p" "$log"; }
        slowest=$(value slowest_unit_time_sec)
        echo "$target: $(value number_of_executed_units) inputs, $(value new_units_added) of them new," \
            "$(value average_exec_per_sec) a second, slowest under $((slowest + 1)) s, 0 broken"
        [ "$slowest" -le 1 ] || broken=1
    else
        grep -E "panicked|ERROR|assertion|left:|right:|Test unit written" -A1 "$log" | cut -c1-2000 | tail -20
        echo "$target: BROKEN. Mend it, and keep the input in fuzz/seeds/$target under a name that tells its story"
        broken=1
    fi
    rm -f "$log"
done
exit $broken
