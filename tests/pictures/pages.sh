#!/bin/sh
# Makes a page of each command that has --html, and what inspect says of the same machine,
# for tests/pictures/check.py to look at.
#
#   tests/pictures/pages.sh [--inspect] FOLDER     --inspect: only make that of inspect
#
# Needs a working /dev/kvm, build/, dtc, gnuplot, busybox sh and its applets, no more.
cd "$(dirname "$0")/../.." || exit 2

STRATA=${STRATA:-build/strata}
[ -x "$STRATA" ] || { echo "Bail out! $STRATA is not built"; exit 2; }
SLOW=${STRATA_SLOW:-1}
only=
[ "${1-}" != --inspect ] || { only=inspect; shift; }
work=${1:?no FOLDER}
mkdir -p "$work" || exit 2
pid=
trap '[ -z "$pid" ] || kill "$pid" 2>/dev/null' EXIT
trap 'exit 2' INT TERM
fail() { echo "Bail out! $1"; exit 2; }

# A machine with processes that share memory and one that does not.
rm -f "$work/in" "$work/sock"
mkfifo "$work/in" || exit 2
"$STRATA" run --iommu strict --rng --control "$work/sock" <"$work/in" >"$work/console" 2>"$work/stderr" &
pid=$!
exec 8>"$work/in"
echo 'run shared-memory 2000000000 &' >&8
echo 'spin 2000000000 &' >&8
# Until both work, and share what they do.
i=0
until [ "$(grep -c started "$work/console")" -ge 2 ] &&
    "$STRATA" inspect "$work/sock" shared 2>/dev/null | grep -q ' rw, pid [0-9]* shared-memory at .* rw'; do
    i=$((i + 1))
    [ $i -lt $((1200 * SLOW)) ] && kill -0 "$pid" || fail "the guest's programs do not start"
    sleep 0.1
done
look() { "$STRATA" inspect "$work/sock" "$@" >/dev/null || fail "strata inspect $*"; }
# All that is looked at must be of one state: a program may still be touching its first pages.
i=0
until
    look maps --json "$work/maps.json"
    look shared --json "$work/shared.json"
    look pages --json "$work/pages.json"
    look --html "$work/inspect.html" --json "$work/report.json"
    for what in maps pages; do
        look $what --json "$work/after"
        grep -v pause_ns "$work/after" >"$work/$what.after"
    done
    rm "$work/after"
    grep -v pause_ns "$work/maps.json" | cmp -s - "$work/maps.after" &&
        grep -v pause_ns "$work/pages.json" | cmp -s - "$work/pages.after"
do
    i=$((i + 1))
    [ $i -lt $((100 * SLOW)) ] || fail "the guest's memory does not come to rest"
    sleep 0.1
done
rm "$work/maps.after" "$work/pages.after"
kill "$pid"
wait "$pid" 2>/dev/null
pid=
exec 8>&-
rm -f "$work/in"
[ -z "$only" ] || exit 0

"$STRATA" tour --html "$work/tour.html" --json "$work/tour.json" fork-cow demand-paging >/dev/null ||
    fail "strata tour --html"
"$STRATA" dma test --html "$work/dma.html" --json "$work/dma.json" \
    --attack probe-scan --attack kernel-pointer --attack deferred-invalidate tests/policies/strict.dts >/dev/null ||
    fail "strata dma test --html"
"$STRATA" measure --quick clock --html "$work/measure.html" --json "$work/measure.json" >/dev/null ||
    fail "strata measure --html"
"$STRATA" measure --compare "$work/measure.json" "$work/measure.json" --html "$work/compare.html" \
    --json "$work/compare.json" >/dev/null || fail "strata measure --compare --html"
