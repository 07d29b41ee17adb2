#!/usr/bin/env bash
# corewal on a disk that forgets what was not synced and fails on demand
# (proof/forgetful), and whether losses are found where there must be some.
#
#   scripts/forgetful.sh [DURATION]     of the storm, 25s unless told (10m)
#   scripts/forgetful.sh build        only builds it
#   COREWAL_PROFILE=dev scripts/forgetful.sh     unoptimised
#
# It takes Linux, /dev/fuse and root, and is skipped with a word where one of
# them is not there.
set -euo pipefail
cd "$(dirname "$0")/../proof/forgetful"

duration=${1:-25s}
case ${COREWAL_PROFILE:-release} in
release) profile=(--release) built=release ;;
dev) profile=() built=debug ;;
*) echo "COREWAL_PROFILE is release or dev" >&2 && exit 2 ;;
esac
if [ "$(id -u)" != 0 ]; then
    echo "forgetful disk: left out, mounting takes root" && exit 0
elif [ ! -c /dev/fuse ]; then
    echo "forgetful disk: left out, there is no /dev/fuse" && exit 0
fi
cargo build "${profile[@]}" --quiet --locked --features planted-bugs
[ "$duration" != build ] || exit 0
program="${CARGO_TARGET_DIR:-target}/$built/corewal-forgetful"
work=$(mktemp -d "${TMPDIR:-/tmp}/corewal-forgetful.XXXXXX")
finish() {
    # What a storm that was killed has left mounted.
    awk -v work="$work/" '$1 == "forgetful" && index($2, work) == 1 { print $2 }' /proc/mounts | xargs -r -n1 umount -l
    rm -rf "$work"
}
trap finish EXIT
export TMPDIR=$work

"$program" storm --rounds 1000000 --duration "$duration" --beside 4

# Found, or this proves nothing.
found() { # name, arguments
    local name=$1 ended=0
    shift
    "$program" storm --beside 4 "$@" >"$work/out" 2>&1 || ended=$?
    if [ "$ended" = 1 ] && grep -q "^broken promise: " "$work/out"; then
        echo "$name: found"
    else
        echo "$name: NOT FOUND (ended with $ended)" && tail -3 "$work/out" && exit 1
    fi
}
found "a disk that lies about syncs" --rounds 200 --lie
found "a sync acknowledged before its end" --rounds 4000 --io buffered --plant early
found "a tail that is believed as the cache shows it" --rounds 4000 --io buffered --plant tail
