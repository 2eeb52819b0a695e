#!/bin/sh
# strata measure: all experiments, quickly, twice. The same on each of the three hosts;
# needs build/ and busybox sh. Prints TAP.
#
#   tests/guests/measure.sh [SLOW]
#   tests/guests/measure.sh --control      every check must fail for a strata that does
#                                          nothing and says so
#   tests/guests/measure.sh --giant        only what needs two free host pages of 1 GiB
#
# SLOW is a strata whose guest takes 2 ms longer for each page fault (make slow-faults):
# measuring must notice.
#
# STRATA_SLOW multiplies all time limits.
cd "$(dirname "$0")/../.." || exit 2

STRATA=${STRATA:-build/strata}
. tests/tap.sh
subject=measure shown=without_figures

# Where an experiment fails, what it says of that stands between hundreds of figures.
without_figures() { grep -vE '^ +[a-z-]+/' "$1" | head -n 60; }

[ "${1-}" != --control ] || control tests/guests/measure.sh
slow_faults=
case ${1-} in [!-]*) slow_faults=$1 ;; esac
[ -z "$slow_faults" ] || [ -x "$slow_faults" ] || { echo "Bail out! $slow_faults is not built"; exit 2; }
[ -x "$STRATA" ] || { echo "Bail out! $STRATA is not built"; exit 2; }

# Runs strata measure with the arguments; sets status.
measure() { # SECONDS ARGUMENT…
    limit=$(($1 * SLOW))
    shift
    timeout -s KILL $limit "$STRATA" measure "$@" >"$out" 2>"$err" </dev/null
    status=$?
}

refused() { # NAME PATTERN ARGUMENT…: with status 2 and one line
    name=$1 pattern=$2
    shift 2
    measure 20 "$@"
    why=
    [ "$status" -eq 2 ] || why="status $status, not 2"
    [ -n "$why" ] || grep -Eq -e "$pattern" "$err" || why="nothing matches /$pattern/"
    [ -n "$why" ] || [ "$(wc -l <"$err")" -eq 1 ] || why="not one line on standard error"
    verdict "$name" "$why"
}

