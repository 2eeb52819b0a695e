#!/bin/sh
# The shipped policies, attacked. Prints TAP, exits 1 if a test failed. Needs build/,
# dtc, busybox sh and its applets, no more.
#
#   tests/policies/run.sh [GROUP…]
#   tests/policies/run.sh faults BUILD…
#
# Groups:
#     misuse     wrong usage and broken policies: one line, status 2
#     policies   each is as it promises; weak ones leak what they are there for
#     classes    every class of attack succeeds under one policy and is stopped by another
#     edit       one permission changed changes the cells it should, and no others
#     mixed      what no shipped policy combines
#     random     random requests while the guest maps and unmaps
#     faults     a VMM with a seeded bug is found out, every one of the builds named
#                (make faults: build/fault/*/strata)
#     quick      four policies only, for slow hosts
#     control    all tests must fail for a strata that does nothing and says all is well
#
# Without a group: misuse, policies, classes, edit, mixed, random. STRATA_SLOW multiplies all time limits.
cd "$(dirname "$0")/../.." || exit 2

STRATA=${STRATA:-build/strata}
. tests/tap.sh
out=$work/out err=$work/told shown='head -n 20'

# What each weak policy shows: POLICY ATTACK…. The others show nothing at all.
WEAK='aliases alias
ats-trusted ats
boot-bypass pre-init
bounce-metadata bounce-metadata permission
bounce-pool permission
domain-per-device kernel-pointer co-location
identity probe-scan kernel-pointer co-location deferred-invalidate stale-pointer shared-map
identity-hole identity-hole
lazy deferred-invalidate kernel-pointer co-location
msi-open msi-spoof
naive-queue descriptor-loop descriptor-toctou
no-pin unpinned
no-quota exhaustion
off probe-scan kernel-pointer co-location alias withheld-completion shared-map permission
peer peer
permission-rw kernel-pointer co-location
permission-unchecked permission
requester-trusted requester-spoof
shared-domain shared-map
strict kernel-pointer co-location
trusting-driver used-ring
withheld withheld-completion
wrap arithmetic'

# Attacks a policy; sets status. The cells go to a file, one to a line, without numbers:
# "DEVICE: ATTACK of TARGET: what came of it".
attack() { # POLICY.dts CELLS OPTION…
    dts=$1 cells=$2
    shift 2
    timeout -s KILL $((120 * SLOW)) "$STRATA" dma test --tap "$@" "$dts" \
        >"$work/tap" 2>"$work/said" </dev/null
    status=$?
    cat "$work/tap" "$work/said" | grep -v '^ok' >"$err"
    sed -nE 's/^(not )?ok [0-9]+ - [^:]*: //p' "$work/tap" | sort >"$cells"
    # A run that ended early must not look like a small matrix.
    planned=$(sed -n 's/^1\.\.//p' "$work/tap")
    [ "${planned:-0}" = "$(grep -cE '^(not )?ok ' "$work/tap")" ] && [ "${planned:-0}" -gt 1 ] ||
        status="$status, no whole matrix"
}

# The cells of a policy, attacked once.
cells_of() { # NAME
    [ -e "$work/$1.cells" ] && { status=$(cat "$work/$1.status"); return; }
    attack "tests/policies/$1.dts" "$work/$1.cells"
    echo "$status" >"$work/$1.status"
}

names() {
    for dts in tests/policies/*.dts; do
        dts=${dts##*/}
        echo "${dts%.dts}"
    done
}

one_policy() { # NAME
    cells_of "$1"
    verdict "policy $1: $(wc -l <"$work/$1.cells") cells are as promised" \
        "$([ "$status" = 0 ] || echo "exit status $status, should be 0")"
    leaks=$(echo "$WEAK" | sed -n "s/^$1 //p")
    if [ -z "$leaks" ]; then
        why=$(grep -m 1 'succeeds' "$work/$1.cells")
        verdict "policy $1 lets nothing through" "${why:-$([ -s "$work/$1.cells" ] || echo "no cells")}"
        return
    fi
    why=
    for class in $leaks; do
        grep -q ": $class of .*: succeeds" "$work/$1.cells" || why="$why $class does not succeed;"
    done
    verdict "policy $1 lets through: $leaks" "$why"
}

