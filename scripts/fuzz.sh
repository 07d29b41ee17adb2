#!/usr/bin/env bash
# Fuzzes everything that reads bytes of others: each target for a while, one
# after the other, from the inputs that are kept in fuzz/seeds and those that
# earlier runs have found (fuzz/corpus).
#
#   scripts/fuzz.sh [SECONDS] [TARGET ...]     10 seconds each, all targets, unless told
#   scripts/fuzz.sh 14400                      the long form: four hours each
#   scripts/fuzz.sh build                      builds them, and no more
#   COREWAL_FUZZ_RUNS=600 scripts/fuzz.sh 60   600 inputs each, the same ones every time
#
# The last is for what gates a change: it fails for what the change did, and not
# for what nobody had looked for before. New inputs are the long form's to find.
#
# What ran for ten minutes or more has a line in proof/fuzz.tsv.
#
# It needs a C++ compiler, for libFuzzer. Where there is none the kept inputs are
# replayed, which `cargo test` does as well.
set -euo pipefail
cd "$(dirname "$0")/.."

seconds=${1:-10}
shift || true
targets=("$@")
[ ${#targets[@]} -gt 0 ] || targets=(segment run manifest directory ingest)

if ! command -v c++ >/dev/null; then
    [ "$seconds" != build ] || exit 0
    echo "fuzzing: left out, it takes a C++ compiler; the kept inputs are replayed instead"
    exec cargo test --quiet -p corewal-hostile --test corpus
fi

# What cargo-fuzz asks of the compiler, all of it stable: counters at each edge,
# and what is compared with what (clang.llvm.org, "SanitizerCoverage"). Only for
# this host's own target, so that build scripts are left alone. No sanitizer by
# default: what decodes has no unsafe code, and without one there are twice as
# many inputs. (COREWAL_SANITIZER=address, for the buffers of crates/io, takes a
# nightly toolchain.)
coverage="--cfg fuzzing -Cpasses=sancov-module"
for kind in level=4 inline-8bit-counters pc-table trace-compares; do
    coverage+=" -Cllvm-args=-sanitizer-coverage-$kind"
done
toolchain=()
if [ -n "${COREWAL_SANITIZER:-}" ]; then
    toolchain=(+nightly)
    coverage+=" -Zsanitizer=$COREWAL_SANITIZER"
fi
# A corpus of this machine's would change which inputs are made.
corpora=fuzz/corpus
same=()
if [ -n "${COREWAL_FUZZ_RUNS:-}" ]; then
    corpora=$(mktemp -d "${TMPDIR:-/tmp}/corewal-fuzz.XXXXXX")
    trap 'rm -rf "$corpora"' EXIT
    same=(-seed=1 -runs="$COREWAL_FUZZ_RUNS")
fi
host=$(rustc "${toolchain[@]}" -vV | sed -n 's/^host: //p')
built=${CARGO_TARGET_DIR:-fuzz/target}
began=$SECONDS
RUSTFLAGS=$coverage CARGO_TARGET_DIR=$built \
    cargo "${toolchain[@]}" build --quiet --locked --release --target "$host" --manifest-path fuzz/Cargo.toml
echo "fuzz targets, built in $((SECONDS - began)) s"
[ "$seconds" != build ] || exit 0

# A line of what was tried: day, commit, target, seconds, inputs, broken.
keep() { # target, inputs, broken
    [ "$seconds" -ge 600 ] && [ -z "${COREWAL_FUZZ_RUNS:-}" ] || return 0
    [ -e proof/fuzz.tsv ] || printf 'day\tcommit\ttarget\tseconds\tinputs\tbroken\n' >proof/fuzz.tsv
    printf '%s\t%s\t%s\t%s\t%s\t%s\n' "$(date -u +%F)" "$(git rev-parse --short HEAD)" "$1" "$seconds" "$2" "$3" \
        >>proof/fuzz.tsv
}

broken=0
for target in "${targets[@]}"; do
    mkdir -p "$corpora/$target" "fuzz/artifacts/$target"
    log=$(mktemp "${TMPDIR:-/tmp}/corewal-fuzz.XXXXXX")
    # Besides what the targets hold themselves to: 5 seconds and 1 GiB an input.
    if nice -n 5 "$built/$host/release/$target" "$corpora/$target" "fuzz/seeds/$target" "${same[@]}" \
        -artifact_prefix="fuzz/artifacts/$target/" -max_total_time="$seconds" -timeout=5 \
        -rss_limit_mb=1024 -print_final_stats=1 >"$log" 2>&1; then
        value() { sed -n "s/^stat::$1: *//p" "$log"; }
        slowest=$(value slowest_unit_time_sec)
        echo "$target: $(value number_of_executed_units) inputs, $(value new_units_added) of them new," \
            "$(value average_exec_per_sec) a second, slowest under $((slowest + 1)) s, 0 broken"
        keep "$target" "$(value number_of_executed_units)" 0
        [ "$slowest" -le 1 ] || broken=1
    else
        grep -E "panicked|ERROR|assertion|left:|right:|Test unit written" -A1 "$log" | cut -c1-2000 | tail -20
        echo "$target: BROKEN. Mend it, and keep the input in fuzz/seeds/$target under a name that tells its story"
        keep "$target" "?" 1
        broken=1
    fi
    rm -f "$log"
done
exit $broken
