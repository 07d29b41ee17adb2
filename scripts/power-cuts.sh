#!/usr/bin/env bash
# Cuts the power of a virtual machine that writes a store, at every kind of
# moment, on ext4, xfs and btrfs, and checks every promise on what is left of
# its disk: proof/power/README.md.
#
#   scripts/power-cuts.sh [IMAGES]     images of each file system, 4000 unless told
#   scripts/power-cuts.sh build          only builds the program
#   COREWAL_PROFILE=dev scripts/power-cuts.sh 60      a look
#   COREWAL_POWER_SEED=17 scripts/power-cuts.sh       the same choices; the guest's timing differs
#   COREWAL_POWER_FILE_SYSTEMS=xfs scripts/power-cuts.sh
#
# Then the same with two faults planted, which must be found. It takes root,
# for mounting; QEMU, a kernel and the file systems' tools are fetched from
# Debian where apt-get can. What cannot be had is named, and left out.
set -euo pipefail
cd "$(dirname "$0")/.."

images=${1:-4000}
case ${COREWAL_PROFILE:-release} in
release) profile=(--release) built=release ;;
dev) profile=() built=debug ;;
*) echo "COREWAL_PROFILE is release or dev" >&2 && exit 2 ;;
esac
skip() {
    echo "power cuts: left out, $*"
    exit 0
}
[ "$(uname -sm)" = "Linux x86_64" ] || skip "the guest is Linux on x86-64"
[ "$(id -u)" = 0 ] || skip "mounting an image takes root"
[ -e /dev/loop-control ] || skip "there are no loop devices"

build() {
    RUSTFLAGS="-C target-feature=+crt-static" cargo build "${profile[@]}" --quiet --locked \
        --target x86_64-unknown-linux-gnu --manifest-path proof/power/Cargo.toml
}
if [ "$images" = build ]; then
    build
    exit 0
fi

# What is needed is installed; the kernel is only unpacked.
began=$SECONDS
needed=()
need() { command -v "$1" >/dev/null || needed+=("$2"); }
need qemu-system-x86_64 qemu-system-x86
need modprobe kmod
need mkfs.ext4 e2fsprogs
need mkfs.xfs xfsprogs
need mkfs.btrfs btrfs-progs
target="${CARGO_TARGET_DIR:-proof/power/target}"
kernel="$target/kernel"
errors=$(mktemp)
trap 'rm -f "$errors"' EXIT
if [ ${#needed[@]} -gt 0 ] || [ ! -d "$kernel" ]; then
    command -v apt-get >/dev/null || skip "there is no apt-get to fetch ${needed[*]:-} and a kernel with"
    apt-get update -qq >/dev/null 2>"$errors" || skip "$(tail -1 "$errors")"
fi
if [ ${#needed[@]} -gt 0 ]; then
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${needed[@]}" >/dev/null 2>"$errors" ||
        skip "$(tail -1 "$errors")"
fi
if [ ! -d "$kernel" ]; then
    fetched="$target/kernel.new"
    rm -rf "$fetched"
    mkdir -p "$fetched"
    image=$(apt-cache depends linux-image-cloud-amd64 | sed -n 's/.*Depends: \(linux-image-[0-9].*\)/\1/p' | head -1)
    [ -n "$image" ] || skip "there is no package linux-image-cloud-amd64"
    (cd "$fetched" && apt-get download -qq "$image") >/dev/null 2>"$errors" || skip "$(tail -1 "$errors")"
    dpkg-deb -x "$fetched"/*.deb "$fetched"
    rm "$fetched"/*.deb
    # A newer Debian has its modules in usr/lib, and compressed.
    [ -d "$fetched/lib/modules" ] || { mkdir -p "$fetched/lib" && mv "$fetched/usr/lib/modules" "$fetched/lib/modules"; }
    find "$fetched/lib/modules" -name '*.ko.xz' -exec xz -d {} +
    depmod -b "$fetched" "$(ls "$fetched/lib/modules")"
    mv "$fetched" "$kernel"
fi
echo "power cuts: everything is there after $((SECONDS - began)) s"

systems=()
for kind in $(tr , ' ' <<<"${COREWAL_POWER_FILE_SYSTEMS:-ext4,xfs,btrfs}"); do
    if grep -qw "$kind" /proc/filesystems || modprobe -q "$kind"; then
        systems+=("$kind")
    else
        echo "$kind: left out, this kernel does not mount it"
    fi
done
[ ${#systems[@]} -gt 0 ] || skip "no file system is left"

began=$SECONDS
build
echo "power cuts: built after $((SECONDS - began)) s"
program="$target/x86_64-unknown-linux-gnu/$built/corewal-power"

# In memory, if there is room.
memory=$(df -k --output=avail /dev/shm 2>/dev/null | tail -1 || echo 0)
if [ "$memory" -gt 2000000 ]; then place=/dev/shm; else place=${TMPDIR:-/tmp}; fi
work=$(mktemp -d "$place/corewal-power.XXXXXX")
trap 'rm -rf "$work" "$errors"' EXIT
options=(--kernel "$kernel" --work "$work" --keep "$target/power-cuts-kept")
[ -z "${COREWAL_POWER_SEED:-}" ] || options+=(--seed "$COREWAL_POWER_SEED")

status=0
"$program" run --file-systems "$(IFS=,; echo "${systems[*]}")" --images "$images" "${options[@]}" || status=1
for fault in early forgetful; do
    "$program" run --file-systems "${systems[0]}" --images 200 --fault "$fault" "${options[@]}" || {
        echo "power cuts: the planted fault '$fault' was NOT found"
        status=1
    }
done
exit "$status"