group_policies() {
    for name in $(names); do
        one_policy "$name"
    done
    why=$(echo "$WEAK" | while read -r name rest; do
        [ -e "tests/policies/$name.dts" ] || echo "there is no $name.dts"
    done)
    verdict "every weak policy is there" "$why"
}

# Status 2, nothing on standard output, one line that matches.
misuse() { # NAME PATTERN ARGUMENT…
    name=$1 pattern=$2
    shift 2
    timeout -s KILL $((limit * SLOW)) "$STRATA" "$@" >"$out" 2>"$err" </dev/null
    status=$? why=
    [ $status -eq 2 ] || why="exit status $status, should be 2; "
    [ ! -s "$out" ] || why="${why}there is something on stdout; "
    [ "$(wc -l <"$err")" -eq 1 ] || why="${why}not one line on stderr; "
    grep -qE -e "$pattern" "$err" || why="${why}stderr does not match /$pattern/"
    verdict "$name" "$why"
}

group_misuse() {
    strict=tests/policies/strict.dts
    misuse "dma alone" "dma test POLICY" dma
    misuse "dma with something unknown" "frob" dma frob
    misuse "no policy" "give a policy" dma test
    misuse "two policies" "give one policy" dma test $strict $strict
    misuse "a policy that is not there" "nowhere.dts: No such file" dma test nowhere.dts
    misuse "a directory for a policy" "not a regular file" dma test tests
    misuse "an unknown attack" "no attack \"frob\"" dma test --attack frob $strict
    misuse "a seed that is no number" "--seed soon" dma test --seed soon $strict
    misuse "a seed that JSON cannot tell" "below 2.63" dma test --seed 0x8000000000000000 $strict
    misuse "a time that is none" "--random ever" dma test --random ever $strict
    misuse "a time of nothing" "--random 0" dma test --random 0 $strict
    misuse "both results to one place" "cannot both" dma test --json - --html - $strict
    misuse "a result that cannot be written" "--html /nowhere/x" dma test --html /nowhere/x $strict
    misuse "a page of no attacks" "leave it out, or --check-only" dma test --check-only --html "$work/x" $strict
    misuse "an attack that is not made" "leave it out, or --check-only" dma test --check-only --attack ats $strict
    misuse "tests that are none" "leave it out, or --check-only" dma test --check-only --tap $strict
    for dts in tests/policies/broken/*.dts; do
        line=$(sed -nE '1s/^[^0-9]*([0-9]+): .*/\1/p' "$dts")
        misuse "broken policy ${dts##*/}" "^strata dma test: $dts:$line: .*; " dma test "$dts"
    done
}

group_quick() {
    one_policy off
    one_policy lazy
    one_policy shared-domain
    one_policy page-exclusive
}

group_classes() {
    for name in $(names); do
        cells_of "$name"
    done
    "$STRATA" dma test --list | sed 's/ .*//' >"$work/classes"
    verdict "22 classes of attack" "$([ "$(wc -l <"$work/classes")" -eq 22 ] || wc -l <"$work/classes")"
    while read -r class; do
        leaks= stops=
        for name in $(names); do
            [ "$(cat "$work/$name.status")" = 0 ] || continue
            ! grep -q ": $class of .*: succeeds" "$work/$name.cells" || leaks=${leaks:-$name}
            ! grep -q ": $class of .*: stopped" "$work/$name.cells" || stops=${stops:-$name}
        done
        why=
        [ -n "$leaks" ] || why="no policy lets it succeed; "
        [ -n "$stops" ] || why="${why}no policy stops it"
        verdict "$class succeeds under ${leaks:-none}, is stopped by ${stops:-none}" "$why"
    done <"$work/classes"
}

# Changes one thing in a policy; the cells that are then others, without what came of
# them, must be exactly those given, one to a line.
one_edit() { # NAME SED-COMMAND CELLS
    sed "$2" "tests/policies/$1.dts" >"$work/edited.dts"
    why=
    cmp -s "tests/policies/$1.dts" "$work/edited.dts" && why="the edit changes nothing in the source; "
    cells_of "$1"
    [ "$status" = 0 ] || why="$why$1: status $status; "
    attack "$work/edited.dts" "$work/edited.cells"
    [ "$status" = 0 ] || why="${why}edited: status $status; "
    sort "$work/$1.cells" "$work/edited.cells" | uniq -u | sed 's/: [^:]*$//' | sort -u >"$work/changed"
    printf '%s' "${3:+$3
}" | sort | cmp -s - "$work/changed" || why="${why}other cells changed than should"
    { echo "changed:"; cat "$work/changed"; } >"$err"
    verdict "edit of $1: $2" "$why"
}

