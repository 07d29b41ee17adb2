#!/usr/bin/env bash
# The long forms of the proofs, one after the other, each with its result in a
# line or a few. Hours to days; what CI runs is a part of the same.
#
#   scripts/soak.sh                      all of them
#   scripts/soak.sh crashes sweeps       some
#   COREWAL_SOAK_MINUTES=30 scripts/soak.sh crashes      no longer than so
#
# | form | what | how long, on two cores |
# |---|---|---|
# | crashes | sequences and the crash loop, on from where proof/campaign.tsv ends, until it has 100 million states | hours |
# | sweeps | every bit, sector and length of a small store | a quarter of an hour |
# | canary | every planted bug is found | minutes |
# | kills | a thousand kills for each way of writing, on each file system | an hour |
# | forgetful | a disk that forgets and fails | ten minutes |
# | power | 4,000 images a file system | an hour and a half |
# | fuzz | four hours a target, on from where proof/fuzz.tsv ends | a day |
# | miri | the decoders | minutes |
# | mutants | format, verdict, recovery and manifest | half a day |
set -euo pipefail
cd "$(dirname "$0")/.."

# Optimised, with what the engine asserts.
soak=(cargo test --quiet --profile soak -p corewal)
campaign=proof/campaign.tsv
wanted=100000000

column() { awk -F'\t' -v form="$1" '$3 == form { n++; last = $4; sum += $5 } END { print n + 0, last + 0, sum + 0 }' "$campaign"; }
looked_at() { awk -F'\t' '{ sum += $5 } END { print sum + 0 }' "$campaign"; }

# One step of the campaign: a form, what of it, and how to run it. Adds a line
# with the states looked at, or ends here with what was broken.
step() { # form, part
    local form=$1 part=$2 output
    output=$("${soak[@]}" --test "$form" every -- --nocapture 2>&1) || { echo "$output" && return 1; }
    local states
    states=$(sed -nE 's/^([0-9]+) crash states of .*/\1/p' <<<"$output")
    printf '%s\t%s\t%s\t%s\t%s\t0\n' "$(date -u +%F)" "$(git rev-parse --short HEAD)" "$form" "$part" "$states" >>"$campaign"
}

crashes() {
    local parts=1460 seeds=20 each=40 began=$SECONDS done_parts loops last _
    "${soak[@]}" --test sequences --test crash_loop --no-run
    while [ "$(looked_at)" -lt "$wanted" ]; do
        if [ -n "${COREWAL_SOAK_MINUTES:-}" ] && [ $((SECONDS - began)) -ge $((60 * COREWAL_SOAK_MINUTES)) ]; then
            break
        fi
        read -r done_parts _ _ < <(column sequences)
        read -r loops last _ < <(column crash_loop)
        # A stretch of the loop for every so many parts: its stores are larger, and
        # each of its states takes five times as long.
        if [ "$done_parts" -lt "$parts" ] && [ $((each * loops)) -ge "$done_parts" ]; then
            COREWAL_SEQUENCES=full COREWAL_SEQUENCES_PART=$done_parts/$parts step sequences "$done_parts/$parts"
        else
            last=$((loops == 0 ? 20000 : last + seeds))
            COREWAL_CRASH_FIRST=$last COREWAL_CRASH_SEEDS=$seeds step crash_loop "$last"
        fi
    done
    echo "crashes: $(looked_at) states in all (proof/campaign.tsv), 0 promises broken"
}

sweeps() {
    COREWAL_FLIPS=all "${soak[@]}" --test engine damage:: -- --nocapture
}

canary() {
    cargo test --quiet -p corewal --features planted-bugs --test canary -- --nocapture
}

kills() { scripts/filesystems.sh 1000; }
forgetful() { scripts/forgetful.sh 10m; }
power() { scripts/power-cuts.sh 4000; }

# On from where proof/fuzz.tsv ends: always the target that has had least, until
# each has had four hours.
fuzz() {
    local each=14400 round=1200 began=$SECONDS target had
    while true; do
        read -r had target < <(for target in segment run manifest directory ingest; do
            awk -F'\t' -v t="$target" '$3 == t && $6 == 0 { sum += $4 } END { print sum + 0, t }' proof/fuzz.tsv 2>/dev/null ||
                echo "0 $target"
        done | sort -n)
        [ "$had" -lt "$each" ] || break
        if [ -n "${COREWAL_SOAK_MINUTES:-}" ] && [ $((SECONDS - began)) -ge $((60 * COREWAL_SOAK_MINUTES)) ]; then
            break
        fi
        scripts/fuzz.sh "$((each - had < round ? (each - had < 600 ? 600 : each - had) : round))" "$target"
    done
    [ -e proof/fuzz.tsv ] || return 0
    awk -F'\t' 'NR > 1 { seconds[$3] += $4; inputs[$3] += $5 }
        END { for (t in seconds) print "fuzz: " t ": " seconds[t] " s, " inputs[t] " inputs" }' proof/fuzz.tsv
}

miri() { scripts/miri.sh; }

# What no test notices is listed at the end. What changes nothing is left out,
# with the reason, by .cargo/mutants.toml. The format is held by its own tests,
# which are quick; recovery and verdict by those of the engine.
mutants() {
    command -v cargo-mutants >/dev/null || cargo install cargo-mutants --locked
    cargo mutants -p corewal-format -f 'crates/format/src/**' -o target/mutants-format -- --tests
    cargo mutants -p corewal -f 'crates/corewal/src/recovery/**' -f 'crates/corewal/src/scan/verdict.rs' \
        -o target/mutants-recovery -- --lib --test engine
}

# How the loop below calls each.
if [ "${1:-}" = --one ]; then
    "$2"
    exit
fi

forms=("$@")
[ ${#forms[@]} -gt 0 ] || forms=(crashes sweeps canary kills forgetful power fuzz miri mutants)
for form in "${forms[@]}"; do
    case $form in
    crashes | sweeps | canary | kills | forgetful | power | fuzz | miri | mutants) ;;
    *) echo "there is no form '$form': see the head of $0" >&2 && exit 2 ;;
    esac
done
broken=0
for form in "${forms[@]}"; do
    printf '== %s\n' "$form"
    # In a shell of its own, where `set -e` holds though its end is asked for.
    bash "$0" --one "$form" || { echo "$form: BROKEN, or not to be had" && broken=1; }
done
exit "$broken"
