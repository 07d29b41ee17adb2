#!/usr/bin/env bash
# Fills small file systems with a store, and kills it there. Then
# kills a writing process again and again on every file system that can be had
# here, by every way of writing, and checks every promise after each opening.
#
#   scripts/filesystems.sh [KILLS]     kills each, 30 unless told
#   COREWAL_PROFILE=dev scripts/filesystems.sh     with what the tests have built
#
# The file systems are images in files, mounted by loop devices: that takes
# root, and the tools that make them (xfsprogs, btrfs-progs), which are
# installed where apt-get can. What cannot be had is named and left out; the
# directory this runs in is always tried.
set -euo pipefail
cd "$(dirname "$0")/.."

kills=${1:-30}
case ${COREWAL_PROFILE:-release} in
release) profile=(--release) built=release ;;
dev) profile=() built=debug ;;
*) echo "COREWAL_PROFILE is release or dev" >&2 && exit 2 ;;
esac
cargo build "${profile[@]}" --quiet --workspace --bin corewal
program="${CARGO_TARGET_DIR:-target}/$built/corewal"
work=$(mktemp -d "${TMPDIR:-/tmp}/corewal-filesystems.XXXXXX")
mounted=()
finish() {
    for place in "${mounted[@]}"; do umount "$place" || umount -l "$place"; done
    rm -rf "$work"
}
trap finish EXIT

broken=0
torture() { # name, directory
    for way in uring blocking buffered; do
        if line=$("$program" torture --dir "$2/store-$way" --kills "$kills" --cores 2 --io "$way" --json 2>"$work/err"); then
            echo "$1, $way: $(sed -E 's/.*"kills":([0-9]+).*/\1/' <<<"$line") kills, 0 promises broken"
        elif [ -z "${line:-}" ] && grep -q "io_uring is refused" "$work/err"; then
            echo "$1, $way: left out, $(head -1 "$work/err")"
        else
            echo "$1, $way: BROKEN: ${line:-} $(cat "$work/err")"
            broken=1
        fi
    done
}

# A file system of 64 MiB is filled by a store with a budget and without one,
# which has to go on once there is space, and is killed when full.
fill() { # name, directory
    if COREWAL_SMALL_FS="$2" cargo test "${profile[@]}" --quiet --workspace --test engine small_file_system -- --test-threads 1 >"$work/err" 2>&1; then
        echo "$1: filled, nothing lost"
    else
        echo "$1: BROKEN when full: $(grep -m1 -A2 panicked "$work/err")"
        broken=1
    fi
}
if [ "$(id -u)" = 0 ]; then
    for kind in tmpfs ext4; do
        mkdir "$work/small-$kind"
        case $kind in
        tmpfs) mount -t tmpfs -o size=64m none "$work/small-$kind" 2>"$work/err" ;;
        ext4)
            truncate -s 64M "$work/small-$kind.img"
            mkfs.ext4 -q "$work/small-$kind.img" >/dev/null 2>"$work/err" &&
                mount -o loop "$work/small-$kind.img" "$work/small-$kind" 2>"$work/err"
            ;;
        esac || {
            echo "small $kind: left out, $(head -1 "$work/err")"
            continue
        }
        mounted+=("$work/small-$kind")
        fill "small $kind" "$work/small-$kind"
    done
else
    echo "small file systems: left out, mounting takes root"
fi

mkdir "$work/here"
torture "$(stat -f -c %T "$work")" "$work/here"

for kind in xfs btrfs ext4; do
    if [ "$(id -u)" != 0 ]; then
        echo "$kind: left out, mounting an image takes root"
        continue
    fi
    if ! command -v "mkfs.$kind" >/dev/null; then
        case $kind in xfs) package=xfsprogs ;; btrfs) package=btrfs-progs ;; *) package=e2fsprogs ;; esac
        { apt-get update -qq && apt-get install -y -qq "$package"; } >/dev/null 2>&1 || true
    fi
    mkdir "$work/$kind"
    truncate -s 1G "$work/$kind.img"
    if mkfs."$kind" -q "$work/$kind.img" >/dev/null 2>"$work/err" && mount -o loop "$work/$kind.img" "$work/$kind" 2>"$work/err"; then
        mounted+=("$work/$kind")
        torture "$kind (loop)" "$work/$kind"
    else
        echo "$kind: left out, $(head -1 "$work/err")"
    fi
done
exit "$broken"