group_edit() {
    # The card may read what it was only to fill: reading that is no attack any more.
    one_edit strict 's/strata,permission = "w", "r"/strata,permission = "rw", "r"/' \
        'nic: permission of net-rx'
    # It may write what it was only to send.
    one_edit strict 's/strata,permission = "w", "r"/strata,permission = "w", "rw"/' \
        'nic: permission of net-tx'
    # The dongle may only read: now it can be caught writing.
    one_edit page-exclusive '/&dongle_data>/,/};/s/strata,permission = "rw"/strata,permission = "r"/' \
        'dongle: permission of dongle-data'
    # And when nothing changes, nothing changes.
    one_edit page-exclusive 's/^};/\/* the same *\/ &/' ''
}

group_mixed() {
    for dts in tests/policies/mixed/*.dts; do
        attack "$dts" "$work/mixed.cells"
        verdict "policy $dts: $(wc -l <"$work/mixed.cells") cells are as promised" \
            "$([ "$status" = 0 ] || echo "exit status $status, should be 0")"
    done
}

group_random() {
    for name in off page-exclusive lazy shared-domain bounce-pool quarantine; do
        # How many it does in a time is the machine's business; these are to be done.
        for seconds in 3 12 48; do
            attack "tests/policies/$name.dts" "$work/random.cells" --attack ats --random ${seconds}s --seed 1
            did=$(sed -n 's/^ok .* \([0-9]*\) random accesses.*/\1/p' "$work/tap")
            [ "$status" = 0 ] && [ "${did:-0}" -lt 500 ] || break
        done
        why=$([ "$status" = 0 ] || echo "exit status $status, should be 0; ")
        verdict "random requests under $name: $did, all as promised" \
            "$why$([ "${did:-0}" -ge 500 ] || echo "only ${did:-none} in $seconds s")"
    done
}

# Where each seeded bug is looked for; under page-exclusive unless said here.
fault_policy() { # FAULT
    case $1 in
    no-bypass-check) echo deny-at-boot ;;
    skip-permission | no-pin) echo strict ;;
    wrap) echo identity ;;
    *) echo page-exclusive ;;
    esac
}

group_faults() {
    sound=$STRATA
    verdict "at least eight bugs to seed" "$([ $# -ge 8 ] || echo "builds: $*")"
    for build; do
        fault=${build%/strata} fault=${fault##*/}
        [ -x "$build" ] || {
            verdict "seeded bug $fault" "$build is not built"
            continue
        }
        name=$(fault_policy "$fault")
        cells_of "$name"
        why=$([ "$status" = 0 ] || echo "$name fails without it too; ")
        STRATA=$build
        attack "tests/policies/$name.dts" "$work/fault.cells"
        STRATA=$sound
        # By a cell that differs; a VMM that falls over would not be what is meant.
        [ "$status" = 1 ] || why="${why}status $status, should be 1; "
        grep -q '^not ok' "$work/tap" || why="${why}no cell differs"
        verdict "seeded bug $fault is found out: $(sed -nE 's/^not ok [0-9]+ - //p' "$work/tap" | head -n 1)" "$why"
    done
}

group_control() {
    printf '#!/bin/sh\necho 1..0\nexit 0\n' >"$work/nothing"
    chmod +x "$work/nothing"
    STRATA=$work/nothing sh tests/policies/run.sh policies classes edit mixed random >"$work/control"
    grep -E '^ok .*' "$work/control" | grep -v 'every weak policy is there' >"$err"
    verdict "a strata that does nothing fails $(grep -c '^not ok' "$work/control") tests" \
        "$([ ! -s "$err" ] || echo "but passes: $(head -n 1 "$err")")"
}

[ "${1-}" != faults ] || { shift; group_faults "$@"; plan; exit; }
[ $# -gt 0 ] || set -- misuse policies classes edit mixed random
for group; do
    case $group in
    misuse | policies | classes | edit | mixed | random | quick | control) "group_$group" ;;
    *) echo "run.sh: no group '$group'" >&2; exit 2 ;;
    esac
done
plan