# The figures of a JSON file, a line each: NAME KIND VALUE (a lack's is its reason).
figures() {
    awk -F '": ' '
        /"(error|method|meaning)": / { next }
        /"name": /  { gsub(/[",]/, "", $2); name = $2 }
        /"kind": /  { gsub(/[",]/, "", $2); kind = $2 }
        /"(p50|value|why)": / { gsub(/[",]/, "", $2); print name, kind, $2 }' "$1"
}

figure() { echo "$all" | awk -v name="$1" '$1 == name { print $2, $3 }'; }
is() { # NAME KIND-AND-VALUE
    [ -n "$why" ] || [ "$(figure "$1")" = "$2" ] || why="$1 is '$(figure "$1")', not '$2'"
}
within() { # NAME LEAST MOST
    [ -n "$why" ] || figure "$1" | awk -v least="$2" -v most="$3" \
        '{ ok = $2 != "" && $2 >= least && $2 <= most } END { exit !ok }' ||
        why="$1 is '$(figure "$1")', not $2 to $3"
}

# A check on host pages that not every host has, by what its kernel says of itself. Where it has
# none the run must say that.
lacked() { # NAME
    [ -n "$why" ] || echo "$all" | grep -q "^$1 lack " || why="no word about what this host lacks, $1"
}
on_pool() { # EXPERIMENT CHECK…: of 2 MiB, reserved
    lack=$1/host-hugetlb
    shift
    if grep -q '^HugePages_Free: *[1-9]' /proc/meminfo; then "$@"; else lacked "$lack"; fi
}
on_thp() { # EXPERIMENT CHECK…: transparent ones
    lack=$1/host-thp
    shift
    if grep -q '\[always\]\|\[madvise\]' /sys/kernel/mm/transparent_hugepage/enabled 2>/dev/null; then
        "$@"
    else
        lacked "$lack"
    fi
}

if [ "${1-}" = --giant ]; then
    measure 120 --quick --json "$work/1.json" walks
    all=$(figures "$work/1.json" 2>/dev/null)
    why=
    [ "$status" -eq 0 ] || why="status $status"
    is walks/vm/guest-4k/host-hugetlb-1g/references "count 14"
    is walks/vm/guest-2m/host-hugetlb-1g/references "count 11"
    is walks/vm/guest-1g/host-hugetlb-1g/references "count 8"
    within walks/vm/guest-1g/host-hugetlb-1g/kvm/pages_1g 1 1
    verdict "walks: references on host pages of 1 GiB" "$why"
    plan
    exit
fi

refused "an experiment that there is not" 'no experiment "wolks"; strata measure --list' wolks
refused "one of two that there is not" 'no experiment "x"' clock x
refused "a seed of nothing" '--seed 0: give a number from 1' --seed 0
refused "one that is named twice" 'clock is named twice' clock walks clock
refused "a seed that JSON has no number for" '--seed 9223372036854775808: give a number from 1' --seed 9223372036854775808
refused "a seed that is no number" '--seed 12z: give a number' --seed 12z
refused "a file that cannot be written" '--json .*/nowhere/f: .*give a file' --json "$work/nowhere/f"

refused "both outputs in one file" '--json and --html cannot both' --json "$work/f" --html "$work/f"
refused "a comparison of one" '--compare takes two files' --compare "$work/f"
refused "a comparison with what only measuring takes" '--compare measures nothing.*--quick' --quick --compare "$work/f" "$work/f"
refused "a comparison with a file that is not there" 'nowhere: No such file' --compare "$work/nowhere" "$work/f"
echo '{"schema": "strata.tour"}' >"$work/other"
refused "a comparison with something else" 'other: "schema" is not "strata.measure"' --compare "$work/other" "$work/f"
echo '{"schema": "strata.measure", "version": 2}' >"$work/other"
refused "a comparison with another version" 'other: "version" is not 1' --compare "$work/other" "$work/f"

measure 20 --list
why= names=$(awk '{ print $1 }' "$out")
[ "$status" -eq 0 ] || why="status $status"
for name in clock walks faults exits fork tables workloads; do
    echo "$names" | grep -qx "$name" || why="$name is not listed"
done
verdict "--list names the experiments" "$why"

for turn in 1 2; do
    measure 300 --quick --json "$work/$turn.json"
    why=
    [ "$status" -eq 0 ] || why="status $status"
    [ -n "$names" ] || why="no experiments"
    for name in $names; do
        grep -q "^$name: " "$out" || why="$name is not printed"
        figures "$work/$turn.json" 2>/dev/null | grep -q "^$name/" || why="$name has no figures"
    done
    verdict "--quick, run $turn: every experiment has figures" "$why"
    cp "$out" "$work/$turn.txt"
done

# What the first run's text and figures must hold.
all=$(figures "$work/1.json" 2>/dev/null)
why=
[ -n "$all" ] || why="no figures"
bad=$(echo "$all" | awk '$2 == "lack" && NF < 5 || $2 != "lack" && $3 !~ /^-?[0-9]/')
[ -z "$bad" ] || why="neither measured nor explained: $bad"
# Too few are had as easily as none, by the same remedy.
bad=$(echo "$all" | awk '$1 ~ /host-hugetlb$/ && $2 == "lack" && !/vm.nr_hugepages/')
[ -z "$bad" ] || why="nothing said of how to reserve more: $bad"
verdict "every figure is measured, or its lack explained" "$why"

why=
for turn in 1 2; do
    [ -s "$work/$turn.txt" ] || why="no text"
    [ -n "$why" ] || why=$(grep -Ew 'nan|inf' "$work/$turn.txt")
done
verdict "no number in the text that is none" "$why"

why=
twice=$(echo "$all" | awk '{ print $1 }' | sort | uniq -d)
[ -n "$all" ] || why="no figures"
[ -z "$twice" ] || why="names that are there twice: $twice"
verdict "no two figures have the same name" "$why"

why=
for turn in 1 2; do
    figures "$work/$turn.json" 2>/dev/null | awk '$2 == "count"' >"$work/$turn.counts"
done
[ -s "$work/1.counts" ] || why="no counts"
[ -n "$why" ] || why=$(diff "$work/1.counts" "$work/2.counts")
verdict "deterministic counts are the same in both runs" "$why"

# Against a bare KVM_RUN loop of the same run. What else the machine does can spoil one.
apart() { # FILE: what is more than 15 % apart, or not there
    figures "$1" 2>/dev/null | awk '
        $1 ~ /^exits\/(pio|mmio|cpuid)\/vs-bare\/ratio$/ { n++; if ($3 < 0.85 || $3 > 1.15) print $1, $3 }
        END { if (n != 3) print n + 0 " of 3 ratios" }'
}
why=$(apart "$work/1.json") tries=1
while [ -n "$why" ] && [ $tries -lt 5 ]; do
    measure 120 exits --quick --json "$work/again"
    why=$(apart "$work/again") tries=$((tries + 1))
done
verdict "exits agree with a bare loop within 15 % (tries: $tries)" "$why"

# A run against itself, and against one whose every number is doubled.
compared() { # NAME AWK-CONDITION-THAT-NO-FIGURE-MEETS FILE
    measure 20 --compare "$work/1.json" "$3" --json "$work/compared"
    why=
    [ "$status" -eq 0 ] || why="status $status"
    rows=$(awk -F '": ' '
        /"verdict": / { gsub(/[",]/, "", $2); print $2 }' "$work/compared" 2>/dev/null | sort | uniq -c)
    [ -n "$why" ] || [ -n "$rows" ] || why="no figures"
    [ -n "$why" ] || why=$(echo "$rows" | awk "$2")
    verdict "$1" "$why"
}
compared "compared with itself nothing stands out" '$2 ~ /significant|different|alone/' "$work/1.json"
awk '{ if (/"(p50|low|high|value)": [0-9]/) { split($0, at, ": "); sub(/,/, "", at[2])
       comma = /,$/ ? "," : ""; printf "%s: %s%s\n", at[1], 2 * at[2], comma } else print }' \
    "$work/1.json" >"$work/doubled" 2>/dev/null
compared "compared with twice as much, counts and intervals stand out" \
    '$2 == "noise" || $2 == "equal" { noise += $1 } $2 == "significant" || $2 == "different" { out += $1 }
     END { if (out < 2 || noise > out) print "noise " noise + 0 ", significant " out + 0 }' "$work/doubled"

measure 60 clock --quick --html "$work/page"
why=
[ "$status" -eq 0 ] || why="status $status"
for pattern in '<!DOCTYPE html>' 'clock/vm/empty-pair/ns' 'How it was measured' '</html>'; do
    grep -q "$pattern" "$work/page" 2>/dev/null || why="no $pattern in the page"
done
verdict "--html: a page with figures and method" "$why"

# References of a walk: by the pages that are forced on either side, counted by walking;
# and KVM's own counts say the same. "thp" is what the host happened to find, so only a range.
why=
backend=$(sed -n 's/^ *"kvm": "\(.*\)",/\1/p' "$work/1.json" 2>/dev/null)
case $backend in
ept | npt)
    is walks/vm/guest-4k/host-4k/references "count 24"
    is walks/vm/guest-2m/host-4k/references "count 19"
    is walks/vm/guest-1g/host-4k/references "count 14"
    on_pool walks/vm is walks/vm/guest-4k/host-hugetlb/references "count 19"
    on_pool walks/vm is walks/vm/guest-2m/host-hugetlb/references "count 15"
    on_thp walks/vm within walks/vm/guest-4k/host-thp/references 19 22
    on_thp walks/vm within walks/vm/guest-2m/host-thp/references 15 18 ;;
shadow | software)
    is walks/vm/guest-4k/host-4k/references "count 4"
    is walks/vm/guest-2m/host-4k/references "count 4"
    on_thp walks/vm within walks/vm/guest-4k/host-thp/references 4 4
    on_thp walks/vm within walks/vm/guest-2m/host-thp/references 3 4 ;;
*) why="backend '$backend'" ;;
esac
within walks/native/4k/references 4 5
within walks/native/2m/references 3 4
within walks/vm/guest-4k/host-4k/kvm/pages_4k 2048 4200
within walks/vm/guest-2m/host-4k/kvm/pages_2m 0 0
on_thp walks/vm within walks/vm/guest-2m/host-thp/kvm/pages_2m 1 10
verdict "walks: references by page sizes, and 4K on the host's side moves them" "$why"

# Which side faulted, by the guest's count and by KVM's; and that pages of 4K and of 2M on the
# host's side make the difference that their sizes say.
counted() { is "$1" "count $2"; }
why=
backend=$(sed -n 's/^ *"kvm": "\(.*\)",/\1/p' "$work/1.json" 2>/dev/null)
pages=$(echo "$all" | sed -n 's|^faults/vm/guest-4k/host-4k/sweep/pages count ||p')
pages=${pages%.0}
at=faults/vm/guest-4k/host-4k
[ "${pages:-0}" -gt 1 ] || why="no pages"
for kind in none kvm kvm+host; do counted $at/$kind/guest-faults 0; done
for kind in guest guest+kvm guest+kvm+host; do counted $at/$kind/guest-faults "$pages"; done
counted faults/vm/guest-4k/copy-on-host/guest-faults 0
counted faults/vm/guest-4k/copy-on-host/kvm-faults "$pages"
counted $at/none/kvm-faults 0
counted $at/kvm+host/kvm-faults "$pages"
case $backend in
ept | npt)
    counted $at/guest/kvm-faults 0
    for kind in kvm guest+kvm guest+kvm+host; do counted $at/$kind/kvm-faults "$pages"; done ;;
esac
verdict "faults: each on the side that it was to be, by the counts" "$why"

why=
for log in bitmap ring; do
    echo "$all" | grep -q "^$at/logged-$log/ns lack" || counted $at/logged-$log/pages-in-log "$pages"
done
at_cpus=faults/vm/guest-4k/cpus
for change in mprotect munmap; do
    counted $at_cpus-1/$change-alone/shootdowns 0
    counted $at_cpus-4/$change-alone/shootdowns 0
    counted $at_cpus-2/$change-shared/shootdowns 24
    counted $at_cpus-4/$change-shared/shootdowns 72
done
verdict "faults: all pages written are logged, all other CPUs told" "$why"

why=
counted $at/sweep/kvm-faults "$pages"
counted faults/vm/guest-2m/host-4k/sweep/kvm-faults \
    "$(echo "$all" | sed -n 's|^faults/vm/guest-2m/host-4k/sweep/pages count ||p' | cut -d. -f1)"
if echo "$all" | grep -q '^faults/vm/guest-2m/host-2m lack'; then
    echo "# the host had no 2M page: $(echo "$all" | grep '^faults/vm/guest-2m/host-2m lack')"
else
    small=$(echo "$all" | sed -n 's|^faults/vm/guest-2m/host-2m/sweep/pages count ||p' | cut -d. -f1)
    counted faults/vm/guest-2m/host-2m/sweep/kvm-faults $((${small:-0} / 512))
fi
verdict "faults: 4K forced on the host's side, 512 times as many faults" "$why"

# The least of each distribution: whatever else the machine does, that can only add.
least() { # FILE FIGURE
    awk -F '": ' -v wanted="$2" '
        /"name": / { gsub(/[",]/, "", $2); name = $2 }
        /"min": / && name == wanted { gsub(/,/, "", $2); print $2 }' "$1" 2>/dev/null
}
late() { # FIGURE: how many us later in SLOW
    awk -v slow="$(least "$work/slow.json" "$1")" -v fast="$(least "$work/fast.json" "$1")" \
        'BEGIN { if (slow == "" || fast == "") print 999999; else print int((slow - fast) / 1000) }'
}
if [ -n "$slow_faults" ]; then
    for try in 1 2 3; do
        why=
        measure 120 --quick --json "$work/fast.json" faults
        [ "$status" -eq 0 ] || why="status $status"
        fast=$STRATA STRATA=$slow_faults
        measure 120 --quick --json "$work/slow.json" faults
        STRATA=$fast
        [ "$status" -eq 0 ] || why="status $status"
        for kind in guest guest+kvm guest+kvm+host; do
            by=$(late $at/$kind/ns)
            [ "$by" -ge 1800 ] && [ "$by" -le 2200 ] || why="$why $kind: $by us instead of 2000;"
        done
        for kind in none kvm kvm+host; do
            by=$(late $at/$kind/ns)
            [ "$by" -ge -200 ] && [ "$by" -le 200 ] || why="$why $kind: $by us instead of none;"
        done
        [ -n "$why" ] || break
    done
    verdict "faults: 2 ms more in the guest's page faults are found there, within 10 %" "$why"
fi

# Tables: those that walking finds are those that arithmetic asks for; what the second stage
# takes goes with the host's pages, and grows when they come apart.
why=
is tables/limit/4k/bytes-per-gib "count $((2 * 1024 * 1024 + 4096))"
is tables/limit/2m/bytes-per-gib "count 4096"
is tables/limit/1g/bytes-per-gib "count 8"
for range in guest-4k guest-2m apart/one-4k-in-2m; do
    is tables/$range/guest/tables "$(figure tables/$range/guest/tables-by-arithmetic)"
    within tables/$range/guest/tables 2 16
done
pages=1024
case $backend in
ept | npt)
    pages=4096
    within tables/guest-4k/host-4k/second-stage/bytes 32768 57344
    within tables/guest-2m/host-4k/second-stage/bytes 32768 57344
    on_pool tables within tables/guest-2m/host-hugetlb/second-stage/bytes 0 12288
    on_pool tables within tables/guest-4k/host-hugetlb/second-stage/bytes 0 12288
    # All of the machine's memory is logged, not only the range.
    on_thp tables within tables/apart/guest-2m/host-thp-dirty-logged/second-stage/bytes 32768 262144
    on_thp tables within tables/apart/guest-2m/host-thp-less-a-4k/second-stage/bytes 0 57344 ;;
esac
within tables/guest-4k/host-4k/kvm/pages_4k $pages $((pages + 100))
within tables/guest-2m/host-4k/kvm/pages_2m 0 0
on_thp tables within tables/guest-2m/host-thp/kvm/pages_2m $((pages / 512)) $((pages / 512 + 2))
on_thp tables within tables/apart/guest-2m/host-thp-dirty-logged/kvm/pages_4k $pages $((8 * pages))
on_thp tables within tables/apart/guest-2m/host-thp-less-a-4k/kvm/pages_4k $pages $((pages + 100))
verdict "tables: as many as arithmetic asks for, by pages on both sides" "$why"

# The two-dimensional walk is EPT's and NPT's alone.
why=
backend=$(sed -n 's/^ *"kvm": "\(.*\)",/\1/p' "$work/1.json" 2>/dev/null)
case $backend in
ept | npt) grep -q '^strata measure.*: two-dimensional walks' "$work/1.txt" || why="does not say so" ;;
shadow | software)
    ! grep -i 'two-dimension\|2-D' "$work/1.txt" "$work/1.json" >/dev/null || why="calls it two-dimensional" ;;
*) why="backend '$backend'" ;;
esac
verdict "backend ${backend:-?}: what its walks are" "$why"

plan
