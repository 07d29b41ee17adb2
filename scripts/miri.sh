#!/usr/bin/env bash
# The decoders under Miri, which sees undefined behaviour that a test cannot:
# where a nightly toolchain has it. (They are all safe code; their checksums are
# another crate's, which is not.)
set -euo pipefail
cd "$(dirname "$0")/.."

if ! cargo +nightly miri --version >/dev/null 2>&1; then
    echo "Miri: left out, the nightly toolchain does not have it: rustup component add miri --toolchain nightly"
    exit 0
fi
# It is some hundred times slower.
PROPTEST_CASES=${PROPTEST_CASES:-4} MIRIFLAGS=-Zmiri-disable-isolation \
    cargo +nightly miri test -p corewal-format
